"""What only the real host checks: the worker indexes and runs an app that breaks these rules.

Pure functions over what the worker indexed; each violation is one sentence.
"""

import ast
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from sandbox.host.config import ConfigError, connection, expand
from sandbox.host.routes import conflicts, route
from sandbox.host.storage import check_queue_name
from sandbox.host.timers import Schedule
from sandbox.host.worker import Function
from tests.real_worker.worker import Indexed, Signature

Settings = Mapping[str, str]

_FUNCTION_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,127}")
_BINDING_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]{0,127}|\$return")
_LEVELS = {"ANONYMOUS", "FUNCTION", "ADMIN"}
_RETRYABLE = {"timerTrigger", "cosmosDBTrigger", "eventHubTrigger", "kafkaTrigger"}
_LONGEST_QUEUE = 63 - len("-poison")
# `endpoint` is handlers.http.Routes.endpoint, which calls `route`.
_LIST_OF_TEXTS = "azure.functions._abc.Out[typing.List[str]]"
_RESPONSE = "<class 'azure.functions._http.HttpResponse'>"
_NOTHING = "<class 'NoneType'>"
_TRIGGERS = {"route", "queue_trigger", "timer_trigger", "schedule", "endpoint"}


def violations(
    indexed: Indexed,
    *,
    settings: Settings,
    anonymous: Collection[str],
    declared: Collection[str],
) -> list[str]:
    """Return every broken rule.

    `settings` are the app settings by name, `anonymous` the routes that need no key ("GET a/{}": any
    parameter is `{}`), `declared` the functions that the source wants to exist.
    """
    functions, written = indexed.functions, indexed.signatures
    rules = (names, bindings, schedules, queues, connections, retries)
    found = [text for function in functions for rule in rules for text in rule(function, settings)]
    found += [text for function in functions for text in signatures(function, written[function.name])]
    return [*found, *routes(functions, anonymous), *missing(functions, declared)]


def names(function: Function, _: Settings) -> Iterator[str]:
    """Utility.ValidateName of the host; the worker takes any string."""
    if not _FUNCTION_NAME.fullmatch(function.name) or function.name.lower() == "host":
        yield f"{function.name!r} is no function name"
    for binding in function.bindings:
        if not _BINDING_NAME.fullmatch(binding["name"]):
            yield f"{function.name}: {binding['name']!r} is no binding name (letters and digits only)"


def bindings(function: Function, _: Settings) -> Iterator[str]:
    """One trigger; no name twice."""
    if len(function.triggers) != 1:
        yield f"{function.name} has {len(function.triggers)} triggers"
    counted = Counter(binding["name"].lower() for binding in function.bindings)
    for name, times in counted.items():
        if times > 1:
            yield f"{function.name}: the binding name {name!r} is used {times} times"


def schedules(function: Function, settings: Settings) -> Iterator[str]:
    """NCRONTAB with six fields."""
    for trigger in function.triggers:
        if trigger["type"] == "timerTrigger":
            yield from _refused(function, _schedule, trigger["schedule"], settings)


def queues(function: Function, settings: Settings) -> Iterator[str]:
    """Names, and room for a poison queue: without one a failing message comes back until it expires."""
    for binding in function.bindings:
        if binding["type"] not in {"queue", "queueTrigger"}:
            continue
        check = _trigger_queue if binding["type"] == "queueTrigger" else _queue
        yield from _refused(function, check, binding["queueName"], settings)


def connections(function: Function, settings: Settings) -> Iterator[str]:
    """One that is not set can put the whole host in error, so that every function answers 503."""
    for binding in function.bindings:
        if binding["type"] in {"queue", "queueTrigger"} or "connection" in binding:
            yield from _refused(function, connection, binding.get("connection", ""), settings)


def retries(function: Function, _: Settings) -> Iterator[str]:
    """https://learn.microsoft.com/azure/azure-functions/functions-bindings-error-pages#retry-policies."""
    for trigger in function.triggers:
        if function.retry and trigger["type"] not in _RETRYABLE:
            yield f"{function.name}: a retry policy has no effect on {trigger['type']}"


