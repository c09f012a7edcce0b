"""The IPC client: a child continues without a supervisor, and the next supervisor gets the messages sent meanwhile."""

import json
import socket
from pathlib import Path
from typing import IO

import pytest

from edgefilter.node import ipc as module
from edgefilter.node.ipc import IpcClient, unix_socket_address


class FakeSupervisor:
    """The supervisor's end of the connection, with plain sockets."""

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._server = socket.socket(socket.AF_UNIX)
        with unix_socket_address(path) as address:
            self._server.bind(address)
        self._server.listen()

    def accept(self) -> IO[bytes]:
        connection, _ = self._server.accept()
        connection.settimeout(30)
        self._connection = connection
        return connection.makefile("rb")

    def send(self, text: bytes) -> None:
        self._connection.sendall(text)

    def close(self, lines: IO[bytes]) -> None:
        lines.close()
        self._connection.close()
        self._server.close()


def next_message(lines: IO[bytes], kind: str) -> dict:
    """Return the next message of a kind."""
    while (message := json.loads(lines.readline()))["kind"] != kind:
        pass
    return message


def test_messages_sent_without_a_supervisor_go_to_the_next_one(tmp_path):
    path = tmp_path / ("long" * 40) / "link.sock"  # longer than the address of a socket may be
    path.parent.mkdir()
    first = FakeSupervisor(path)
    with IpcClient(path, "child", lambda: {"work": 7}) as ipc:
        lines = first.accept()
        hello = next_message(lines, "hello")
        assert (hello["name"], hello["state"]) == ("child", {"work": 7})
        assert next_message(lines, "beat")["idle"] < 30
        first.send(b'{"kind":"one"}\n{"kind":"t')
        assert ipc.receive(30) == {"kind": "one"}
        assert ipc.receive(0) is None
        first.send(b'wo"}\n')
        assert ipc.receive(30) == {"kind": "two"}
        first.close(lines)
        second = FakeSupervisor(path)
        ipc.send("news", fact=1)
        lines = second.accept()
        assert next_message(lines, "hello")["name"] == "child"
        assert next_message(lines, "news") == {"kind": "news", "fact": 1}
        second.close(lines)


def test_a_child_without_a_supervisor_receives_orphaned(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ORPHAN_SECONDS", 0.0)
    with IpcClient(tmp_path / "link.sock", "child") as ipc:
        assert ipc.receive(30) == {"kind": "orphaned"}


def test_a_process_that_no_supervisor_started_cannot_connect(monkeypatch):
    monkeypatch.delenv(module.IPC_SOCKET_VARIABLE, raising=False)
    with pytest.raises(KeyError):
        IpcClient.from_environment()
