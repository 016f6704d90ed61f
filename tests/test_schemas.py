"""What the shapes do not say by themselves, the document says all the same: as the code does it."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args, get_type_hints

import jsonschema_rs
import msgspec
import pytest

import function_app
from handlers import openapi, schemas
from shared import choosing, contract, drafts, errors, mime
from shared.contract import MOST_RECIPIENTS
from shared.explanations import OUTCOMES, TEXTS
from shared.mime.addresses import check_line
from shared.model import Address
from shared.providers import base, registry
from shared.rules import AgainstRules

pytestmark = pytest.mark.fast

SOURCE = Path(schemas.__file__).parents[1] / "shared"
MAIL = {"mailboxId": "m", "to": [{"address": "a@b.example"}]}
BOX = {"address": "a@b.example"}
FILE = {"name": "list", "contentBase64": ""}
NOW = datetime(2026, 11, 24, 8, tzinfo=UTC)


@pytest.fixture(scope="module")
def document():
    assert function_app.app
    return openapi.document()


@pytest.fixture(scope="module")
def components(document):
    return document["components"]["schemas"]


@pytest.fixture(scope="module")
def fits(document):
    def check(shape, value):
        schema = {**document, "$ref": f"#/components/schemas/{shape}"}
        return jsonschema_rs.Draft202012Validator(schema).is_valid(value)

    return check


def test_every_schema_is_one(components):
    for schema in components.values():
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})


def test_every_reference_leads_somewhere(document):
    for reference in re.findall(r"'\$ref': '#/([^']*)'", str(document)):
        place = document
        for part in reference.split("/"):
            place = place[part]


@pytest.mark.parametrize("name", registry.names())
def test_what_each_provider_asks_a_mailbox_for_is_in_the_document(components, name):
    provider = registry.provider(name)
    reference = components["MailboxSettings"]["properties"][name]["$ref"].rpartition("/")[2]
    entries = components[reference]["properties"]
    asked = {field.name: field for field in provider.form if field.level == "mailbox"}
    assert set(entries) == set(asked)
    for field in asked.values():
        entry = entries[field.name]
        assert field.purpose in entry["description"]
        assert ("Required" in entry["description"]) is field.required
        assert "default" not in entry  # a generated client would send it, and overrule what IT has given
        assert (f"`{json.dumps(field.default)}`" in entry["description"]) is (field.default is not None)
        value = entry if field.required else entry["anyOf"][0]
        assert tuple(value.get("enum", ())) == field.choices
        assert value["type"] == {"strings": "array", "date": "string"}.get(field.type, field.type)


@pytest.mark.parametrize("name", ["ews", "imap", "pop3", "smtp"])
def test_a_port_has_its_range(fits, name):
    for port, right in {0: False, 1: True, 65_535: True, 65_536: False}.items():
        assert fits("PatchMailbox", {"settings": {name: {"port": port}}}) is right


@pytest.mark.parametrize("shape", ["ConnectMailbox", "PatchMailbox"])
def test_settings_and_secrets_are_by_the_providers_names(fits, shape):
    box = BOX if shape == "ConnectMailbox" else {}
    imap = {"host": "mail.b.example", "port": 993, "security": "tls"}
    assert fits(shape, {**box, "settings": {"imap": imap}})
    for wrong in ({"imap": {"hots": "x"}}, {"imap": {"security": "some"}}, {"pigeon": {}}):
        assert not fits(shape, {**box, "settings": wrong})
    for secret in ({"password": "x"}, {"imap": {"refreshToken": "x"}, "smtp": {"password": "x"}}):
        assert fits(shape, {**box, "secret": secret})
    for wrong in ({"pasword": "x"}, {"imap": {"pasword": "x"}}, {"microsoft": {"password": "x"}}):
        assert not fits(shape, {**box, "secret": wrong})


def test_every_field_of_a_secret_is_in_the_document(components):
    fields = {field.encode_name for field in msgspec.structs.fields(contract.Secret)}
    assert set(components["Secret"]["properties"]) == fields


def test_a_mail_needs_a_text_and_has_no_more_recipients_than_are_taken(fits, components):
    assert fits("SendEmail", {**MAIL, "text": "x"})
    assert fits("SendEmail", {**MAIL, "html": "x", "text": None})
    assert not fits("SendEmail", MAIL)
    assert not fits("SendEmail", {**MAIL, "text": None, "html": None})
    assert not fits("SendEmail", {**MAIL, "html": None})
    assert fits("SendEmail", {**MAIL, "text": "x", "html": None})
    for side in ("to", "cc", "bcc"):
        assert components["SendEmail"]["properties"][side]["maxItems"] == MOST_RECIPIENTS
    assert f"{MOST_RECIPIENTS} recipients in all" in components["SendEmail"]["description"]


def test_a_body_is_one_object_and_no_choice_of_parts(components):
    """Of `anyOf` beside `properties` openapi-python-client keeps the parts only, openapi-typescript adds them."""
    for name, schema in components.items():
        assert "properties" not in schema or not {"anyOf", "oneOf", "allOf"} & schema.keys(), name


@pytest.mark.parametrize("shape", contract.Body.__subclasses__(), ids=lambda shape: shape.__name__)
def test_what_a_body_leaves_out_is_told_in_words(components, shape):
    """As `default`, openapi-typescript would demand it of every caller, and others would send it."""
    properties = components[shape.__name__]["properties"]
    assert not [name for name, entry in properties.items() if "default" in entry]
    for field in msgspec.structs.fields(shape):
        if field.default not in {msgspec.NODEFAULT, msgspec.UNSET, None, ""}:
            described = properties[field.encode_name]["description"]
            assert f"Default: `{json.dumps(field.default)}`" in described


def test_wherever_a_provider_is_named_all_are_listed(components, fits):
    fields = ("receivesWith", "sendsWith")
    named = {(shape, name) for shape in ("ConnectMailbox", "Detected", "MailboxResource") for name in fields}
    for shape, name in {*named, ("Proposal", "provider"), ("IntegrationResource", "provider")}:
        entry = components[shape]["properties"][name]
        assert entry.get("anyOf", [entry])[0]["enum"] == [*registry.names()], (shape, name)
    assert fits("ConnectMailbox", {**BOX, "receivesWith": "imap", "sendsWith": None})
    assert not fits("ConnectMailbox", {**BOX, "receivesWith": "exchange"})


def test_what_a_setting_can_be_and_what_a_folder_is_for_are_listed(components):
    assert set(components["FieldResource"]["properties"]["type"]["enum"]) == {*get_args(base.FieldType)}
    role, nothing = components["FolderResource"]["properties"]["role"]["anyOf"]
    assert (set(role["enum"]), nothing) == ({*get_args(base.Role)}, {"type": "null"})


def takes(check, *given):
    try:
        check(*given)
    except errors.InvalidRequest:
        return False
    return True


LINES = [
    ("SendEmail", "subject"),
    ("ConnectMailbox", "name"),
    ("PatchMailbox", "name"),
    ("NewAttachment", "name"),
]


@pytest.mark.parametrize(("shape", "name"), LINES)
def test_a_line_is_described_as_it_is_checked(components, fits, shape, name):
    pattern = re.compile(components[shape]["properties"][name]["pattern"])
    for text in ("=?", "= ?", "a=b?", "Ä 日本 \U0001f600", *map(chr, range(0x3000))):
        assert bool(pattern.search(f"x{text}y")) is takes(check_line, f"x{text}y", name), ascii(text)
    least = {"SendEmail": {**MAIL, "text": "x"}, "ConnectMailbox": BOX, "NewAttachment": FILE}.get(shape, {})
    assert fits(shape, {**least, name: "Ä 日本"})
    for wrong in ("x\r\nBcc: y", "x\u2028y", "=?utf-8?q?x?="):
        assert not fits(shape, {**least, name: wrong})


@pytest.mark.parametrize(
    "given",
    [
        "application/pdf",
        "text/csv; charset=utf-8",
        'text/csv;charset="utf-8"',
        "pdf",
        "a/b;name=x",
        "a/b\r\nX: y",
    ],
)
def test_a_files_type_is_described_as_it_is_checked(fits, given):
    part = mime.Part("list", given, b"")
    sender = Address("a@b.example")
    mail = mime.Outgoing("<x@b.example>", NOW, sender, (sender,), (), "", "x", None, None, (), (part,))
    assert fits("NewAttachment", {**FILE, "contentType": given}) is takes(mime.compose, mail)


def test_a_files_content_and_addresses_to_be_given_say_what_they_are(components):
    assert components["NewAttachment"]["properties"]["contentBase64"]["contentEncoding"] == "base64"
    connecting = components["ConnectMailbox"]["properties"]
    members = components["PutCase"]["properties"]["members"]["items"]
    detecting = components["AskServers"]["properties"]["address"]
    for entry in (connecting["address"], connecting["owner"]["anyOf"][0], members, detecting):
        assert entry["format"] == "idn-email"
    assert f"{choosing.OLDEST.days} days back" in connecting["since"]["description"]
    assert connecting["name"]["maxLength"] == mime.LONGEST_NAME
    assert f"have {mime.LONGEST_NAME}" in " ".join(components["Person"]["description"].split())


@pytest.mark.parametrize("shape", ["SendEmail", "ConnectMailbox"])
def test_the_examples_are_taken(components, fits, shape):
    examples = components[shape]["examples"]
    assert examples
    for example in examples:
        assert fits(shape, example)
        body = msgspec.convert(example, getattr(contract, shape))
        assert shape != "SendEmail" or drafts.checked(body).attachments


def test_every_time_has_its_format(components):
    times = 0
    for name, shape in vars(contract).items():
        if not (isinstance(shape, type) and issubclass(shape, msgspec.Struct) and name in components):
            continue
        hints = get_type_hints(shape)
        for field in msgspec.structs.fields(shape):
            if datetime in {hints[field.name], *get_args(hints[field.name])}:
                entry = components[name]["properties"][field.encode_name]
                assert "date-time" in {one.get("format") for one in entry.get("anyOf", [entry])}, field.name
                times += 1
    assert times > 10


def test_every_code_of_a_refusal_is_in_the_document(components):
    code = components["ProblemResource"]["properties"]["code"]
    kinds = {
        kind.code: kind for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "code")
    }
    assert {*kinds, AgainstRules.code, "unauthenticated", "misconfigured"} == set(code["enum"])
    for kind in kinds.values():
        assert f"`{kind.code}` (" in code["description"]


def test_every_code_of_a_problem_that_is_kept_is_in_the_document(components):
    code = components["ProblemDetail"]["properties"]["code"]
    written = re.findall(
        r'\bProblem\(\s*"(\w+)"|^(?:PARTLY|COPY_MISSING) = "(\w+)"',
        "\n".join(file.read_text() for file in SOURCE.rglob("*.py")),
        re.MULTILINE,
    )
    literal = {one or other for one, other in written}
    assert set(schemas.PROBLEMS) <= literal <= set(code["examples"])
    assert TEXTS.keys() - OUTCOMES <= set(code["examples"])
    assert TEXTS.keys() > OUTCOMES
    assert not OUTCOMES & set(code["examples"])
