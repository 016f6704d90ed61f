"""Echoes what reaches a function over HTTP."""

import json
import logging
import os

import azure.functions as func

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
log = logging.getLogger("zalion")


def echo(req: func.HttpRequest, route: str) -> func.HttpResponse:
    seen = {
        "route": route,
        "method": req.method,
        "url": req.url,
        "headers": dict(req.headers),
        "query": dict(req.params),
        "params": dict(req.route_params),
        "body": req.get_body().decode(),
    }
    return func.HttpResponse(json.dumps(seen), mimetype="application/json")


@app.route("echo", methods=["GET", "POST"])
async def echo_plain(req: func.HttpRequest) -> func.HttpResponse:
    return echo(req, "echo")


@app.route("items/{name}", methods=["GET"])
def any_item(req: func.HttpRequest) -> func.HttpResponse:
    return echo(req, "items/{name}")


@app.route("items/{number:int}", methods=["GET"])
def numbered_item(req: func.HttpRequest) -> func.HttpResponse:
    return echo(req, "items/{number:int}")


@app.route("items/special", methods=["GET"])
def special_item(req: func.HttpRequest) -> func.HttpResponse:
    return echo(req, "items/special")


@app.route("items/{name}", methods=["DELETE"])
def delete_item(req: func.HttpRequest) -> func.HttpResponse:
    return echo(req, "DELETE items/{name}")


@app.route("pages/{page?}")
def pages(req: func.HttpRequest) -> func.HttpResponse:
    return echo(req, "pages/{page?}")


@app.route("files/{*rest}")
def files(req: func.HttpRequest) -> func.HttpResponse:
    return echo(req, "files/{*rest}")


@app.route("cookies")
def cookies(req: func.HttpRequest) -> func.HttpResponse:
    answer = func.HttpResponse(b"\x00\xff", status_code=201, headers={"X-Own": "function"})
    answer.headers.add("Set-Cookie", "a=1; Path=/; HttpOnly")
    answer.headers.add("Set-Cookie", "b=2; SameSite=Lax")
    return answer


@app.route("nothing")
def nothing(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse(status_code=204)


@app.route("text")
def text(req: func.HttpRequest) -> str:
    return "grüße"


@app.route("fails")
def fails(req: func.HttpRequest) -> func.HttpResponse:
    raise RuntimeError("a bug")


@app.route("returns-a-dict")
def returns_a_dict(req: func.HttpRequest):
    return {"no": "response"}


@app.route("settings")
def settings(req: func.HttpRequest) -> func.HttpResponse:
    log.info('{"message": "already JSON"}')
    return func.HttpResponse(json.dumps({name: os.environ.get(name) for name in ("GREETING", "OVERRIDDEN")}))


@app.route("protected", auth_level=func.AuthLevel.FUNCTION)
def protected(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse("in")
