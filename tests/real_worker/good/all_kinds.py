"""Every kind of function, with no rule broken: the rules must not cry wolf, and each must run."""

import json
import typing

import azure.functions as func

app = func.FunctionApp()
blueprint = func.Blueprint()


@app.route("open/{name:int}", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
def get_open(req: func.HttpRequest) -> func.HttpResponse:
    response = func.HttpResponse()
    response.headers.add("Set-Cookie", "a=1")
    response.headers.add("Set-Cookie", "b=2")
    return response


@app.route("open/{name:int}", methods=["PUT"], auth_level=func.AuthLevel.FUNCTION)
async def put_open(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    told = [req.method, req.headers["Host"], dict(req.route_params), dict(req.params)]
    told.append(req.get_body().decode())
    return func.HttpResponse(json.dumps(told), status_code=201, headers={"Location": context.function_name})


@app.function_name("sync-job_2")
@app.queue_trigger("message", "sync-1", connection="STORAGE")
@app.queue_output("jobs", "jobs", connection="STORAGE")
def sync(message: func.QueueMessage, jobs: func.Out[typing.List[str]]) -> None:  # noqa: UP006 - the worker refuses list[str]
    jobs.set([message.get_body().decode(), f"attempt {message.dequeue_count}"])


@blueprint.timer_trigger("timer", "0 */5 8-18 * * mon-fri")
@blueprint.retry(strategy="exponential_backoff", max_retry_count="3", minimum_interval="00:00:05")
def often(timer: func.TimerRequest) -> None:
    if timer.past_due:
        raise TimeoutError


@blueprint.schedule(schedule="0 0 3 * * *", arg_name="timer")
def nightly(timer: func.TimerRequest) -> None: ...


app.register_functions(blueprint)
