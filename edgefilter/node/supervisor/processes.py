"""The supervisor's end of the link: its children, started or taken over from a supervisor that died.

A child is watched in two ways: its end by a file descriptor of the process (``pidfd``), which also works for processes
that another one started, and its work by the beats of the link. What children there are stands in a file, so that the
next supervisor knows them.
"""

import asyncio
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from edgefilter.core.errors import EdgefilterError
from edgefilter.node.ipc import (
    CHILD_NAME_VARIABLE,
    IPC_SOCKET_VARIABLE,
    STDERR_VARIABLE,
    Message,
    encode,
    unix_socket_address,
)
from edgefilter.node.malloc import memcpy_environment

_MAX_LINE_BYTES = 1 << 22
_ERROR_CHARS = 400  # characters of what a child said last


class ChildError(EdgefilterError):
    """A child that ended or did not answer in time."""


@dataclass(eq=False)
class Child:
    """One process of the node.

    Parameters
    ----------
    name
        Unique while the node lives.
    role, stream
        What it is, and for which stream if for one.
    python
        The interpreter that it runs in.
    pid, ticks
        The process, and when it was started in the kernel's count, which tells it from a later one of the same pid.
    """

    name: str
    role: str
    stream: str
    python: str
    pid: int
    ticks: int
    process: "subprocess.Popen[bytes] | None" = None
    errors: IO[bytes] | None = None
    start_time: float = field(default_factory=time.monotonic)
    last_message_time: float = field(default_factory=time.monotonic)
    idle: float = 0.0
    version: str = ""
    configured: bool = False
    """Whether it has its settings."""
    ready: bool = False
    stopping: bool = False
    """Whether its end is wanted."""
    why: str = ""
    """Why it failed, in its own words."""
    refused: bool = False
    """Whether it failed by what an operator can mend."""
    state: Message = field(default_factory=dict)
    _writer: asyncio.StreamWriter | None = None
    _connection_task: "asyncio.Task[None] | None" = None
    _unsent: list[bytes] = field(default_factory=list)
    _expected: dict[str, "asyncio.Future[Message]"] = field(default_factory=dict)
    ended: "asyncio.Future[int | None]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    """Its exit status; None for a process that another supervisor started."""

    def send(self, kind: str, **fields: Any) -> None:
        """Send a message, now or as soon as it is connected."""
        line = encode({"kind": kind} | fields)
        if self._writer is None:
            self._unsent.append(line)
        else:
            self._writer.write(line)

    def expect(self, kind: str) -> "asyncio.Future[Message]":
        """Return what will hold the next message of a kind; ask before you send what it answers."""
        return self._expected.setdefault(kind, asyncio.get_running_loop().create_future())

    async def wait_for_reply(self, future: "asyncio.Future[Message]", timeout: float | None) -> Message:
        """Wait for an expected message, without limit if ``timeout`` is None.

        Raises
        ------
        ChildError
            If the child ends before, or the time, s, passes.
        """
        pending: set[asyncio.Future[Any]] = {future, self.ended}
        await asyncio.wait(pending, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if future.done():
            return future.result()
        raise ChildError(self.exit_reason() if self.ended.done() else f"{self.name} did not answer within {timeout} s")

    def kill(self) -> None:
        """End it at once; there is nothing in it that is not kept elsewhere."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def exit_reason(self) -> str:
        """Say in one line why it ended."""
        if self.why:
            return self.why
        status = self.ended.result() if self.ended.done() else None
        how = "ended" if status is None else f"was killed by signal {-status}" if status < 0 else f"ended with {status}"
        return f"{self.name} {how}" + (f": {last}" if (last := self._last_error()) else "")

    def _last_error(self) -> str:
        if self.errors is None or self.errors.closed:
            return ""
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1][-_ERROR_CHARS:] if lines else ""

    def _resolve_expected(self, message: Message) -> None:
        future = self._expected.pop(message["kind"], None)
        if future is not None and not future.done():
            future.set_result(message)


