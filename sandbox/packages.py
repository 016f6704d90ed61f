"""What the sandbox needs of Debian: installed with apt where we may, else named in one line."""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from sandbox.processes import StartError

WAIT_FOR_OTHERS = "-oDPkg::Lock::Timeout=120"


def ensure[T](name: str, find: Callable[[], T | None], packages: Sequence[str]) -> T:
    """Return what `find` finds, after installing the packages where we may.

    Raises StartError that says what to install.
    """
    # of two sandboxes that start at once one waits, also where the other's installation is half done
    with Path(__file__).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = find()
        if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
            _apt(packages)
            found = find()
    if found is None:
        raise StartError(f"{name} is missing. Install it: sudo apt-get install {' '.join(packages)}")
    return found


def _apt(packages: Sequence[str]) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for step in (["update", "-q"], ["install", "-qy", "--no-install-recommends", WAIT_FOR_OTHERS, *packages]):
        subprocess.run(["apt-get", *step], capture_output=True, check=False, env=environment)
