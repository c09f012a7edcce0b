"""The child's end of the link: it works on without a supervisor, and the next one learns what was said meanwhile."""

import json
import socket
from pathlib import Path
from typing import IO

import pytest

from edgefilter.node import ipc as module
from edgefilter.node.ipc import IpcClient, unix_socket_address


class FakeSupervisor:
    """The other end, by hand."""

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
    """The next message of a kind."""
    while (message := json.loads(lines.readline()))["kind"] != kind:
        pass
    return message


def test_what_is_told_while_there_is_no_supervisor_goes_to_the_next(tmp_path):
    path = tmp_path / ("long" * 40) / "link.sock"  # longer than an address of a socket may be
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


def test_a_child_learns_that_nobody_comes(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ORPHAN_SECONDS", 0.0)
    with IpcClient(tmp_path / "link.sock", "child") as ipc:
        assert ipc.receive(30) == {"kind": "orphaned"}


def test_a_process_that_no_supervisor_started_has_no_link(monkeypatch):
    monkeypatch.delenv(module.IPC_SOCKET_VARIABLE, raising=False)
    with pytest.raises(KeyError):
        IpcClient.from_environment()
