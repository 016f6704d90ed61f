"""worker: declared as bindings but are not present in Python"""

import azure.functions as func

app = func.FunctionApp()


@app.route("x", auth_level=func.AuthLevel.FUNCTION)
@app.queue_output("jobs", "jobs", connection="STORAGE")
def handler(req: func.HttpRequest) -> func.HttpResponse: ...