def signatures(function: Function, written: Signature) -> Iterator[str]:
    """What fails only when it is called, or says something else than was meant; mypy holds the body to it.

    The host parses a plain string that reads as JSON again: an array becomes several messages.
    """
    for binding in function.bindings:
        name = binding["name"]
        if binding["type"] == "queue" and name != "$return" and written.hints.get(name) != _LIST_OF_TEXTS:
            yield f"{function.name}: the queue output {name!r} is no func.Out[typing.List[str]]"
    is_http = any(trigger["type"] == "httpTrigger" for trigger in function.triggers)
    if is_http and written.hints.get("return") != _RESPONSE:
        yield f"{function.name} does not say that it returns func.HttpResponse"
    if not is_http and written.hints.get("return") != _NOTHING:
        yield f"{function.name} does not say that it returns None"
    if written.hides_a_coroutine:
        yield f"{function.name} is async behind a wrapper that is not: nobody awaits it"


def routes(functions: Iterable[Function], anonymous: Collection[str]) -> Iterator[str]:
    """Templates, reserved prefixes, no two of one path and method, nothing open by accident."""
    parsed = []
    for function in functions:
        if [trigger["type"] for trigger in function.triggers] != ["httpTrigger"]:
            continue
        try:
            parsed.append(route(function, ""))
        except ConfigError as error:
            yield f"{function.name}: {error}"
    yield from conflicts(parsed)
    for one in parsed:
        template = one.function.trigger.get("route") or one.function.name
        if one.level not in _LEVELS:
            yield f"{one.function.name} has no known authorization level ({one.level})"
        for method in sorted(one.methods):
            name = f"{method} {re.sub('{[^}]*}', '{}', template)}"
            if one.level == "ANONYMOUS" and name not in anonymous:
                yield f"{one.function.name}: {name} is anonymous and not on the list of such routes"


def missing(functions: Iterable[Function], declared: Collection[str]) -> Iterator[str]:
    """A Blueprint that is not registered is absent without a word."""
    present = {function.name for function in functions}
    for name in sorted(set(declared) - present):
        yield f"{name} is declared but absent: is its Blueprint registered?"
    for name in sorted(present - set(declared)):
        yield f"{name} is present but not declared"


def declared_functions(source: str) -> set[str]:
    """Return the names of the functions that a module's decorators make: `@x.route(...)` and the like."""
    found = set()
    for node in ast.parse(source).body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        calls = {_called(decorator): decorator for decorator in node.decorator_list}
        if calls.keys() & _TRIGGERS:
            named = calls.get("function_name")
            found.add(_text(named) if named else node.name)
    return found


def unstated_levels(source: str) -> list[str]:
    """Say where a call `x.route(...)` leaves out `auth_level`: the raw binding no longer shows that."""
    return [
        f"line {node.lineno}: the authorization level is not stated"
        for node in ast.walk(ast.parse(source))
        if _called(node) == "route" and not any(word.arg == "auth_level" for word in node.keywords)
    ]


def repeated_headers(source: str) -> list[str]:
    """Say where a response may get a second header of one name; cookies alone are kept apart by the worker."""
    return [
        f"line {node.lineno}: a header is added, and of two with one name only the last arrives; set it"
        for node in ast.walk(ast.parse(source))
        if _called(node) in {"add", "add_header", "extend"}
        and ast.unparse(node.func.value).endswith("headers")
        and ast.unparse(node.args[0]).lower() != "'set-cookie'"
    ]


def _called(node: ast.AST) -> str | None:
    is_method = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    return node.func.attr if is_method else None


def _text(call: ast.Call) -> str:
    value = call.args[0] if call.args else call.keywords[0].value
    return ast.literal_eval(value)


def _refused(
    function: Function, check: Callable[[str, Settings], object], text: str, settings: Settings
) -> Iterator[str]:
    try:
        check(text, settings)
    except ConfigError as error:
        yield f"{function.name}: {error}"


def _schedule(text: str, settings: Settings) -> None:
    Schedule(expand(text, settings))


def _queue(text: str, settings: Settings) -> str:
    name = expand(text, settings)
    check_queue_name(name)
    return name


def _trigger_queue(text: str, settings: Settings) -> None:
    name = _queue(text, settings)
    if name.endswith("-poison") or len(name) > _LONGEST_QUEUE:
        raise ConfigError(f"{name!r} can have no poison queue")
