"""host: Route '/cases/{id': '{id' cannot be read"""

import azure.functions as func

app = func.FunctionApp()


@app.route("cases/{id", auth_level=func.AuthLevel.FUNCTION)
def handler(req: func.HttpRequest) -> func.HttpResponse: ...
