"""Programs of Debian's that the sandbox and its tests need: installed with apt where we may, else named."""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from sandbox.processes import StartError

WAIT_FOR_OTHERS = "-oDPkg::Lock::Timeout=120"


def ensured[T](title: str, find: Callable[[], T | None], *packages: str) -> T:
    """Return what `find` finds, after installing the packages where that is missing.

    Raises StartError that says what to install.
    """
    # of two sandboxes that start at once one waits, also where the other's installation is half done
    with Path(__file__).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = find()
        if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
            _install(packages)
            found = find()
    if found is None:
        raise StartError(f"{title} is missing. Install it: sudo apt-get install {' '.join(packages)}")
    return found


def _install(packages: tuple[str, ...]) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for step in (["update", "-q"], ["install", "-qy", "--no-install-recommends", WAIT_FOR_OTHERS, *packages]):
        subprocess.run(["apt-get", *step], capture_output=True, check=False, env=environment)
