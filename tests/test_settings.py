"""Settings: complete, checked, and silent about their values."""

import json
from pathlib import Path

import pytest

from shared import settings
from shared.settings import SettingsError, load
from shared.storage import blobs, queues, tables

pytestmark = pytest.mark.fast

ROOT = Path(__file__).parent.parent
SAMPLE = json.loads((ROOT / "local.settings.sample.json").read_text())["Values"]
OF_THE_HOST = {"FUNCTIONS_WORKER_RUNTIME", "PYTHON_THREADPOOL_THREAD_COUNT"}
IN_AZURE = {name for name, _, _ in settings.table() if "__" in name}

AZURE = {
    "STORAGE__tableServiceUri": "https://data.table.core.windows.net/",
    "STORAGE__blobServiceUri": "https://data.blob.core.windows.net",
    "STORAGE__queueServiceUri": "https://data.queue.core.windows.net",
    "STORAGE__clientId": "id-1",
    "STORAGE__credential": "managedidentity",
    "AzureWebJobsStorage__accountName": "host",
    "KEY_VAULT_URL": "https://v.vault.azure.net/",
    "AUTH_ISSUER": "https://login.example/",
    "AUTH_AUDIENCE": "api://zalion",
    "AUTH_JWKS_URL": "https://login.example/keys",
    "PUBLIC_URL": "https://mail.zalion.example/",
    "RETURN_URLS": "https://app.zalion.example/a, https://app.zalion.example/b",
}
PUBSUB = {
    "GOOGLE_TOPIC": "projects/zalion-mail/topics/gmail",
    "GOOGLE_SUBSCRIPTION": "projects/example.com:zalion/subscriptions/gmail.push_1",
    "GOOGLE_PUSHER": "gmail-push@zalion-mail.iam.gserviceaccount.com",
}


def test_the_sample_is_complete_and_names_nothing_else() -> None:
    names = {name for name, _, _ in settings.table()}
    assert set(SAMPLE) - OF_THE_HOST == names - IN_AZURE


def test_the_sample_loads() -> None:
    found = load(SAMPLE)
    assert found.storage.connection_string == "UseDevelopmentStorage=true"
    assert found.key_vault_verify_challenge is False
    assert found.azure_client_id is None


def test_azure_s_settings_load_with_defaults_for_the_rest() -> None:
    found = load(AZURE)
    assert found.storage.connection_string is None
    assert found.storage.table_url == "https://data.table.core.windows.net"
    assert found.storage.client_id == "id-1"
    assert found.return_urls == ("https://app.zalion.example/a", "https://app.zalion.example/b")
    assert found.key_vault_verify_challenge is True
    assert found.allowed_private_hosts == frozenset()
    assert (found.max_mail_bytes, found.log_level) == (35_000_000, "INFO")


def test_the_app_s_identity_is_used_for_storage_unless_it_has_its_own() -> None:
    environ = {name: value for name, value in AZURE.items() if name != "STORAGE__clientId"}
    assert load({**environ, "AZURE_CLIENT_ID": "id-2"}).storage.client_id == "id-2"


def test_every_missing_setting_is_named_at_once_with_its_purpose() -> None:
    with pytest.raises(SettingsError) as caught:
        load({})
    text = str(caught.value)
    required = [(name, purpose) for name, presence, purpose in settings.table() if presence == "required"]
    assert len(required) == 6
    for name, purpose in required:
        assert f"{name} is missing: {purpose}" in text
    assert "STORAGE is missing" in text
    assert "AzureWebJobsStorage is missing" in text


KEY = "AccountKey=a2V5"
URLS = ";".join(f"{store}Endpoint=https://data.{store}.example" for store in ("Table", "Blob", "Queue"))