class Children:
    """All children of a supervisor.

    Parameters
    ----------
    directory
        Where the socket and the list of children are.
    on_message
        Called with every message but hello and beat.
    on_exit
        Called when a child has ended and all that it said was heard.
    environment
        What to add to the environment of children.
    """

    def __init__(
        self,
        directory: Path,
        on_message: Callable[[Child, Message], None],
        on_exit: Callable[[Child], None],
        environment: Mapping[str, str],
    ) -> None:
        self._directory = directory
        self._on_message = on_message
        self._on_exit = on_exit
        self._environment = environment
        self._children_file = directory / "children.json"
        self._serial = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.all: dict[str, Child] = {}

    @property
    def socket_path(self) -> Path:
        """Where children connect to."""
        return self._directory / "link.sock"

    async def open(self) -> list[Child]:
        """Listen; return the children that a dead supervisor left and that still live."""
        self.socket_path.unlink(missing_ok=True)
        with unix_socket_address(self.socket_path) as address:
            self._server = await asyncio.start_unix_server(self._handle_connection, address, limit=_MAX_LINE_BYTES)
        with suppress(FileNotFoundError, ValueError):
            previous = json.loads(self._children_file.read_text())
            self._serial = previous["serial"]
            for fields in previous["children"]:
                if _start_ticks(fields["pid"]) == fields["ticks"]:
                    self._add_child(Child(**fields))
        return list(self.all.values())

    def spawn(self, role: str, stream: str = "", python: str = sys.executable) -> Child:
        """Start a child.

        Raises
        ------
        ChildError
            If there is no such interpreter.
        """
        self._serial += 1
        name = "-".join(part for part in (role, stream, str(self._serial)) if part)
        errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the child has ended
        stderr = os.dup(2)
        try:
            process = subprocess.Popen(  # noqa: S603 - our own program, in the interpreter that the operator named
                [python, "-P", "-m", f"edgefilter.node.{role}.process"],
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                pass_fds=(stderr,),
                start_new_session=True,  # Ctrl-C is the supervisor's to answer
                env={
                    **os.environ,
                    **(memcpy_environment() if role == "receiver" else {}),
                    **self._environment,
                    IPC_SOCKET_VARIABLE: str(self.socket_path),
                    CHILD_NAME_VARIABLE: name,
                    STDERR_VARIABLE: str(stderr),
                },
            )
        except OSError as error:
            raise ChildError(f"{python}: cannot be started: {error.strerror}") from None
        finally:
            os.close(stderr)
        child = Child(name, role, stream, python, process.pid, _start_ticks(process.pid) or 0, process, errors)
        self._add_child(child)
        return child

    def hung(self, seconds: float) -> list[Child]:
        """Return the children that showed no progress for so long, ten times as long while they start."""
        now = time.monotonic()
        found = []
        for child in self.all.values():
            silent = max(now - child.last_message_time, child.idle)
            if silent > seconds * (1 if child.ready else 10):
                child.why = child.why or f"{child.name} hung for {silent:.1f} s"
                found.append(child)
        return found

    def reset_hang_timers(self) -> None:
        """Begin to count silence anew: it was this process that did not listen."""
        for child in self.all.values():
            child.last_message_time = time.monotonic()

    async def close(self) -> None:
        """Kill who is left and stop listening."""
        for child in list(self.all.values()):
            child.stopping = True
            child.kill()
            await child.ended
        await asyncio.gather(*self._tasks)
        if self._server is not None:
            self._server.close()
        self._children_file.unlink(missing_ok=True)
        self.socket_path.unlink(missing_ok=True)

    def _add_child(self, child: Child) -> None:
        self.all[child.name] = child
        self._write_children_file()
        pidfd = os.pidfd_open(child.pid)
        loop = asyncio.get_running_loop()

        def on_process_exit() -> None:
            loop.remove_reader(pidfd)
            os.close(pidfd)
            task = loop.create_task(self._reap(child))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        loop.add_reader(pidfd, on_process_exit)

    async def _reap(self, child: Child) -> None:
        status = child.process.wait() if child.process is not None else None
        if child._connection_task is not None:
            await asyncio.wait({child._connection_task}, timeout=5)  # its last words
        child.ended.set_result(status)
        child.why = child.why or ("" if child.stopping and not status else child.exit_reason())
        if child.errors is not None:
            child.errors.close()
        del self.all[child.name]
        self._write_children_file()
        self._on_exit(child)

    def _write_children_file(self) -> None:
        saved_fields = ("name", "role", "stream", "python", "pid", "ticks")
        children = [{key: getattr(child, key) for key in saved_fields} for child in self.all.values()]
        write_atomically(self._children_file, json.dumps({"serial": self._serial, "children": children}))

    async def _handle_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        child: Child | None = None
        with suppress(ConnectionError, ValueError):
            while line := await reader.readline():
                message: Message = json.loads(line)
                if child is None:
                    child = self._on_hello(message, writer)
                    if child is None:
                        break
                self._handle_message(child, message)
        if child is not None and child._writer is writer:
            child._writer = None
        writer.close()

    def _on_hello(self, message: Message, writer: asyncio.StreamWriter) -> Child | None:
        child = self.all.get(message.get("name", ""))
        if child is None:
            # Left by a supervisor that died before it could write it down. It loses nothing by its end.
            os.kill(_peer_pid(writer), signal.SIGKILL)
            return None
        child._writer, child._connection_task = writer, asyncio.current_task()
        child.version = message["version"]
        for line in child._unsent:
            writer.write(line)
        child._unsent.clear()
        return child

    def _handle_message(self, child: Child, message: Message) -> None:
        child.last_message_time = time.monotonic()
        child.state = message.get("state", child.state)
        child.idle = message.get("idle", child.idle)
        child.ready = child.ready or bool(child.state.get("ready", child.state))
        if message["kind"] == "beat":
            return
        child.idle = 0.0
        if message["kind"] == "failed":
            child.why, child.refused = message["why"], bool(message["error"])
        child._resolve_expected(message)
        self._on_message(child, message)


def write_atomically(path: Path, text: str) -> None:
    """Replace a small file so that a reader sees the old text or the new one."""
    part = path.with_suffix(".part")
    part.write_text(text)
    part.replace(path)


def _start_ticks(pid: int) -> int | None:
    """Start of a process in clock ticks since the machine's start; None if there is none that lives."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(fields[19]) if fields[0] not in "ZX" else None


def _peer_pid(writer: asyncio.StreamWriter) -> int:
    """Process at the other end of a Unix socket."""
    connection: socket.socket = writer.get_extra_info("socket")
    pid, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(pid)
