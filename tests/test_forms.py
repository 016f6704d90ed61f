"""Settings forms: what was typed, checked field by field."""

import pytest

from shared import forms
from shared.errors import InvalidRequest
from shared.providers import hosts
from shared.providers.base import Field

pytestmark = pytest.mark.fast

FORM = (
    hosts.name_field("Name of the server."),
    hosts.port_field("Its port.", 993),
    Field("security", "How.", default="tls", choices=("tls", "starttls")),
    Field("folders", "Which.", type="strings"),
)


def test_defaults_are_filled_in():
    checked = forms.check(FORM, {"host": "mail.example"}, path="settings.imap")
    assert checked == {"host": "mail.example", "port": 993, "security": "tls"}


def test_a_list_has_room_for_thousands_of_entries_or_for_long_ones():
    lists = [[f"{number}.example" for number in range(2500)], ["x" * 97] * 400, ["ü"] * 155]
    for entries in lists:
        assert forms.check(FORM, {"folders": entries}, path="s", partial=True) == {"folders": entries}


def test_shared_settings_may_leave_out_what_each_mailbox_adds():
    assert forms.check(FORM, {"port": 143}, path="settings", partial=True) == {"port": 143}


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({}, "s.host"),
        ({"host": "x", "hots": "y"}, "s.hots"),
        ({"host": 5}, "s.host"),
        ({"host": "x", "port": "993"}, "s.port"),
        ({"host": "x", "port": True}, "s.port"),
        ({"host": "x", "security": "none"}, "s.security"),
        ({"host": "a\r\nb"}, "s.host"),
        ({"host": ""}, "s.host"),
        ({"host": "x" * 501}, "s.host"),
        ({"host": "x", "folders": ["ok", "a\0b"]}, "s.folders"),
        ({"host": "x", "folders": [5]}, "s.folders"),
        ({"host": "x", "folders": ["x" * 97] * 401}, "s.folders"),
        ({"host": "x", "folders": ["ü"] * 156}, "s.folders"),
        ({"host": "x", "port": 10**30}, "s.port"),
        ({"host": "x", "port": -(10**30)}, "s.port"),
        ({"host": "x", "port": 0}, "s.port"),
        ({"host": "x", "port": 65_536}, "s.port"),
        ({"host": "a b"}, "s.host"),
    ],
)
def test_what_is_wrong_is_named(given, field):
    with pytest.raises(InvalidRequest) as caught:
        forms.check(FORM, given, path="s")
    assert caught.value.field == field


def test_null_takes_back_what_was_given_to_what_it_has_decided():
    form = [Field("port", "A port", "integer", default=993), Field("name", "A name")]
    checked = forms.check(form, {"port": None, "name": None}, path="settings.x", decided={"port": 1993})
    assert checked == {"port": 1993}
