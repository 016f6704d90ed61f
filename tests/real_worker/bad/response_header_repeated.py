"""host: of two with one name only the last arrives"""

import azure.functions as func

app = func.FunctionApp()


@app.route("x", auth_level=func.AuthLevel.FUNCTION)
def handler(req: func.HttpRequest) -> func.HttpResponse:
    response = func.HttpResponse(headers={"Link": "</one>; rel=next"})
    response.headers.add("Link", "</two>; rel=last")
    return response
