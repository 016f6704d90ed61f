"""host: 'Host' is no function name"""

import azure.functions as func

app = func.FunctionApp()


@app.function_name("Host")
@app.route("x", auth_level=func.AuthLevel.FUNCTION)
def handler(req: func.HttpRequest) -> func.HttpResponse: ...
