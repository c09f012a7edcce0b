"""Messages between the supervisor and its children: JSON objects, one per line, over a Unix socket.

A child reads the path of the socket and its own name from its environment and connects. A thread of the client sends
and receives, so the work of the child never waits for the supervisor, and heartbeats continue during a long call.
When the supervisor dies, the child continues and connects to the next supervisor, with ``hello`` and its whole state;
if none accepts it for :data:`ORPHAN_SECONDS`, the child receives ``orphaned`` and ends.

Every message has a ``kind``. The client itself sends ``hello`` (name, pid, version, protocol, state) and ``beat``
(state, and ``idle``: seconds since the last call of :meth:`IpcClient.mark_progress`); the two ends define all other
messages.
"""

import json
import os
import queue
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, Self

from edgefilter.core.closing import Closing
from edgefilter.core.version import __version__

Message = dict[str, Any]

PROTOCOL = 2
"""Version of these messages: supervisor and child must have the same one."""
IPC_SOCKET_VARIABLE = "EDGEFILTER_LINK"
"""Environment variable: path of the supervisor's socket."""
CHILD_NAME_VARIABLE = "EDGEFILTER_CHILD"
"""Environment variable: name of this child."""
STDERR_VARIABLE = "EDGEFILTER_STDERR"
"""Environment variable: file descriptor of the log. Until a child is connected, only its supervisor gets its output."""
HEARTBEAT_SECONDS = 0.25
ORPHAN_SECONDS = 60.0
"""How long a child waits for a new supervisor before it ends, s."""

_RETRY_SECONDS = 0.05
_MAX_QUEUED_MESSAGES = 10_000  # while there is no supervisor
_MAX_UNSENT_BYTES = 1 << 20  # beyond this the supervisor does not read, and heartbeats are omitted


class Link(Protocol):
    """How a process of the node reports what it does and gets commands: from a supervisor or from a process manager."""

    def set_state_callback(self, state: Callable[[], Message]) -> None:
        """Set the function that returns the whole state of the process, JSON types only."""

    def mark_progress(self) -> None:
        """Report progress: a process that reports none for a long time hangs."""

    def send(self, kind: str, **fields: Any) -> None:
        """Report an event, without waiting."""

    def receive(self, timeout: float | None = None) -> Message | None:
        """Return the next command; None if none arrives within the time."""


