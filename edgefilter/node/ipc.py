"""The link between the supervisor and its children: JSON objects, a line each, over a Unix socket.

A child finds the socket's path and its own name in its environment and connects. A thread of the link does all the
talking, so that the child's work never waits for the supervisor, and its heart beats while the work is in a long call.
When the supervisor dies the child goes on and connects to the next one, with ``hello`` and its whole state; only when
none has come for :data:`ORPHAN_SECONDS` is it told to end.

Every message has a ``kind``. The link itself sends ``hello`` (name, pid, version, state) and ``beat`` (state, and
``idle``: seconds since the work last called :meth:`Link.mark`); what else is said is up to the two ends.
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
from types import TracebackType
from typing import Any, Self

from edgefilter.core.version import __version__

Message = dict[str, Any]

LINK_VARIABLE = "EDGEFILTER_LINK"
"""Environment variable: path of the supervisor's socket."""
NAME_VARIABLE = "EDGEFILTER_CHILD"
"""Environment variable: what the supervisor calls this child."""
STDERR_VARIABLE = "EDGEFILTER_STDERR"
"""Environment variable: descriptor of the log. Before a child is connected, it complains to its supervisor alone."""
BEAT_SECONDS = 0.25
ORPHAN_SECONDS = 60.0
"""How long a child waits for a new supervisor before it ends, s."""

_RETRY_SECONDS = 0.05
_WAITING_MESSAGES = 10_000  # kept for the next supervisor at most


class Link:
    """A child's end of the link.

    Parameters
    ----------
    path
        Socket of the supervisor.
    name
        What the supervisor calls this child.
    state
        Gives the child's whole state, JSON types only; called in the link's thread at every beat.
    """

    def __init__(self, path: str | Path, name: str, state: Callable[[], Message] = dict) -> None:
        self.name = name
        self._path = Path(path)
        self._state = state
        self._inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._outbox: deque[bytes] = deque(maxlen=_WAITING_MESSAGES)
        self._marked = time.monotonic()
        self._closing = False
        self._woken = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="link", daemon=True)
        self._thread.start()

    @classmethod
    def from_environment(cls, state: Callable[[], Message] = dict) -> Self:
        """Connect to the supervisor that started this process.

        Raises
        ------
        KeyError
            If no supervisor did.
        """
        return cls(os.environ[LINK_VARIABLE], os.environ[NAME_VARIABLE], state)

    def report(self, state: Callable[[], Message]) -> None:
        """Take the state from here from now on."""
        self._state = state

    def mark(self) -> None:
        """Say that the work goes on; whoever does not for long is taken for hung."""
        self._marked = time.monotonic()

    def tell(self, kind: str, **facts: Any) -> None:
        """Send a message; never waits. What cannot be sent now goes to the next supervisor."""
        self._outbox.append(encode({"kind": kind} | facts))
        os.eventfd_write(self._woken, 1)

    def receive(self, timeout: float | None = None) -> Message | None:
        """Return the next message; None if none comes within ``timeout``, s.

        A message of kind ``orphaned`` comes from the link itself: there is no supervisor any more.
        """
        try:
            return self._inbox.get(timeout=timeout) if timeout is None or timeout > 0 else self._inbox.get_nowait()
        except queue.Empty:
            return None

    def close(self, timeout: float = 1.0) -> None:
        """Send what waits, for so many seconds at most, and disconnect."""
        self._closing = True
        os.eventfd_write(self._woken, 1)
        self._thread.join(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- the link's thread

    def _run(self) -> None:
        alone_since = time.monotonic()
        told = False
        while not self._closing:
            with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as end:
                with reachable(self._path) as address:
                    end.connect(address)
                end.setblocking(False)
                _log_to_the_log()
                try:
                    self._talk(end)
                finally:
                    alone_since, told = time.monotonic(), False
            if not told and time.monotonic() - alone_since > ORPHAN_SECONDS:
                self._inbox.put({"kind": "orphaned"})
                told = True
            time.sleep(_RETRY_SECONDS)

    def _talk(self, end: socket.socket) -> None:
        """Send and receive until the other end closes (OSError or return) or this one wants to."""
        outgoing = bytearray(self._hello())
        incoming = bytearray()
        beat_at = 0.0
        with selectors.DefaultSelector() as selector:
            selector.register(self._woken, selectors.EVENT_READ)
            while outgoing or self._outbox or not self._closing:
                while self._outbox:
                    outgoing += self._outbox.popleft()
                now = time.monotonic()
                if now >= beat_at and len(outgoing) < 1 << 20:  # a supervisor that does not read needs no more beats
                    outgoing += encode({"kind": "beat", "idle": now - self._marked, "state": self._state()})
                    beat_at = now + BEAT_SECONDS
                _watch(selector, end, bool(outgoing))
                for key, ready in selector.select(max(0.0, beat_at - now)):
                    if key.fileobj == self._woken:
                        os.eventfd_read(self._woken)
                        continue
                    if ready & selectors.EVENT_WRITE:
                        del outgoing[: end.send(outgoing)]
                    if ready & selectors.EVENT_READ:
                        data = end.recv(1 << 16)
                        if not data:
                            return
                        incoming += data
                        for message in _split(incoming):
                            self._inbox.put(message)

    def _hello(self) -> bytes:
        facts = {"name": self.name, "pid": os.getpid(), "version": __version__, "state": self._state()}
        return encode({"kind": "hello"} | facts)


def _log_to_the_log() -> None:
    log = os.environ.pop(STDERR_VARIABLE, "")
    if log:
        os.dup2(int(log), 1)
        os.dup2(int(log), 2)
        os.close(int(log))


@contextmanager
def reachable(path: Path) -> Iterator[str]:
    """Give an address for a Unix socket whose path may be longer than the 107 bytes that an address holds."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _watch(selector: selectors.BaseSelector, end: socket.socket, writing: bool) -> None:
    events = selectors.EVENT_READ | (selectors.EVENT_WRITE if writing else 0)
    if end in selector.get_map():
        selector.modify(end, events)
    else:
        selector.register(end, events)


def encode(message: Message) -> bytes:
    """Make a line of a message."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def _split(incoming: bytearray) -> list[Message]:
    """Take the whole lines out of a buffer."""
    *lines, rest = bytes(incoming).split(b"\n")
    incoming[:] = rest
    return [json.loads(line) for line in lines if line]
