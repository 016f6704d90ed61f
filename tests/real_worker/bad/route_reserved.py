"""host: Route 'administrators' of handler is reserved"""

import azure.functions as func

app = func.FunctionApp()


@app.route("administrators", auth_level=func.AuthLevel.FUNCTION)
def handler(req: func.HttpRequest) -> func.HttpResponse: ...
