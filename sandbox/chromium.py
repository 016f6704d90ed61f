"""Debian's Chromium, for looking at our pages as people see them."""

import shutil

from sandbox import debian

ARGUMENTS = (
    "--no-sandbox",  # as root it has none
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
"""Nothing goes out to the internet by itself, and no profile is made."""


def install() -> str:
    """Return Chromium's path, after installing it with apt where we may. Raises StartError."""
    return debian.ensured("Chromium", _found, "chromium")


def _found() -> str | None:
    return shutil.which("chromium")