@pytest.mark.parametrize(
    "wrong",
    [
        "DefaultEndpointsProtocol=https;AccountName=std",
        f"DefaultEndpointsProtocol=https;{KEY}",
        "AccountName=std;AccountKey=not base64",
        f"AccountName=;{KEY}",
        f"AccountName=std;{KEY};more",
        "SharedAccessSignature=sv=1",
        "UseDevelopmentStorage=yes",
        "https://data.table.core.windows.net",
    ],
)
def test_a_connection_string_that_leads_nowhere_is_named_and_not_repeated(wrong: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load({**SAMPLE, "STORAGE": wrong})
    assert "STORAGE must be a connection string" in str(caught.value)
    assert "std" not in str(caught.value)


@pytest.mark.parametrize(
    "right",
    [
        "UseDevelopmentStorage=true",
        f"AccountName=std;{KEY}",
        f"DefaultEndpointsProtocol=http;AccountName=std;{KEY};{URLS};",
        f"{URLS};SharedAccessSignature=sv=1&sig=x%3D",
    ],
)
def test_every_form_of_a_connection_string_that_the_sdks_take_is_taken(right: str) -> None:
    found = load({**SAMPLE, "STORAGE": right}).storage
    for connect in (tables.connect, blobs.connect, queues.connect):
        connect(found)


def test_two_of_the_three_storage_urls_are_not_enough() -> None:
    environ = {name: value for name, value in AZURE.items() if name != "STORAGE__queueServiceUri"}
    with pytest.raises(SettingsError, match="STORAGE is missing"):
        load(environ)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KEY_VAULT_URL", "http://v.vault.azure.net"),
        ("KEY_VAULT_VERIFY_CHALLENGE", "secret-maybe"),
        ("AUTH_JWKS_URL", "login.example/secret"),
        ("AUTH_JWKS_URL", "https://user:secret@login.example/keys"),
        ("PUBLIC_URL", "http://mail.zalion.example"),
        ("PUBLIC_URL", "https://[secret"),
        ("PUBLIC_URL", "https://[secret]/"),
        ("RETURN_URLS", "https://ok.example,javascript:secret"),
        ("RETURN_URLS", "http://secret.example"),
        ("MAX_MAIL_BYTES", "secret"),
        ("MAX_MAIL_BYTES", "0"),
        ("MAX_MAIL_BYTES", "-5"),
        ("DNS_SERVER", "secret"),
        ("DNS_SERVER", "127.0.0.1:0"),
        ("DNS_SERVER", "127.0.0.1:secret"),
        ("MX_PORT", "secret"),
        ("MX_PORT", "70000"),
        ("AUTOCONFIG_URLS", "https://secret.example/x"),
        ("AUTOCONFIG_URLS", "http://secret.{domain}/x"),
        ("LOG_LEVEL", "secret"),
        ("STORAGE__blobServiceUri", "http://secret"),
        ("STORAGE__credential", "secret"),
        ("GOOGLE_TOPIC", "secret"),
        ("GOOGLE_TOPIC", "projects/zalion-mail/subscriptions/secret"),
        ("GOOGLE_TOPIC", "projects/zalion-mail/topics/goog-secret"),
        ("GOOGLE_TOPIC", "https://pubsub.googleapis.com/v1/projects/zalion-mail/topics/secret"),
        ("GOOGLE_SUBSCRIPTION", "projects/zalion-mail/topics/secret"),
        ("GOOGLE_SUBSCRIPTION", "secret"),
        ("GOOGLE_PUSHER", "secret"),
        ("GOOGLE_PUSHER", "secret@zalion.example"),
    ],
)
def test_a_malformed_setting_is_named_and_its_value_is_not(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load({**AZURE, **PUBSUB, name: value})
    assert f"{name} must be" in str(caught.value)
    assert "secret" not in str(caught.value).replace("every secret", "")
    assert str(caught.value).count("\n") == 1


def test_pubsub_is_set_up_as_a_whole_or_not_at_all() -> None:
    assert load({**AZURE, **PUBSUB}).google_topic == PUBSUB["GOOGLE_TOPIC"]
    assert load({**AZURE, **dict.fromkeys(PUBSUB, "")}).google_topic is None
    purposes = {name: purpose for name, _, purpose in settings.table()}
    for given, value in PUBSUB.items():
        with pytest.raises(SettingsError) as caught:
            load({**AZURE, given: value})
        lines = str(caught.value).splitlines()[1:]
        assert [line.partition(" ")[0] for line in lines] == [name for name in PUBSUB if name != given]
        assert all(purposes[line.partition(" ")[0]] in line for line in lines)


def test_a_loopback_public_url_may_be_plain_http() -> None:
    assert load({**AZURE, "PUBLIC_URL": "http://localhost:7071"}).public_url == "http://localhost:7071"


def test_private_hosts_are_compared_in_lower_case() -> None:
    found = load({**AZURE, "ALLOWED_PRIVATE_HOSTS": "Mail.Corp.Example, ,10.0.0.1"})
    assert found.allowed_private_hosts == frozenset({"mail.corp.example", "10.0.0.1"})


def test_the_connection_string_is_in_no_representation() -> None:
    found = load({**SAMPLE, "STORAGE": "AccountName=a;AccountKey=topsecretkey"})
    assert "topsecret" not in repr(found)


def test_the_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in AZURE.items():
        monkeypatch.setenv(name, value)
    assert load().auth_audience == "api://zalion"


def test_host_json_names_the_queues_and_headers_we_rely_on() -> None:
    host = json.loads((ROOT / "host.json").read_text())
    assert host["extensions"]["http"]["routePrefix"] == "api"
    assert host["extensions"]["http"]["customHeaders"]["X-Content-Type-Options"] == "nosniff"
    assert host["extensions"]["queues"]["messageEncoding"] == "base64"
