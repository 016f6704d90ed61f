"""What is missing is installed, or named in one line."""

import pytest

from sandbox import chromium, debian
from sandbox.processes import StartError

pytestmark = pytest.mark.fast


def test_what_is_there_is_taken():
    assert debian.ensured("Something", lambda: "/usr/bin/something", "something") == "/usr/bin/something"


def test_what_is_missing_is_named_where_it_cannot_be_installed(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))  # a machine without apt, and without Chromium
    with pytest.raises(StartError, match="sudo apt-get install chromium"):
        chromium.install()
