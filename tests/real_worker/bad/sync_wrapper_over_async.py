"""host: handler is async behind a wrapper that is not"""

import functools
from collections.abc import Callable

import azure.functions as func

app = func.FunctionApp()


def checked(handler: Callable) -> Callable:
    @functools.wraps(handler)
    def run(req: func.HttpRequest) -> func.HttpResponse:
        return handler(req)

    return run


@app.route("x", auth_level=func.AuthLevel.FUNCTION)
@checked
async def handler(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse()
