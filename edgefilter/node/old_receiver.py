"""The receiver: takes a live stream from ZeroMQ into a ring. It checks and places, and never computes.

Nothing that arrives can stop it. What breaks the wire format is counted by kind and dropped whole, so a bad byte never
reaches the ring. When the ring is full the receiver stops reading, which fills ZeroMQ's queues and holds up the sender:
PUSH and PULL lose nothing.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event

import zmq

from edgefilter.errors import InputError, WireError
from edgefilter.node.ring import Ring
from edgefilter.sources.wire import (
    HEADER_BYTES,
    MAX_PAYLOAD,
    Header,
    MessageKind,
    check_frame,
    parse_message,
    parse_stream,
    stream_key,
)
from edgefilter.stream import Stream

_QUEUE_BYTES = 256 << 20  # most that ZeroMQ may hold for one sender
_POLL_MS = 50  # how soon a wish to stop is seen


@dataclass
class ReceiverCounters:
    """What a receiver has met so far. Written by its thread alone; any thread may read.

    Parameters
    ----------
    frames, bytes
        Frames of the stream that were well formed, and the bytes of their payloads.
    samples, repeated, late
        What became of their samples: see :class:`~edgefilter.node.ring.Placed`.
    unknown_stream
        Frames and ends of no stream or of another one than the ring's.
    other_stream
        Descriptions of another stream than the ring's, which were refused.
    malformed
        Messages that break the wire format, by the kind of :class:`~edgefilter.errors.WireError`.
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


class Receiver:
    """Receives one stream; bound from the start, at work while :meth:`run` runs.

    Parameters
    ----------
    endpoint
        Where to listen, such as ``tcp://127.0.0.1:5555``; port ``*`` lets the system choose.
    ring_factory
        Makes the ring when the first description of a stream arrives, and hands it to the reader. Called once, in the
        thread of :meth:`run`.
    context
        ZeroMQ context to use; an own one if None.
    drain_seconds
        How long :meth:`run` goes on after :meth:`stop` to take in what has arrived, at most, s.

    Raises
    ------
    InputError
        If it cannot listen there.
    """

    def __init__(
        self,
        endpoint: str,
        ring_factory: Callable[[Stream], Ring],
        context: "zmq.Context[zmq.Socket[bytes]] | None" = None,
        drain_seconds: float = 5.0,
    ) -> None:
        self.counters = ReceiverCounters()
        self.ring: Ring | None = None
        self._ring_factory = ring_factory
        self._drain_seconds = drain_seconds
        self._stop = Event()
        self._own_context = context is None
        self._context = zmq.Context() if context is None else context
        self._socket = self._context.socket(zmq.PULL)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVHWM, _QUEUE_BYTES // MAX_PAYLOAD)
        self._socket.setsockopt(zmq.MAXMSGSIZE, 2 * (HEADER_BYTES + MAX_PAYLOAD))  # beyond, ZeroMQ drops the peer
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise InputError(f"cannot listen at {endpoint}: {error.strerror}") from None
        self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        """Where it listens, with the port that the system chose."""

    def run(self) -> None:
        """Receive until :meth:`stop`, or until the reader closes the ring; then close the ring and the socket.

        Raises
        ------
        Exception
            What ``ring_factory`` raises; nothing else.
        """
        try:
            while not self._stop.is_set() and not self._reader_is_gone():
                if self._socket.poll(_POLL_MS):
                    self._take()
            self._drain()
        except zmq.ContextTerminated:
            pass
        finally:
            if self.ring is not None:
                self.ring.close()
            self.close()

    def stop(self) -> None:
        """Ask :meth:`run` to take in what has arrived and return. Safe from any thread or signal handler."""
        self._stop.set()

    def close(self) -> None:
        """Give back the socket; :meth:`run` does so itself, this is for a receiver that never ran."""
        self._socket.close()
        if self._own_context:
            self._context.term()

    def _drain(self) -> None:
        # Bounded in time: a sender that never pauses would keep the queue filled for ever.
        deadline = time.monotonic() + self._drain_seconds
        while not self._reader_is_gone() and time.monotonic() < deadline and self._socket.poll(0):
            self._take()

    def _reader_is_gone(self) -> bool:
        return self.ring is not None and self.ring.closed

    def _take(self) -> None:
        """Take one message in."""
        message = self._socket.recv(copy=False)
        try:
            header, payload = parse_message(message.buffer)
            if header.kind is MessageKind.STREAM:
                self._take_stream(parse_stream(header, payload))
            elif self.ring is None or stream_key(self.ring.stream) != header.digest:
                self.counters.unknown_stream += 1
            elif header.kind is MessageKind.END:
                self.ring.end(header.start)
                self.counters.ended = True
            else:
                self._take_frame(self.ring, header, payload)
        except WireError as error:
            self.counters.malformed[error.kind] += 1

    def _take_stream(self, stream: Stream) -> None:
        if self.ring is None:
            self.ring = self._ring_factory(stream)
        elif stream != self.ring.stream:
            self.counters.other_stream += 1

    def _take_frame(self, ring: Ring, header: Header, payload: memoryview) -> None:
        check_frame(header, ring.stream)
        self.counters.frames += 1
        self.counters.bytes += len(payload)
        start = header.start
        while True:
            placed = ring.place(start, payload)
            self.counters.samples += placed.written
            self.counters.repeated += placed.repeated
            self.counters.late += placed.late
            if not placed.held or not ring.wait_for_room():
                return
            taken = len(payload) // ring.stream.sample_bytes - placed.held
            start += taken
            payload = payload[taken * ring.stream.sample_bytes :]
