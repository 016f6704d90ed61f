"""worker: declared in Python but not in the function definition"""

import azure.functions as func

app = func.FunctionApp()


@app.route("x", auth_level=func.AuthLevel.FUNCTION)
def handler(req: func.HttpRequest, store: object) -> func.HttpResponse: ...
