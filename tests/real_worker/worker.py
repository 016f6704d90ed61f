"""The real worker, in a process of its own for each app, because an app is global state."""

import asyncio
import inspect
import json
import os
import subprocess
import sys
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qsl, urlsplit

import azure_functions_runtime as runtime

from sandbox.host import worker
from sandbox.host.worker import Function, IndexingError

ROOT = Path(__file__).parents[2]

Fields = Mapping[str, typing.Any]


@dataclass(frozen=True)
class Signature:
    """How the Python function is written: its annotations as text ("return" among them)."""

    hints: Mapping[str, str]
    hides_a_coroutine: bool
    """It is no coroutine function, but wraps one: the worker runs it as a sync function."""


@dataclass(frozen=True)
class Call:
    """One invocation as the host asks for it: the trigger's data and metadata, each a field of TypedData."""

    function: str
    data: Fields
    metadata: Mapping[str, Fields] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What the worker says of one invocation."""

    failure: str | None
    returned: typing.Any = None
    outputs: Fields = field(default_factory=dict)
    """The value of each output, as the TypedData field that it is sent in."""


@dataclass(frozen=True)
class Indexed:
    """What the worker says of an app: its functions, or why Azure would show none at all."""

    functions: tuple[Function, ...] = ()
    failure: str | None = None
    signatures: Mapping[str, Signature] = field(default_factory=dict)
    answers: tuple[Answer, ...] = ()
    log: str = ""


def http(function: str, method: str, url: str, body: str = "", **params: str) -> Call:
    """Make a request as the host passes it on: `params` are those of the route."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))  # drops empty values, as Azure does
    request = {"method": method, "url": url, "headers": {"host": parts.netloc}, "query": query}
    return Call(function, {"http": {**request, "params": params, "body": body}})


def message(function: str, text: str) -> Call:
    """Make a queue message as the host passes it on: numbers and times of its metadata are JSON."""
    times = ("InsertionTime", "ExpirationTime", "NextVisibleTime")
    known = {"Id": {"string": "8f3c"}, "PopReceipt": {"string": "AgAAAA"}, "DequeueCount": {"json": "1"}}
    return Call(
        function, {"string": text}, known | {name: {"json": '"2026-11-01T10:00:00+00:00"'} for name in times}
    )


def moment(function: str, *, late: bool = False) -> Call:
    """Make what a timer's function gets at its first run."""
    state = {"Schedule": {"AdjustForDST": True}, "ScheduleStatus": None, "IsPastDue": late}
    return Call(function, {"json": json.dumps(state)})


def index(app: Path, environment: Mapping[str, str] | None = None, calls: Sequence[Call] = ()) -> Indexed:
    """Let the worker index one app file (usually function_app.py), and run these calls one after another."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.real_worker.worker", str(app.parent)],
        cwd=ROOT,
        env={**os.environ, "PYTHON_SCRIPT_FILE_NAME": app.name, **(environment or {})},
        input=json.dumps([asdict(call) for call in calls]),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    answer = json.loads(run.stdout.splitlines()[-1])
    functions = tuple(
        Function(one["id"], one["name"], tuple(one["bindings"]), one["retry"]) for one in answer["functions"]
    )
    signatures = {name: Signature(**one) for name, one in answer["signatures"].items()}
    answers = tuple(Answer(**one) for one in answer["answers"])
    return Indexed(functions, answer["failure"], signatures, answers, run.stderr)


async def _main(folder: Path) -> None:
    functions: tuple[Function, ...] = ()
    failure = None
    calls = [Call(**one) for one in json.load(sys.stdin)]
    try:
        functions = await worker.index(folder)
    except IndexingError as error:
        failure = str(error)
    found = Indexed(
        functions,
        failure,
        {function.name: _signature(function) for function in functions},
        tuple([await _invoke(functions, call) for call in calls if failure is None]),
    )
    print(json.dumps(asdict(found)))


def _signature(function: Function) -> Signature:
    """Ask the worker's registry for the Python function: raw bindings do not show how it is written."""
    code = runtime.handle_event._functions.get_function(function.id).func
    hints = {name: str(hint) for name, hint in typing.get_type_hints(code).items()}
    inner = inspect.unwrap(code)
    return Signature(hints, inspect.iscoroutinefunction(inner) and not inspect.iscoroutinefunction(code))


class _Typed(SimpleNamespace):
    """TypedData, or an input's binding: the one field that is set."""

    def WhichOneof(self, _: str) -> str | None:  # noqa: N802 - protobuf's name
        return next((name for name in vars(self) if name != "name"), None)


def _typed(fields: Fields) -> _Typed:
    if "http" in fields:
        body = _Typed(bytes=fields["http"]["body"].encode())
        return _Typed(http=SimpleNamespace(**{**fields["http"], "body": body}))
    return _Typed(**fields)


async def _invoke(functions: Sequence[Function], call: Call) -> Answer:
    function = next(one for one in functions if one.name == call.function)
    invocation = SimpleNamespace(
        invocation_id="0d5a",
        function_id=function.id,
        input_data=[_Typed(name=function.trigger["name"], data=_typed(call.data))],
        trigger_metadata={name: _typed(fields) for name, fields in call.metadata.items()},
        trace_context=SimpleNamespace(trace_parent="", trace_state="", attributes={}),
        retry_context=SimpleNamespace(retry_count=0, max_retry_count=0, exception=None),
    )
    event = SimpleNamespace(request=SimpleNamespace(invocation_request=invocation), properties={})
    given = await runtime.invocation_request(event)
    if not given.result.status:
        return Answer(given.result.exception.message)
    outputs = {one.name: vars(one.data) for one in given.output_data}
    return Answer(None, _plain(given.return_value), outputs)


def _plain(value: typing.Any) -> typing.Any:
    """Return the fields of a message, and of those within it, as JSON has them."""
    if isinstance(value, SimpleNamespace):
        return {name: _plain(one) for name, one in vars(value).items()}
    return value.decode() if isinstance(value, bytes) else value


if __name__ == "__main__":
    worker.start_threads()
    asyncio.run(_main(Path(sys.argv[1])))
    worker.stop_threads()
