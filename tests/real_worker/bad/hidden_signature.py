"""worker: declared in Python but not in the function definition"""

from collections.abc import Callable

import azure.functions as func

app = func.FunctionApp()


def checked(handler: Callable) -> Callable:
    def run(*args: object, **kwargs: object) -> func.HttpResponse:
        return handler(*args, **kwargs)

    return run  # without functools.wraps


@app.route("x", auth_level=func.AuthLevel.FUNCTION)
@checked
def handler(req: func.HttpRequest) -> func.HttpResponse: ...
