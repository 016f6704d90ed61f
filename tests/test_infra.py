"""Invariants of the templates, as far as they can be checked without Azure's compiler."""

import re
from pathlib import Path

import pytest

from shared.app import DELIVER, SYNC
from shared.settings import SETTINGS

pytestmark = pytest.mark.fast

INFRA = Path(__file__).parents[1] / "infra"
MAIN = (INFRA / "main.bicep").read_text()
EVERYTHING = MAIN + (INFRA / "roles.bicep").read_text()


def test_every_setting_that_the_code_reads_is_set():
    declared = set(re.findall(r"^  ([A-Z]\w+?)(?:__\w+)?: ", MAIN, re.MULTILINE))
    read = {setting.name.partition("__")[0] for setting in SETTINGS}
    assert read <= declared


def test_every_queue_is_declared_with_its_poison_twin():
    queues = set(re.findall(r"'([a-z-]+)'", re.search(r"queueNames = \[(.*)\]", MAIN)[1]))
    assert queues == {SYNC, f"{SYNC}-poison", DELIVER, f"{DELIVER}-poison"}


def test_no_shared_key_and_no_public_access_anywhere():
    accounts = MAIN.count("'Microsoft.Storage/storageAccounts@")
    assert MAIN.count("allowSharedKeyAccess: false") == accounts == 2
    assert MAIN.count("allowBlobPublicAccess: false") == accounts
    assert "listKeys(" not in EVERYTHING
    assert "AccountKey" not in EVERYTHING


def test_braces_and_brackets_are_balanced():
    for pair in ("{}", "[]", "()"):
        assert EVERYTHING.count(pair[0]) == EVERYTHING.count(pair[1])
