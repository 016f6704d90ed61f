"""host: two has the route and a method of one"""

import azure.functions as func

app = func.FunctionApp()


@app.route("cases/{id}", methods=["GET", "PUT"], auth_level=func.AuthLevel.FUNCTION)
def one(req: func.HttpRequest) -> func.HttpResponse: ...


@app.route("Cases/{caseId}", methods=["PUT"], auth_level=func.AuthLevel.FUNCTION)
def two(req: func.HttpRequest) -> func.HttpResponse: ...
