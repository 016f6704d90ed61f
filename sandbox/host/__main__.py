"""`python -m sandbox.host --app DIR --port N [--settings FILE] [--reload]`."""

import argparse
import asyncio
import logging
import os
import sys
from pathlib import Path

from sandbox.host.host import Host

_RELOADED = "SANDBOX_HOST_RELOADED"


def main() -> int:
    """Run the host; returns its exit code, or never when it starts itself again."""
    parser = argparse.ArgumentParser("python -m sandbox.host", description="A local Azure Functions host.")
    parser.add_argument(
        "--app", type=Path, default=Path(), help="the folder with function_app.py and host.json"
    )
    parser.add_argument("--port", type=int, default=7071)
    parser.add_argument("--settings", type=Path, help="default: local.settings.json of the app")
    parser.add_argument("--reload", action="store_true", help="start again when a source file changes")
    given = parser.parse_args()
    _log_to_stderr()
    # Taken before local.settings.json is merged into it, so that a changed one counts after a reload.
    environment, folder = dict(os.environ), Path.cwd()
    host = Host(
        given.app,
        given.port,
        environment,
        settings_file=given.settings,
        watch=given.reload,
        patient=_RELOADED in environment,
    )
    code = asyncio.run(host.run())
    if host.abandoned:  # their threads cannot be stopped, and the interpreter would wait for them
        os._exit(code)
    if host.changed:
        os.chdir(folder)
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**environment, _RELOADED: "1"})
    return code


def _log_to_stderr() -> None:
    """The app's records pass unchanged (its messages are JSON already); the host's own get a time."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    own = logging.getLogger("sandbox.host")
    own.addHandler(handler)
    own.propagate = False
    logging.getLogger("azure.functions").setLevel(logging.WARNING)  # the worker's own chatter


if __name__ == "__main__":
    sys.exit(main())
