"""One child process of the supervisor, and the messages to and from it."""

import asyncio
import os
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, Any

from edgefilter.core.errors import EdgefilterError
from edgefilter.node.ipc import Message, encode

_MAX_ERROR_CHARS = 400  # of the last line that a child printed
_LAST_MESSAGES_SECONDS = 5.0  # after the end of the process


class ChildError(EdgefilterError):
    """A child ended or did not answer in time."""


@dataclass(eq=False)
class Child:
    """One process of the node.

    Parameters
    ----------
    name
        Unique within the node.
    role, stream
        ``receiver``, ``reducer`` or ``forwarder``, and the stream of a reducer.
    python
        Its interpreter.
    pid, ticks
        Process ID, and start time in clock ticks since boot, which tells it from a later process of the same ID.
    process, errors
        The process and its early output, if this supervisor started it.
    start_time, last_message_time
        When it was started and when it last sent a message, s of the monotonic clock.
    idle
        Time since it last reported progress, s.
    version
        Version of its code; empty until it is connected.
    ready
        Whether it works.
    stopping
        Whether it is to end.
    why
        Why it failed.
    refused
        Whether an operator can correct the error.
    state
        Its state in the last heartbeat.
    ended
        Its exit status; None for a process that another supervisor started.
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
    ready: bool = False
    stopping: bool = False
    why: str = ""
    refused: bool = False
    state: Message = field(default_factory=dict)
    _writer: asyncio.StreamWriter | None = None
    _connection_task: "asyncio.Task[None] | None" = None
    _unsent: list[bytes] = field(default_factory=list)
    _expected: dict[str, "asyncio.Future[Message]"] = field(default_factory=dict)
    ended: "asyncio.Future[int | None]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def send(self, kind: str, **fields: Any) -> None:
        """Send a message, now or as soon as the child is connected.

        Parameters
        ----------
        kind
            Kind of the message.
        **fields
            Its other fields, JSON types only.
        """
        line = encode({"kind": kind} | fields)
        if self._writer is None:
            self._unsent.append(line)
        else:
            self._writer.write(line)

    def expect(self, kind: str) -> "asyncio.Future[Message]":
        """Return a future of the next message of a kind. Call it before you send the request.

        Parameters
        ----------
        kind
            Kind of the expected message.

        Returns
        -------
        asyncio.Future
            Becomes the message.
        """
        return self._expected.setdefault(kind, asyncio.get_running_loop().create_future())

    async def wait_for_reply(self, future: "asyncio.Future[Message]", timeout: float | None) -> Message:
        """Wait for an expected message.

        Parameters
        ----------
        future
            The future that :meth:`expect` returned.
        timeout
            Maximum time to wait, s; None is without limit.

        Returns
        -------
        dict
            The message.

        Raises
        ------
        ChildError
            If the child ends first, or the message does not arrive in time.
        """
        pending: set[asyncio.Future[Any]] = {future, self.ended}
        await asyncio.wait(pending, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if future.done():
            return future.result()
        raise ChildError(self.exit_reason() if self.ended.done() else f"{self.name} did not answer within {timeout} s")

    def kill(self) -> None:
        """End the process at once. Ring and spool keep everything that its successor needs."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def exit_reason(self) -> str:
        """Return in one line why the process ended."""
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
        return lines[-1][-_MAX_ERROR_CHARS:] if lines else ""

    def connect(self, writer: asyncio.StreamWriter, version: str) -> None:
        """Begin to send over a connection; first what waits to be sent.

        Parameters
        ----------
        writer
            The connection, of the current task.
        version
            Version of the child's code.
        """
        self._writer, self._connection_task, self.version = writer, asyncio.current_task(), version
        for line in self._unsent:
            writer.write(line)
        self._unsent.clear()

    def disconnect(self, writer: asyncio.StreamWriter) -> None:
        """Stop sending over a connection.

        Parameters
        ----------
        writer
            The connection; one that another has replaced already changes nothing.
        """
        if self._writer is writer:
            self._writer = None

    def update(self, message: Message) -> None:
        """Update the state of the child, and resolve the future that waits for the message.

        Parameters
        ----------
        message
            A message from the child.
        """
        self.last_message_time = time.monotonic()
        self.state = message.get("state", self.state)
        self.idle = message.get("idle", self.idle)
        self.ready = self.ready or bool(self.state.get("ready", self.state))
        if message["kind"] == "beat":
            return
        self.idle = 0.0
        if message["kind"] == "failed":
            self.why, self.refused = message["why"], bool(message["error"])
        future = self._expected.pop(message["kind"], None)
        if future is not None and not future.done():
            future.set_result(message)

    async def reap(self) -> None:
        """Handle the last messages of the process, which has ended, and set ``ended`` and ``why``."""
        status = self.process.wait() if self.process is not None else None
        if self._connection_task is not None:
            await asyncio.wait({self._connection_task}, timeout=_LAST_MESSAGES_SECONDS)
        self.ended.set_result(status)
        self.why = self.why or ("" if self.stopping and not status else self.exit_reason())
        if self.errors is not None:
            self.errors.close()
