"""The real worker, in a process of its own for each app, because an app is global state."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from sandbox.host import worker
from sandbox.host.worker import Function, IndexingError

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Indexed:
    """What the worker says of an app: its functions, or why Azure would show none at all."""

    functions: tuple[Function, ...] = ()
    failure: str | None = None


def index(app: Path, environment: Mapping[str, str] | None = None) -> Indexed:
    """Let the worker index one app file (usually function_app.py)."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.real_worker.worker", str(app.parent)],
        cwd=ROOT,
        env={**os.environ, "PYTHON_SCRIPT_FILE_NAME": app.name, **(environment or {})},
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
    return Indexed(functions, answer["failure"])


async def _main(folder: Path) -> None:
    functions: tuple[Function, ...] = ()
    failure = None
    try:
        functions = await worker.index(folder)
    except IndexingError as error:
        failure = str(error)
    print(json.dumps({"functions": [asdict(one) for one in functions], "failure": failure}))


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1])))
