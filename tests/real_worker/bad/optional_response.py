"""worker: has invalid non-type return annotation"""

import azure.functions as func

app = func.FunctionApp()


@app.route("x", auth_level=func.AuthLevel.FUNCTION)
def handler(req: func.HttpRequest) -> func.HttpResponse | None: ...
