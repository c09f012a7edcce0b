"""The telescope's side of the wire: plays a source into a receiver, at its own pace or as fast as it is taken."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import Event
from types import TracebackType
from typing import Self

import zmq
from zmq.utils.monitor import recv_monitor_message

from edgefilter.chunk import Chunk, Loss, complement
from edgefilter.errors import InputError
from edgefilter.sources import Source
from edgefilter.sources.wire import MAX_PAYLOAD, pack_end, pack_frame_header, pack_stream

_QUEUE_BYTES = 8 << 20  # what may wait here for the network
_SEND_MS = 50  # how soon a wish to stop is seen while nobody takes a message
_LINGER_MS = 60_000  # how long what was sent may take to leave at the end


@dataclass(frozen=True, slots=True)
class SendReport:
    """What was sent.

    Parameters
    ----------
    frames, samples, bytes
        Frames sent, their samples and the bytes of their payloads.
    dropped_frames, dropped_samples
        Frames lost on purpose, and their samples.
    end
        One past the last sample, as told to the receiver.
    seconds
        How long it took, s.
    """

    frames: int
    samples: int
    bytes: int
    dropped_frames: int
    dropped_samples: int
    end: int
    seconds: float


def send(
    source: Source,
    endpoint: str,
    speed: float | None,
    frame_bytes: int = 1 << 20,
    drop: Callable[[int], bool] | None = None,
    repeat_header_seconds: float = 1.0,
    stop: Event | None = None,
    patience: float = 10.0,
    context: "zmq.Context[zmq.Socket[bytes]] | None" = None,
) -> SendReport:
    """Send all samples that a source has, from sample 0 to its end.

    Frames are cut at multiples of a fixed number of samples and around the source's gaps: what is missing is not sent.
    A receiver that is there but slow holds the sender up; only the absence of a receiver is an error.

    Parameters
    ----------
    source
        What to send.
    endpoint
        Where the receiver listens, such as ``tcp://127.0.0.1:5555``.
    speed
        Pace as a multiple of real time; None is as fast as possible.
    frame_bytes
        Most bytes in a frame (a frame has one sample at least).
    drop
        Says of each frame, by its number from 0, whether to lose it on purpose.
    repeat_header_seconds
        How often the stream's description is repeated, s, for receivers that start later.
    stop
        Ends the sending early when set; the receiver is told so.
    patience
        How long to wait while nobody receives, s.
    context
        ZeroMQ context to use; an own one if None.

    Raises
    ------
    InputError
        If the endpoint cannot be or nobody receives there.
    ValueError
        If ``speed`` or ``frame_bytes`` is out of range.
    """
    if speed is not None and speed <= 0:
        raise ValueError(f"speed is {speed}, must be positive")
    if not 1 <= frame_bytes <= MAX_PAYLOAD:
        raise ValueError(f"frame_bytes is {frame_bytes}, must be 1 to {MAX_PAYLOAD}")
    stop = stop or Event()
    with _Link(endpoint, max(2, _QUEUE_BYTES // frame_bytes), patience, stop, context) as link:
        return _play(source, link, _Pace(source, speed, stop), frame_bytes, drop, repeat_header_seconds)


def _play(
    source: Source,
    link: "_Link",
    pace: "_Pace",
    frame_bytes: int,
    drop: Callable[[int], bool] | None,
    repeat_header_seconds: float,
) -> SendReport:
    stream = source.stream
    began = time.monotonic()
    frames = samples = dropped_frames = dropped_samples = end = 0
    stopped = not link.send(pack_stream(stream))
    repeat_at = began + repeat_header_seconds
    for start, data in _frames(source, max(1, frame_bytes // stream.sample_bytes)):
        count = len(data) // stream.sample_bytes
        stopped = not pace.wait_for(start + count)
        if not stopped and time.monotonic() >= repeat_at:
            stopped = not link.send(pack_stream(stream))
            repeat_at = time.monotonic() + repeat_header_seconds
        if stopped:
            break
        if drop is not None and drop(frames + dropped_frames):
            dropped_frames += 1
            dropped_samples += count
        elif link.send(b"".join((pack_frame_header(stream, start, count), data))):
            frames += 1
            samples += count
        else:
            stopped = True
            break
        end = start + count
    if not stopped:
        end = source.samples
    link.send(pack_end(stream, end))
    return SendReport(
        frames,
        samples,
        samples * stream.sample_bytes,
        dropped_frames,
        dropped_samples,
        end,
        time.monotonic() - began,
    )


def _frames(source: Source, step: int) -> Iterator[tuple[int, memoryview]]:
    """Yield first sample and bytes of all frames, of up to ``step`` samples."""
    for start in range(0, source.samples, step):
        chunk = source.read(start, min(start + step, source.samples))
        for here, there in _present(chunk):
            yield here, chunk.data[here - start : there - start].reshape(-1).data


def _present(chunk: Chunk) -> list[tuple[int, int]]:
    """Return the runs of samples that a chunk has: the complement of its gaps."""
    gaps = [(gap.start, gap.stop) for gap in chunk.gaps]
    return [(run.start, run.stop) for run in complement(gaps, chunk.start, chunk.stop, Loss.MISSING)]


class _Pace:
    """Lets a frame go when its last sample would have been taken."""

    def __init__(self, source: Source, speed: float | None, stop: Event) -> None:
        self._stream = source.stream
        self._speed = speed
        self._stop = stop
        self._began = time.monotonic()

    def wait_for(self, sample: int) -> bool:
        """Wait until all samples before ``sample`` are due; False if it is time to stop."""
        if self._speed is None:
            return not self._stop.is_set()
        due = self._began + self._stream.seconds(sample) / self._speed
        return not self._stop.wait(max(0.0, due - time.monotonic()))


class _Link:
    """A PUSH socket that knows whether anybody is at the other end."""

    def __init__(
        self,
        endpoint: str,
        queue: int,
        patience: float,
        stop: Event,
        context: "zmq.Context[zmq.Socket[bytes]] | None",
    ) -> None:
        self._endpoint = endpoint
        self._patience = patience
        self._stop = stop
        self._own_context = context is None
        self._context = zmq.Context() if context is None else context
        self._peer = False
        self._socket = self._context.socket(zmq.PUSH)
        self._socket.setsockopt(zmq.SNDHWM, queue)
        self._socket.setsockopt(zmq.SNDTIMEO, _SEND_MS)
        self._socket.setsockopt(zmq.LINGER, _LINGER_MS)
        # Queue for a receiver that is there, not for one that may come: what waits unseen may be lost unseen.
        self._socket.setsockopt(zmq.IMMEDIATE, 1)
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
        try:
            self._socket.connect(endpoint)
        except zmq.ZMQError as error:
            self._close(linger=False)
            raise InputError(f"cannot send to {endpoint}: {error.strerror}") from None

    def send(self, message: bytes) -> bool:
        """Send one message; waits for a receiver that is slow, and for a while for one that is absent.

        Returns
        -------
        bool
            False if the sending was stopped before the message could go.

        Raises
        ------
        InputError
            If nobody receives.
        """
        alone_since = time.monotonic()
        while True:
            try:
                self._socket.send(message)
                return True
            except zmq.Again:
                if self._stop.is_set():
                    return False
            if self._has_peer():
                alone_since = time.monotonic()
            elif time.monotonic() - alone_since >= self._patience:
                raise InputError(f"nobody receives at {self._endpoint}: waited {self._patience:g} s") from None

    def _has_peer(self) -> bool:
        while self._monitor.poll(0):
            self._peer = recv_monitor_message(self._monitor)["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED
        return self._peer

    def _close(self, linger: bool) -> None:
        self._socket.disable_monitor()
        self._monitor.close()
        self._socket.close(None if linger else 0)
        if self._own_context:
            self._context.term()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close(linger=kind is None)
