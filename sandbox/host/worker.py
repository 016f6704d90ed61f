"""The real worker library, azure-functions-runtime 1.3.0: it indexes the app and runs its functions.

Production on Python 3.13 runs this very package. Indexing goes through its public handlers, for
which plain objects stand in for the protobuf messages (`protos`); calls go through
`native_invocation`, which is outside the package's `__all__`, hence the pinned version.
"""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import azure_functions_runtime as runtime
from azure.functions.meta import Datum
from azure_functions_runtime import native_invocation

Binding = Mapping[str, Any]


class IndexingError(Exception):
    """The worker refuses the app; `trace` is the worker's stack trace."""

    def __init__(self, message: str, trace: str = "") -> None:
        super().__init__(message)
        self.trace = trace


@dataclass(frozen=True, slots=True)
class Function:
    """One indexed function. `bindings` are the raw ones (the content of a function.json)."""

    id: str
    name: str
    bindings: tuple[Binding, ...]
    retry: str | None = None

    @property
    def triggers(self) -> list[Binding]:
        """All trigger bindings; a sound function has exactly one."""
        return [binding for binding in self.bindings if binding["type"].endswith("Trigger")]

    @property
    def trigger(self) -> Binding:
        """The trigger binding."""
        return self.triggers[0]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call gave: `returned` is the `$return` value, `outputs` the `Out` parameters that were set."""

    ok: bool
    returned: Datum | None
    outputs: tuple[tuple[str, Datum], ...]


class _Message(SimpleNamespace):
    """Stands in for any protobuf message: keeps the fields it is given."""


class _Status(_Message):
    Failure = 0
    Success = 1


class _BindingInfo(_Message):
    undefined = 0
    out = 1
    inout = 2


_PROTOS = SimpleNamespace(
    WorkerInitResponse=_Message,
    WorkerMetadata=_Message,
    StatusResult=_Status,
    RpcException=_Message,
    BindingInfo=_BindingInfo,
    RpcFunctionMetadata=_Message,
    RpcRetryOptions=_Message,
    FunctionMetadataResponse=_Message,
    InvocationResponse=_Message,
    ParameterBinding=_Message,
    TypedData=_Message,
    RpcHttp=_Message,
)


async def index(app_dir: Path) -> tuple[Function, ...]:
    """Import `function_app.py` of a folder and return its functions; once per process.

    Another file name can be set as in Azure, with PYTHON_SCRIPT_FILE_NAME. Raises IndexingError in
    all cases in which Azure would show no function at all.
    """
    script = os.environ.get("PYTHON_SCRIPT_FILE_NAME", "function_app.py")
    if not (app_dir / script).is_file():
        raise IndexingError(f"There is no {script} in {app_dir}.")
    sys.path.insert(0, str(app_dir))
    init = SimpleNamespace(capabilities=[], function_app_directory=str(app_dir))
    event = SimpleNamespace(
        request=SimpleNamespace(worker_init_request=init),
        properties={"protos": _PROTOS, "host": "127.0.0.1"},
    )
    answer = await runtime.worker_init_request(event)  # type: ignore[no-untyped-call]
    if answer.result.status != _Status.Success:
        raise IndexingError(answer.result.exception.message, answer.result.exception.stack_trace)
    metadata = await runtime.functions_metadata_request(event)  # type: ignore[no-untyped-call]
    return tuple(_function(one) for one in metadata.function_metadata_results or ())


def _function(metadata: Any) -> Function:
    bindings = tuple(json.loads(raw) for raw in metadata.raw_bindings)
    retry = metadata.retry_options.retry_strategy if metadata.retry_options else None
    return Function(metadata.function_id, metadata.name, bindings, retry)


def start_threads() -> None:
    """Start the pool for sync functions: PYTHON_THREADPOOL_THREAD_COUNT threads."""
    runtime.start_threadpool_executor()


def stop_threads() -> None:
    """Stop that pool; waits for the functions in it."""
    runtime.stop_threadpool_executor()


async def invoke(
    function: Function, invocation_id: str, data: Datum, metadata: Mapping[str, Datum]
) -> Outcome:
    """Run one function; an exception in it is logged by the worker and makes `ok` false."""
    ok, returned, outputs, _, _ = await native_invocation.invocation_request_native(  # type: ignore[no-untyped-call]
        invocation_id, function.id, [(function.trigger["name"], data)], dict(metadata)
    )
    return Outcome(ok, returned, tuple(outputs))
