"""host: the binding name 'jobs' is used 2 times"""

# ruff: noqa: N803 - the capital is the point

import typing

import azure.functions as func

app = func.FunctionApp()


@app.route("x", auth_level=func.AuthLevel.FUNCTION)
@app.queue_output("jobs", "one", connection="STORAGE")
@app.queue_output("JOBS", "two", connection="STORAGE")
def handler(
    req: func.HttpRequest,
    jobs: func.Out[typing.List[str]],  # noqa: UP006 - the worker refuses list[str]
    JOBS: func.Out[typing.List[str]],  # noqa: UP006 - the same
) -> func.HttpResponse: ...
