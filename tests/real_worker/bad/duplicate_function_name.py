"""worker: does not have a unique function name"""

import azure.functions as func

app = func.FunctionApp()


@app.function_name("same")
@app.route("one", auth_level=func.AuthLevel.FUNCTION)
def one(req: func.HttpRequest) -> func.HttpResponse: ...


@app.function_name("same")
@app.route("two", auth_level=func.AuthLevel.FUNCTION)
def two(req: func.HttpRequest) -> func.HttpResponse: ...
