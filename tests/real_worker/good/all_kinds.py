"""Every kind of function, with no rule broken: the rules must not cry wolf."""

import typing

import azure.functions as func

app = func.FunctionApp()
blueprint = func.Blueprint()


@app.route("open/{name:int}", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
def get_open(req: func.HttpRequest) -> func.HttpResponse: ...


@app.route("open/{name:int}", methods=["PUT"], auth_level=func.AuthLevel.FUNCTION)
async def put_open(req: func.HttpRequest, context: func.Context) -> func.HttpResponse: ...


@app.function_name("sync-job_2")
@app.queue_trigger("message", "sync-1", connection="STORAGE")
@app.queue_output("jobs", "jobs", connection="STORAGE")
def sync(message: func.QueueMessage, jobs: func.Out[typing.List[str]]) -> None: ...  # noqa: UP006 - the worker refuses list[str]


@blueprint.timer_trigger("timer", "0 */5 8-18 * * mon-fri")
@blueprint.retry(strategy="exponential_backoff", max_retry_count="3", minimum_interval="00:00:05")
def often(timer: func.TimerRequest) -> None: ...


@blueprint.schedule(schedule="0 0 3 * * *", arg_name="timer")
def nightly(timer: func.TimerRequest) -> None: ...


app.register_functions(blueprint)
