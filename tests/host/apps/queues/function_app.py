"""Queue triggers and outputs; every queue name carries %PREFIX%, so that tests do not meet."""

import json
import time
import typing

import azure.functions as func

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
blueprint = func.Blueprint()


@blueprint.queue_trigger("message", "%PREFIX%-work", connection="STORE")
@blueprint.queue_output("done", "%PREFIX%-done", connection="STORE")
def work(message: func.QueueMessage, done: func.Out[typing.List[str]]) -> None:  # noqa: UP006 - the worker refuses list[str]
    body = message.get_body().decode()
    if body == "fail":
        raise RuntimeError("as asked")
    if body == "slow":
        time.sleep(2)
    times = [message.insertion_time, message.expiration_time, message.time_next_visible]
    seen = {
        "body": body,
        "count": message.dequeue_count,
        "id": message.id,
        "utc": all(t.tzinfo for t in times),
    }
    done.set([json.dumps(seen), "second"])


@blueprint.queue_trigger("message", "%PREFIX%-lonely-poison", connection="STORE")
def lonely(message: func.QueueMessage) -> None:
    raise RuntimeError("there is no poison queue of a poison queue")


@blueprint.route("put", methods=["POST"])
@blueprint.queue_output("out", "%PREFIX%-out", connection="STORE")
def put(req: func.HttpRequest, out: func.Out[str]) -> func.HttpResponse:
    body = req.get_json()
    out.set(body)
    return func.HttpResponse("put")


@blueprint.route("fails-after-set", methods=["POST"])
@blueprint.queue_output("out", "%PREFIX%-out", connection="STORE")
def fails_after_set(req: func.HttpRequest, out: func.Out[str]) -> func.HttpResponse:
    out.set("never written")
    raise RuntimeError("after the output was set")


@blueprint.route("slow", methods=["GET"])
def slow(req: func.HttpRequest) -> func.HttpResponse:
    time.sleep(2)
    return func.HttpResponse("done")


app.register_functions(blueprint)
