"""Provider names, and that asking for one loads no other."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from shared.errors import InvalidRequest
from shared.providers import registry

ROOT = Path(__file__).parents[2]


def test_every_name_leads_to_a_provider_of_that_name():
    for name in registry.names():
        assert registry.provider(name).name == name


@pytest.mark.parametrize("name", ["", "IMAP", "network", "../imap", "os"])
def test_any_other_name_is_refused_and_the_field_named(name):
    with pytest.raises(InvalidRequest, match="no such provider") as caught:
        registry.provider(name, field="receivesWith")
    assert caught.value.field == "receivesWith"
    assert all(known in caught.value.fix for known in registry.names())


@pytest.mark.fast
def test_the_import_contracts_name_every_provider():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    modules = {f"shared.providers.{name}" for name in registry.names()}
    independent = [each for each in contracts if each["type"] == "independence"]
    pure = [each for each in contracts if each["name"].startswith("Pure modules")]
    assert [{*each["modules"]} for each in independent] == [modules]
    assert [modules <= {*each["forbidden_modules"]} for each in pure] == [True]


def test_nothing_is_loaded_before_it_is_asked_for():
    script = (
        "import sys; from shared.providers import registry; registry.names();"
        "assert not {'imapclient', 'smtplib', 'shared.providers.imap'} & set(sys.modules);"
        "registry.provider('smtp'); assert 'imapclient' not in sys.modules;"
        "registry.provider('imap'); assert 'imapclient' in sys.modules"
    )
    plain = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    subprocess.run(
        [sys.executable, "-c", script], check=True, env=plain
    )  # coverage imports things of its own


@pytest.mark.parametrize("name", registry.names())
def test_a_form_says_what_each_setting_is_for_and_its_defaults_are_choices(name):
    for field in registry.provider(name).form:
        assert field.purpose
        assert not field.choices or field.default in field.choices