class IpcClient(Closing):
    """The child's end of the connection to the supervisor.

    Parameters
    ----------
    path
        Socket of the supervisor.
    name
        Name of the child.
    state
        Returns the whole state of the child, JSON types only; called in the client's thread at every heartbeat.
    """

    def __init__(self, path: str | Path, name: str, state: Callable[[], Message] = dict) -> None:
        self.name = name
        self._path = Path(path)
        self._state = state
        self._inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._outbox: deque[bytes] = deque(maxlen=_MAX_QUEUED_MESSAGES)
        self._last_progress_time = time.monotonic()
        self._closing = False
        self._wakeup_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="ipc", daemon=True)
        self._thread.start()

    @classmethod
    def from_environment(cls, state: Callable[[], Message] = dict) -> Self:
        """Connect to the supervisor that started this process.

        Parameters
        ----------
        state
            Returns the state of the child: see the class.

        Raises
        ------
        KeyError
            If no supervisor started this process.
        """
        return cls(os.environ[IPC_SOCKET_VARIABLE], os.environ[CHILD_NAME_VARIABLE], state)

    def set_state_callback(self, state: Callable[[], Message]) -> None:
        """Replace the function that returns the state.

        Parameters
        ----------
        state
            The new function: see the class.
        """
        self._state = state

    def mark_progress(self) -> None:
        """Report progress; the supervisor kills a child that does not report any for ``node.hang_seconds``."""
        self._last_progress_time = time.monotonic()

    def send(self, kind: str, **fields: Any) -> None:
        """Queue a message, without waiting. A message that cannot be sent goes to the next supervisor.

        Parameters
        ----------
        kind
            Kind of the message.
        **fields
            Its other fields, JSON types only.
        """
        self._outbox.append(encode({"kind": kind} | fields))
        os.eventfd_write(self._wakeup_fd, 1)

    def receive(self, timeout: float | None = None) -> Message | None:
        """Return the next message.

        Parameters
        ----------
        timeout
            Maximum time to wait, s; None is without limit.

        Returns
        -------
        dict or None
            The message; None if none arrives in time. Kind ``orphaned`` comes from the client itself: there is no
            supervisor any more.
        """
        try:
            return self._inbox.get(timeout=timeout) if timeout is None or timeout > 0 else self._inbox.get_nowait()
        except queue.Empty:
            return None

    def close(self, timeout: float = 1.0) -> None:
        """Send the queued messages and disconnect.

        Parameters
        ----------
        timeout
            Maximum time to wait, s.
        """
        self._closing = True
        os.eventfd_write(self._wakeup_fd, 1)
        self._thread.join(timeout)

    # --- the client's thread

    def _run(self) -> None:
        disconnected_since = time.monotonic()
        orphan_sent = False
        while not self._closing:
            with (
                suppress(OSError),
                socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connection,
            ):
                with unix_socket_address(self._path) as address:
                    connection.connect(address)
                connection.setblocking(False)
                _redirect_output_to_log()
                try:
                    self._exchange(connection)
                finally:
                    disconnected_since, orphan_sent = time.monotonic(), False
            if not orphan_sent and time.monotonic() - disconnected_since > ORPHAN_SECONDS:
                self._inbox.put({"kind": "orphaned"})
                orphan_sent = True
            time.sleep(_RETRY_SECONDS)

    def _exchange(self, connection: socket.socket) -> None:
        """Send and receive until one of the two ends closes the connection."""
        outgoing = bytearray(self._hello())
        incoming = bytearray()
        next_heartbeat_time = 0.0
        with selectors.DefaultSelector() as selector:
            selector.register(self._wakeup_fd, selectors.EVENT_READ)
            while outgoing or self._outbox or not self._closing:
                while self._outbox:
                    outgoing += self._outbox.popleft()
                now = time.monotonic()
                if now >= next_heartbeat_time and len(outgoing) < _MAX_UNSENT_BYTES:
                    outgoing += encode({"kind": "beat", "idle": now - self._last_progress_time, "state": self._state()})
                    next_heartbeat_time = now + HEARTBEAT_SECONDS
                _update_selector(selector, connection, bool(outgoing))
                for key, ready in selector.select(max(0.0, next_heartbeat_time - now)):
                    if key.fileobj == self._wakeup_fd:
                        os.eventfd_read(self._wakeup_fd)
                        continue
                    if ready & selectors.EVENT_WRITE:
                        del outgoing[: connection.send(outgoing)]
                    if ready & selectors.EVENT_READ:
                        data = connection.recv(1 << 16)
                        if not data:
                            return
                        incoming += data
                        for message in _pop_lines(incoming):
                            self._inbox.put(message)

    def _hello(self) -> bytes:
        fields = {"name": self.name, "pid": os.getpid(), "version": __version__, "protocol": PROTOCOL}
        return encode({"kind": "hello", "state": self._state()} | fields)


def _redirect_output_to_log() -> None:
    log = os.environ.pop(STDERR_VARIABLE, "")
    if log:
        os.dup2(int(log), 1)
        os.dup2(int(log), 2)
        os.close(int(log))


@contextmanager
def unix_socket_address(path: Path) -> Iterator[str]:
    """Yield an address for a Unix socket whose path may be longer than the 107 bytes of an address.

    Parameters
    ----------
    path
        Path of the socket.

    Yields
    ------
    str
        A short path through ``/proc``, valid within the ``with`` block.
    """
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _update_selector(selector: selectors.BaseSelector, connection: socket.socket, writing: bool) -> None:
    events = selectors.EVENT_READ | (selectors.EVENT_WRITE if writing else 0)
    if connection in selector.get_map():
        selector.modify(connection, events)
    else:
        selector.register(connection, events)


def encode(message: Message) -> bytes:
    """Encode a message as a line of JSON.

    Parameters
    ----------
    message
        The message.

    Returns
    -------
    bytes
        The line, with its line feed.
    """
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def _pop_lines(incoming: bytearray) -> list[Message]:
    """Remove the complete lines from a buffer and return their messages."""
    *lines, rest = bytes(incoming).split(b"\n")
    incoming[:] = rest
    return [json.loads(line) for line in lines if line]
