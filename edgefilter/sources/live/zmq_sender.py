"""Sender of a source over ZeroMQ, in real time or as fast as the receiver takes it."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import Event

from edgefilter.core.chunk import Loss, gaps_between
from edgefilter.core.stream import Stream
from edgefilter.sources.base import Source
from edgefilter.sources.live.curve_keys import SenderKeys
from edgefilter.sources.live.zmq_push_socket import PushSocket
from edgefilter.sources.live.zmq_wire import MAX_PAYLOAD, pack_end, pack_frame_header, pack_stream


@dataclass(frozen=True, slots=True)
class SendOptions:
    """How a source is sent.

    Parameters
    ----------
    frame_bytes
        Most bytes in a frame (a frame has at least one sample).
    repeat_header_seconds
        Interval at which the description of the stream is repeated, s, for receivers that start later.
    receiver_timeout
        Longest time without a receiver, s.
    bind
        Bind the endpoint, for a receiver that connects to it.
    keys
        For a receiver with CURVE.

    Raises
    ------
    ValueError
        If ``frame_bytes`` is out of range.
    """

    frame_bytes: int = 1 << 20
    repeat_header_seconds: float = 1.0
    receiver_timeout: float = 10.0
    bind: bool = False
    keys: SenderKeys | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.frame_bytes <= MAX_PAYLOAD:
            raise ValueError(f"frame_bytes is {self.frame_bytes}, must be 1 to {MAX_PAYLOAD}")


@dataclass(frozen=True, slots=True)
class SendReport:
    """Totals of what was sent.

    Parameters
    ----------
    frames, samples, bytes
        Frames sent, their samples and the bytes of their payloads.
    dropped_frames, dropped_samples
        Frames dropped on purpose, and their samples.
    end
        One past the last sample, as sent to the receiver.
    seconds
        Duration, s.
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
    drop: Callable[[int], bool] | None = None,
    stop: Event | None = None,
    options: SendOptions | None = None,
) -> SendReport:
    """Send all samples of a source, from sample 0 to its end.

    Frames are cut at multiples of a fixed number of samples and around the gaps of the source: missing samples are not
    sent. A slow receiver slows the sender down; only a missing receiver is an error.

    Parameters
    ----------
    source
        The samples.
    endpoint
        Where the receiver listens, such as ``tcp://127.0.0.1:5555``.
    speed
        Pace as a multiple of real time; None is as fast as possible.
    drop
        Says of each frame, by its number from 0, whether to drop it on purpose.
    stop
        Ends the sending early when set; the receiver gets an END message.
    options
        Size of frames, time limits, keys.

    Returns
    -------
    SendReport
        Totals.

    Raises
    ------
    InputError
        If the endpoint is invalid, there is no receiver, or it refuses the keys.
    ValueError
        If ``speed`` is out of range.
    """
    if speed is not None and speed <= 0:
        raise ValueError(f"speed is {speed}, must be positive")
    options = options or SendOptions()
    stop = stop or Event()
    with PushSocket(
        endpoint, options.frame_bytes, options.receiver_timeout, stop, options.bind, options.keys
    ) as push_socket:
        return _send_source(source, push_socket, _Pacer(source.stream, speed, stop), drop, options)


def _send_source(
    source: Source,
    push_socket: PushSocket,
    pacer: "_Pacer",
    drop: Callable[[int], bool] | None,
    options: SendOptions,
) -> SendReport:
    stream = source.stream
    start_time = time.monotonic()
    frames = samples = dropped_frames = dropped_samples = end = 0
    description = pack_stream(stream)
    stopped = not push_socket.send(description)
    repeat_at = start_time + options.repeat_header_seconds
    for start, data in _frames(source, max(1, options.frame_bytes // stream.sample_bytes)):
        count = len(data) // stream.sample_bytes
        stopped = not pacer.wait_for(start + count)
        if not stopped and time.monotonic() >= repeat_at:
            stopped = not push_socket.send(description)
            repeat_at = time.monotonic() + options.repeat_header_seconds
        if stopped:
            break
        if drop is not None and drop(frames + dropped_frames):
            dropped_frames += 1
            dropped_samples += count
        elif push_socket.send(b"".join((pack_frame_header(stream, start, count), data))):
            frames += 1
            samples += count
        else:
            stopped = True
            break
        end = start + count
    if not stopped:
        end = source.samples
    push_socket.finish(pack_end(stream, end))
    return SendReport(
        frames,
        samples,
        samples * stream.sample_bytes,
        dropped_frames,
        dropped_samples,
        end,
        time.monotonic() - start_time,
    )


def _frames(source: Source, step: int) -> Iterator[tuple[int, memoryview]]:
    """Yield first sample and bytes of all frames, of up to ``step`` samples."""
    for start in range(0, source.samples, step):
        chunk = source.read(start, min(start + step, source.samples))
        gaps = [(gap.start, gap.stop) for gap in chunk.gaps]
        # The gaps between the gaps are the runs of samples that are there.
        for run in gaps_between(gaps, chunk.start, chunk.stop, Loss.MISSING):
            yield run.start, chunk.data[run.start - start : run.stop - start].reshape(-1).data


class _Pacer:
    """Delays each frame until the time at which a telescope would have sampled all of it."""

    def __init__(self, stream: Stream, speed: float | None, stop: Event) -> None:
        self._stream = stream
        self._speed = speed
        self._stop = stop
        self._start_time = time.monotonic()

    def wait_for(self, sample: int) -> bool:
        """Wait until all samples before ``sample`` are due; False if ``stop`` was set."""
        if self._speed is None:
            return not self._stop.is_set()
        due = self._start_time + self._stream.seconds(sample) / self._speed
        return not self._stop.wait(max(0.0, due - time.monotonic()))
