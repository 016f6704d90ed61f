"""What the README says about the code is made from the code."""

import json

import pytest

from shared.settings import SETTINGS
from tests.readme import README, rendered

pytestmark = pytest.mark.fast


def test_the_tables_are_the_codes():
    text = README.read_text()
    assert rendered(text) == text, "run `python -m tests.readme`"


def test_the_readme_stays_short():
    assert len(README.read_text().splitlines()) <= 150


def test_every_setting_of_the_sample_is_named_also_those_of_the_host():
    sample = json.loads((README.parent / "local.settings.sample.json").read_text())
    text = README.read_text()
    assert [name for name in sample["Values"] if f"`{name}`" not in text] == []


def test_the_sample_settings_are_complete():
    sample = json.loads((README.parent / "local.settings.sample.json").read_text())
    assert {setting.name for setting in SETTINGS if setting.required} <= set(sample["Values"])
