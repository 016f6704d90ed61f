"""host: the queue output 'jobs' is no func.Out[typing.List[str]]"""

import azure.functions as func

app = func.FunctionApp()


@app.route("x", auth_level=func.AuthLevel.FUNCTION)
@app.queue_output("jobs", "jobs", connection="STORAGE")
def handler(req: func.HttpRequest, jobs: func.Out[str]) -> func.HttpResponse:
    jobs.set('["one message", "that becomes two"]')
    return func.HttpResponse()
