"""worker: does not match binding type"""

import azure.functions as func

app = func.FunctionApp()


@app.route("x", auth_level=func.AuthLevel.FUNCTION)
def handler(req: func.HttpRequest) -> dict: ...
