"""A ZeroMQ input: one endpoint of the node. It checks frames and copies their samples into one ring.

No message can stop it: a message that violates the wire format is counted by kind and dropped before it reaches the
ring. A frame is copied once, from ZeroMQ's message to its place in the ring. (``recv_into`` would also copy once,
inside ZeroMQ, but the place is known only from the header, and a malformed frame would already be in the ring.)

When the ring is full under the policy *hold*, the input stops reading. That fills ZeroMQ's queues and blocks the
sender; PUSH and PULL sockets lose nothing.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any, Self

import zmq

from edgefilter.core.endpoint import check_encryption, check_endpoint
from edgefilter.core.errors import ConfigError, InputError, WireError
from edgefilter.core.stream import Stream
from edgefilter.node.ring import RingWriter
from edgefilter.sources.live import zmq_connections
from edgefilter.sources.live.curve_keys import AllowList, load_key_pair
from edgefilter.sources.live.zmq_wire import (
    HEADER_BYTES,
    MAX_PAYLOAD,
    MessageHeader,
    MessageKind,
    check_frame,
    parse_message,
    parse_stream,
    stream_key,
)

_QUEUE_MESSAGES = 16  # in ZeroMQ's queue for one sender; 256 MiB of the largest frames
_POLL_MS = 50
_QUIET_MS = 100  # when no message arrives for so long, all that was sent has arrived


@dataclass(frozen=True, slots=True)
class ZmqInputSettings:
    """Settings of a ZeroMQ input.

    Parameters
    ----------
    name
        Name of the stream in the node.
    endpoint
        Where to listen, such as ``tcp://127.0.0.1:5555``; with port ``*`` the system chooses the port.
    connect
        Whether to connect to the endpoint instead of binding it.
    insecure
        Whether other machines may reach the endpoint without CURVE encryption.
    late_seconds
        How long after newer samples missing ones may still arrive, s of signal; later they count as lost.
    max_gap_seconds
        Maximum distance from the newest sample to a later frame, s of signal.
    ring
        File of the ring, if it exists already.
    curve_key, curve_clients
        The node's ``.key_secret`` file and the folder of the senders' ``.key`` files; None is without CURVE.
    bind_seconds
        How long to wait for an endpoint that another receiver still uses, s.
    """

    name: str
    endpoint: str
    connect: bool = False
    insecure: bool = False
    late_seconds: float = 0.5
    max_gap_seconds: float = 3600.0
    ring: str | None = None
    curve_key: str | None = None
    curve_clients: str | None = None
    bind_seconds: float = 10.0

    @classmethod
    def from_message(cls, fields: dict[str, Any]) -> Self:
        """Make settings from a message.

        Parameters
        ----------
        fields
            The settings by name; others are ignored.
        """
        return cls(**{name: fields[name] for name in cls.__dataclass_fields__ if name in fields})


@dataclass
class ZmqInputCounters:
    """Counters of a ZeroMQ input. Only its thread writes them; any thread may read them.

    Parameters
    ----------
    frames, bytes
        Well-formed frames of the stream, and bytes of their payloads.
    samples, repeated, late
        Samples that were written, repeated or late: see :class:`~edgefilter.node.ring.WriteResult`.
    unknown_stream
        Frames and ends of a stream that is not the ring's, or that arrived before a stream header.
    other_stream
        Stream headers that are not the ring's, which were refused.
    malformed
        Messages that violate the wire format, by the kind of :class:`~edgefilter.core.errors.WireError`.
    ended
        Whether the sender has ended the stream.
    """

    frames: int = 0
    bytes: int = 0
    samples: int = 0
    repeated: int = 0
    late: int = 0
    unknown_stream: int = 0
    other_stream: int = 0
    malformed: Counter[str] = field(default_factory=Counter)
    ended: bool = False


class ZmqInput:
    """Receives one stream. It listens from its creation on; :meth:`run` receives.

    Parameters
    ----------
    settings
        The settings.
    on_stream
        Called in the thread of :meth:`run` with the first stream that arrives while there is no ring. The input then
        waits until :meth:`set_ring` names the ring.
    drain_seconds
        Maximum time for which :meth:`run` receives after :meth:`drain` or :meth:`retire`, s.

    Raises
    ------
    ConfigError
        If the endpoint is not valid, other machines can reach it without encryption, or the keys cannot be used.
    InputError
        If it cannot listen at the endpoint, or the ring's file is not a ring.
    """

    def __init__(
        self, settings: ZmqInputSettings, on_stream: Callable[[Stream], None], drain_seconds: float = 5.0
    ) -> None:
        check_endpoint(settings.endpoint)
        check_encryption(settings.endpoint, settings.curve_key is not None, settings.insecure)
        self.settings = settings
        self.counters = ZmqInputCounters()
        self.ring: RingWriter | None = None
        self.stream: Stream | None = None
        self.connections = 0
        self.waiting = False
        """Whether a frame waits for room in the ring, or for the ring."""
        self.last_loop_time = time.monotonic()
        """When the last turn of the loop began, s of the monotonic clock."""
        self._on_stream = on_stream
        self._drain_seconds = drain_seconds
        self._path = Path(settings.ring) if settings.ring else None
        self._ring_set = Event()
        self._stopping = Event()
        self._draining = False
        self._newest = 0  # one past the newest sample of all frames
        self._allowed: AllowList | None = None
        self._peers: set[int] = set()
        self._next_count_time = 0.0
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            if self._path is not None:
                self._attach(self._path)
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        settings = self.settings
        self._socket = self._context.socket(zmq.PULL)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVHWM, _QUEUE_MESSAGES)
        self._socket.setsockopt(zmq.RCVTIMEO, _POLL_MS)
        self._socket.setsockopt(zmq.MAXMSGSIZE, 2 * (HEADER_BYTES + MAX_PAYLOAD))  # ZeroMQ disconnects larger ones
        if settings.curve_key is not None:
            self._enable_curve(settings.curve_key, settings.curve_clients)
        self._monitor = zmq_connections.open_monitor(self._socket)
        try:
            (self._socket.connect if settings.connect else self._bind_with_retry)(settings.endpoint)
        except zmq.ZMQError as error:
            what = "connect to" if settings.connect else "listen at"
            raise InputError(f"cannot {what} {settings.endpoint}: {error.strerror}") from None
        self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        """Where it listens, with the actual port."""

    def _bind_with_retry(self, endpoint: str) -> None:
        """Bind as soon as the endpoint is free."""
        deadline = time.monotonic() + self.settings.bind_seconds
        while True:
            try:
                self._socket.bind(endpoint)
                return
            except zmq.ZMQError as error:
                if error.errno != zmq.EADDRINUSE or time.monotonic() >= deadline:
                    raise
            time.sleep(_POLL_MS / 1000)

    def _enable_curve(self, key: str, clients: str | None) -> None:
        # Imported here because it imports asyncio.
        from zmq.auth.thread import ThreadAuthenticator

        if clients is None:
            raise ConfigError(
                f"input {self.settings.name}: curve_key needs curve_clients, the folder of the senders' public keys"
            )
        pair = load_key_pair(key)
        self._allowed = AllowList(clients)
        self._authenticator = ThreadAuthenticator(self._context)
        self._authenticator.start()
        self._authenticator.configure_curve_callback(self.settings.name, self._allowed)
        self._socket.curve_publickey, self._socket.curve_secretkey = pair.public, pair.secret
        self._socket.curve_server = True
        # The socket and the authenticator must have the same domain; otherwise every sender is refused.
        self._socket.setsockopt_string(zmq.ZAP_DOMAIN, self.settings.name)

    @property
    def refused(self) -> int:
        """Number of handshakes with keys that are not allowed."""
        return 0 if self._allowed is None else self._allowed.refused

    def set_ring(self, path: str | Path) -> None:
        """Set the ring of the stream that :meth:`run` has reported. Any thread may call it.

        Parameters
        ----------
        path
            File of the ring.
        """
        self._path = Path(path)
        self._ring_set.set()

    def drain(self) -> None:
        """Let :meth:`run` receive what has arrived, end the run there, and return. Any thread may call it."""
        self._draining = True
        self._stopping.set()

    def retire(self) -> None:
        """Let :meth:`run` receive what has arrived and return; the run continues in another receiver."""
        self._stopping.set()

    def run(self) -> None:
        """Receive until :meth:`drain` or :meth:`retire`, then close the socket.

        Raises
        ------
        InputError
            If the file of the ring is not a ring.
        """
        try:
            while not self._stopping.is_set():
                self._receive_one()
            if not self._draining and not self.settings.connect:
                self._socket.unbind(self.endpoint)  # the next receiver binds it
            self._drain_queue()
            if self._draining and self.ring is not None:
                self.ring.end(max(self.ring.head, self._newest))
        finally:
            self.close()

    def close(self) -> None:
        """Close the socket. :meth:`run` does this itself; call it for an input that never ran."""
        if hasattr(self, "_authenticator"):
            self._authenticator.stop()
        self._context.destroy(0)

    def _receive_one(self) -> bool:
        """Receive one message; return False if none arrives before the socket's timeout."""
        self.last_loop_time = time.monotonic()
        if self.last_loop_time >= self._next_count_time:
            self._count_peers()
            self._next_count_time = self.last_loop_time + _POLL_MS / 1000
        try:
            message = self._socket.recv(copy=False)
        except zmq.Again:
            return False
        self._handle_message(message.buffer)
        return True

    def _drain_queue(self) -> None:
        # Limited in time, because a sender that never pauses always has messages in the queue.
        deadline = time.monotonic() + self._drain_seconds
        self._socket.setsockopt(zmq.RCVTIMEO, _QUIET_MS)
        while time.monotonic() < deadline and self._receive_one():
            pass

    def _count_peers(self) -> None:
        for event, connection in zmq_connections.read_events(self._monitor):
            if event & zmq_connections.CONNECTED:
                self._peers.add(connection)
            elif event == zmq_connections.DISCONNECTED:
                self._peers.discard(connection)
        self.connections = len(self._peers)

    def _handle_message(self, message: memoryview) -> None:
        try:
            header, payload = parse_message(message)
            if header.kind is MessageKind.STREAM:
                self._handle_stream(parse_stream(header, payload))
            elif self.ring is None or stream_key(self.ring.stream) != header.digest:
                self.counters.unknown_stream += 1
            elif header.kind is MessageKind.END:
                self.ring.end(header.start)
                self.counters.ended = True
            else:
                self._handle_frame(self.ring, header, payload)
        except WireError as error:
            self.counters.malformed[error.kind] += 1

    def _handle_stream(self, stream: Stream) -> None:
        if self.ring is None:
            self.stream = stream
            self._on_stream(stream)
            self.waiting = True
            while not self._ring_set.wait(_POLL_MS / 1000) and not self._stopping.is_set():
                self.last_loop_time = time.monotonic()
            self.waiting = False
            if self._path is not None:
                self._attach(self._path)
        if self.ring is not None and stream != self.ring.stream:
            self.counters.other_stream += 1

    def _attach(self, path: Path) -> None:
        ring = RingWriter.attach(path)
        ring.slack = round(self.settings.late_seconds * ring.stream.rate)
        ring.max_gap_samples = round(self.settings.max_gap_seconds * ring.stream.rate)
        self.ring, self.stream = ring, ring.stream
        self.counters.ended = ring.last is not None

    def _handle_frame(self, ring: RingWriter, header: MessageHeader, payload: memoryview) -> None:
        check_frame(header, ring.stream)
        start, size = header.start, ring.stream.sample_bytes
        counters = self.counters
        result = ring.write(start, payload)
        counters.frames += 1
        counters.bytes += len(payload)
        self._newest = max(self._newest, start + header.samples)
        while True:
            counters.samples += result.written
            counters.repeated += result.repeated
            counters.late += result.late
            if not result.held or not self._wait_for_room(ring):
                return
            start = header.start + header.samples - result.held
            result = ring.write(start, payload[(start - header.start) * size :])

    def _wait_for_room(self, ring: RingWriter) -> bool:
        """Wait until the ring has room; return False if the input must stop before that."""
        deadline: float | None = None
        self.waiting = True
        while not ring.wait_for_room(_POLL_MS / 1000):
            self.last_loop_time = time.monotonic()
            if self._stopping.is_set():
                deadline = deadline or self.last_loop_time + self._drain_seconds
                if self.last_loop_time >= deadline:
                    break
        else:
            deadline = None
        self.waiting = False
        return deadline is None

    def status(self) -> dict[str, Any]:
        """Return the state of the input, JSON types only. Any thread may call it."""
        ring, stream = self.ring, self.stream
        return {
            "endpoint": self.endpoint,
            "header": stream.to_json() if stream is not None else None,
            "ring": str(self._path) if self._path is not None else None,
            "counters": vars(self.counters) | {"malformed": dict(self.counters.malformed)},
            "head": ring.head if ring is not None else None,
            "tail": ring.tail if ring is not None else None,
            "lost": ring.lost if ring is not None else 0,
            "lag": _lag(ring) if ring is not None else 0,
            "connections": self.connections,
            "refused": self.refused,
            "waiting": self.waiting,
        }


def _lag(ring: RingWriter) -> int:
    """Return the number of samples from the slowest reader's cursor to the newest sample."""
    cursors = [reader.cursor for reader in ring.readers() if reader.cursor is not None]
    return max(0, ring.head - max(min(cursors), ring.tail)) if cursors else 0
