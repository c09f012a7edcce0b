"""An inlet: one endpoint of the node, from ZeroMQ into one ring. It checks and places, and never computes.

Nothing that arrives can stop it. What breaks the wire format is counted by kind and dropped whole before it touches the
ring. A frame is received whole and copied once, from ZeroMQ's message to its place. (``recv_into`` the place would copy
as often inside ZeroMQ, but a header must be read before one knows where that is, and a bad frame would be in the ring.)

When the ring is full under the policy *hold* the inlet stops reading, which fills ZeroMQ's queues and holds up the
sender: PUSH and PULL lose nothing.
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

_QUEUE_MESSAGES = 16  # that ZeroMQ may hold for one sender; of the largest frames 256 MiB
_POLL_MS = 50  # how soon a wish is seen
_QUIET_MS = 100  # without a message: all that was sent has arrived


@dataclass(frozen=True, slots=True)
class ZmqInputSettings:
    """What an inlet must know.

    Parameters
    ----------
    name
        What the node calls it.
    endpoint
        Where to listen, such as ``tcp://127.0.0.1:5555``; port ``*`` lets the system choose.
    connect
        Connect to the endpoint instead of binding it.
    insecure
        Go without CURVE where other machines can reach the endpoint.
    late_seconds
        How much newer samples must have come before missing ones are given up, s of signal.
    max_gap_seconds
        How far ahead of the newest sample a frame may lie, s of signal.
    ring
        The ring's file, if there is one already.
    curve_key, curve_clients
        The node's ``.key_secret`` file and the folder of the senders' ``.key`` files; None is without CURVE.
    bind_seconds
        How long to wait for an endpoint that another receiver is about to leave, s.
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
        """Take the settings out of a message; what it has beyond them is ignored."""
        return cls(**{name: fields[name] for name in cls.__dataclass_fields__ if name in fields})


@dataclass
class ZmqInputCounters:
    """What an inlet has met so far. Written by its thread alone; any thread may read.

    Parameters
    ----------
    frames, bytes
        Frames of the stream that were well formed, and the bytes of their payloads.
    samples, repeated, late
        What became of their samples: see :class:`~edgefilter.node.ring.WriteResult`.
    unknown_stream
        Frames and ends of no stream or of another one than the ring's.
    other_stream
        Descriptions of another stream than the ring's, which were refused.
    malformed
        Messages that break the wire format, by the kind of :class:`~edgefilter.core.errors.WireError`.
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
    """Receives one stream; listening from the start, at work while :meth:`run` runs.

    Parameters
    ----------
    settings
        Where and how.
    on_stream
        Called in the thread of :meth:`run` with the first stream that arrives while there is no ring. Nothing more is
        read until :meth:`set_ring` names one.
    drain_seconds
        How long :meth:`run` goes on after :meth:`drain` to take in what has arrived, at most, s.

    Raises
    ------
    ConfigError
        If the endpoint cannot be one, is open to other machines, or the keys cannot be used.
    InputError
        If it cannot listen there, or the ring is none.
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
        """Whether a frame waits for room in the ring, or for a ring."""
        self.last_loop_time = time.monotonic()
        """When the loop last came round, by the monotonic clock."""
        self._on_stream = on_stream
        self._drain_seconds = drain_seconds
        self._path = Path(settings.ring) if settings.ring else None
        self._ring_set = Event()
        self._stopping = Event()
        self._draining = False
        self._newest = 0  # one past the newest sample that any frame has brought
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
        self._socket.setsockopt(zmq.MAXMSGSIZE, 2 * (HEADER_BYTES + MAX_PAYLOAD))  # beyond, ZeroMQ drops the peer
        if settings.curve_key is not None:
            self._enable_curve(settings.curve_key, settings.curve_clients)
        self._monitor = zmq_connections.open_monitor(self._socket)
        try:
            (self._socket.connect if settings.connect else self._bind_with_retry)(settings.endpoint)
        except zmq.ZMQError as error:
            what = "connect to" if settings.connect else "listen at"
            raise InputError(f"cannot {what} {settings.endpoint}: {error.strerror}") from None
        self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        """Where it listens, with the port that the system chose."""

    def _bind_with_retry(self, endpoint: str) -> None:
        """Bind, as soon as whoever has the endpoint leaves it."""
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
        # Imported here, because it brings asyncio along.
        from zmq.auth.thread import ThreadAuthenticator

        if clients is None:
            raise ConfigError(f"input {self.settings.name}: curve_key needs curve_clients, the folder of who may send")
        pair = load_key_pair(key)
        self._allowed = AllowList(clients)
        self._authenticator = ThreadAuthenticator(self._context)
        self._authenticator.start()
        self._authenticator.configure_curve_callback(self.settings.name, self._allowed)
        self._socket.curve_publickey, self._socket.curve_secretkey = pair.public, pair.secret
        self._socket.curve_server = True
        # The domain of the socket and that of the authenticator must agree, or everybody is refused.
        self._socket.setsockopt_string(zmq.ZAP_DOMAIN, self.settings.name)

    @property
    def refused(self) -> int:
        """Handshakes with keys that are not allowed."""
        return 0 if self._allowed is None else self._allowed.refused

    def set_ring(self, path: str | Path) -> None:
        """Name the ring for the stream that was described. Safe from any thread."""
        self._path = Path(path)
        self._ring_set.set()

    def drain(self) -> None:
        """Ask :meth:`run` to take in what has arrived, to end the run there, and to return. Safe from any thread."""
        self._draining = True
        self._stopping.set()

    def retire(self) -> None:
        """Ask :meth:`run` to take in what has arrived and to return; the run goes on without this inlet."""
        self._stopping.set()

    def run(self) -> None:
        """Receive until :meth:`drain` or :meth:`retire`; then give back the socket.

        Raises
        ------
        InputError
            If the ring that was named is none, or of another stream. Nothing else.
        """
        try:
            while not self._stopping.is_set():
                self._receive_one()
            if not self._draining and not self.settings.connect:
                self._socket.unbind(self.endpoint)  # for the receiver that comes instead
            self._drain_queue()
            if self._draining and self.ring is not None:
                self.ring.end(max(self.ring.head, self._newest))
        finally:
            self.close()

    def close(self) -> None:
        """Give back the socket; :meth:`run` does so itself, this is for an inlet that never ran."""
        if hasattr(self, "_authenticator"):
            self._authenticator.stop()
        self._context.destroy(0)

    def _receive_one(self) -> bool:
        """Take one message in, if one comes soon; say whether one came."""
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
        # Bounded in time: a sender that never pauses would keep the queue filled for ever.
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
        """Wait until the ring has room; False if the inlet must leave before."""
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
        """Return all that is to be known of it from outside, JSON types only. Safe from any thread."""
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
    """Count the samples between the slowest reader's cursor and the newest one."""
    cursors = [reader.cursor for reader in ring.readers() if reader.cursor is not None]
    return max(0, ring.head - max(min(cursors), ring.tail)) if cursors else 0
