"""A function that takes its time."""

import time

import azure.functions as func

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)


@app.route("slow")
def slow(req: func.HttpRequest) -> func.HttpResponse:
    time.sleep(1.5)
    return func.HttpResponse("done")
