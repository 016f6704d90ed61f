"""host: handler does not say that it returns func.HttpResponse"""

import azure.functions as func

app = func.FunctionApp()


@app.route("x", auth_level=func.AuthLevel.FUNCTION)
def handler(req: func.HttpRequest):
    return {"answer": 42}
