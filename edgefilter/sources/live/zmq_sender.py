"""The telescope's side of the wire: plays a source into a receiver, at its own pace or as fast as it is taken.

When a receiver goes and another comes, what was on its way to the first is lost, and a PUSH socket is told nothing. So
the sender repeats its last frames to whoever comes, before anything new: the ring keeps what is new of them and drops
the rest, but a newer frame first would tell it that what was lost need not be waited for. The end is repeated like a
frame, until it has left; what a receiver takes with it into its grave after that, nobody repeats.
"""

import fcntl
import struct
import termios
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import Event
from types import TracebackType
from typing import Self

import zmq

from edgefilter.core.chunk import Chunk, Loss, gaps_between
from edgefilter.core.errors import InputError
from edgefilter.sources.base import Source
from edgefilter.sources.live import zmq_connections
from edgefilter.sources.live.curve_keys import KeyPair
from edgefilter.sources.live.zmq_wire import MAX_PAYLOAD, pack_end, pack_frame_header, pack_stream

_QUEUE_BYTES = 8 << 20  # what may wait here for the network
_WAIT_MS = 50  # how soon a wish to stop is seen while nobody takes a message
_READ_MS = 5  # between two looks at what the system still holds
_LINGER_MS = 60_000  # how long what was sent may take to leave at the end
_MAX_IN_FLIGHT_FRAMES = 24  # most frames in the queues of both ends
_MAX_IN_FLIGHT_BYTES = 64 << 20  # and bytes, those of the two systems included
_MESSAGE_OVERHEAD_BYTES = 256  # of memory that a message takes beside its payload


@dataclass(frozen=True, slots=True)
class SenderKeys:
    """What a sender needs for CURVE: its own pair, and the public key of the node, in Z85."""

    own: KeyPair
    node: bytes


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
    receiver_timeout: float = 10.0,
    bind: bool = False,
    keys: SenderKeys | None = None,
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
    receiver_timeout
        How long to wait while nobody receives, s.
    bind
        Bind the endpoint, for a receiver that connects to it.
    keys
        For a receiver with CURVE.

    Raises
    ------
    InputError
        If the endpoint cannot be, nobody receives there, or the receiver refuses the keys.
    ValueError
        If ``speed`` or ``frame_bytes`` is out of range.
    """
    if speed is not None and speed <= 0:
        raise ValueError(f"speed is {speed}, must be positive")
    if not 1 <= frame_bytes <= MAX_PAYLOAD:
        raise ValueError(f"frame_bytes is {frame_bytes}, must be 1 to {MAX_PAYLOAD}")
    stop = stop or Event()
    with _PushSocket(endpoint, frame_bytes, receiver_timeout, stop, bind, keys) as push_socket:
        return _send_source(source, push_socket, _Pacer(source, speed, stop), frame_bytes, drop, repeat_header_seconds)


def _send_source(
    source: Source,
    push_socket: "_PushSocket",
    pacer: "_Pacer",
    frame_bytes: int,
    drop: Callable[[int], bool] | None,
    repeat_header_seconds: float,
) -> SendReport:
    stream = source.stream
    start_time = time.monotonic()
    frames = samples = dropped_frames = dropped_samples = end = 0
    description = pack_stream(stream)
    stopped = not push_socket.send(description)
    repeat_at = start_time + repeat_header_seconds
    for start, data in _frames(source, max(1, frame_bytes // stream.sample_bytes)):
        count = len(data) // stream.sample_bytes
        stopped = not pacer.wait_for(start + count)
        if not stopped and time.monotonic() >= repeat_at:
            stopped = not push_socket.send(description)
            repeat_at = time.monotonic() + repeat_header_seconds
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
        for run_start, run_stop in _present_runs(chunk):
            yield run_start, chunk.data[run_start - start : run_stop - start].reshape(-1).data


def _present_runs(chunk: Chunk) -> list[tuple[int, int]]:
    """Return the runs of samples that a chunk has: the complement of its gaps."""
    gaps = [(gap.start, gap.stop) for gap in chunk.gaps]
    return [(run.start, run.stop) for run in gaps_between(gaps, chunk.start, chunk.stop, Loss.MISSING)]


class _Pacer:
    """Lets a frame go when its last sample would have been taken."""

    def __init__(self, source: Source, speed: float | None, stop: Event) -> None:
        self._stream = source.stream
        self._speed = speed
        self._stop = stop
        self._start_time = time.monotonic()

    def wait_for(self, sample: int) -> bool:
        """Wait until all samples before ``sample`` are due; False if it is time to stop."""
        if self._speed is None:
            return not self._stop.is_set()
        due = self._start_time + self._stream.seconds(sample) / self._speed
        return not self._stop.wait(max(0.0, due - time.monotonic()))


class _PushSocket:
    """A PUSH socket that knows whether anybody is at the other end, and repeats what may have been lost on the way."""

    def __init__(
        self, endpoint: str, frame_bytes: int, receiver_timeout: float, stop: Event, bind: bool, keys: SenderKeys | None
    ) -> None:
        self._endpoint = endpoint
        self._receiver_timeout = receiver_timeout
        self._stop = stop
        self._peers: set[int] = set()
        self._had_receiver = self._refused = False
        self._connected = False  # somebody has greeted and not gone
        self._waiting_since = 0.0
        self._tracking = False
        self._last_tracker: zmq.MessageTracker | None = None
        self._recent: deque[bytes] = deque(
            maxlen=max(_MAX_IN_FLIGHT_FRAMES, _MAX_IN_FLIGHT_BYTES // (frame_bytes + _MESSAGE_OVERHEAD_BYTES))
        )
        self._to_repeat: deque[bytes] = deque()
        self._description = b""
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.PUSH)
        self._socket.setsockopt(zmq.SNDHWM, max(2, _QUEUE_BYTES // frame_bytes))
        self._socket.setsockopt(zmq.LINGER, _LINGER_MS)
        # Queue for a receiver that is there, not for one that may come: what waits unseen may be lost unseen.
        self._socket.setsockopt(zmq.IMMEDIATE, 1)
        if keys is not None:
            self._socket.curve_publickey, self._socket.curve_secretkey = keys.own.public, keys.own.secret
            self._socket.curve_serverkey = keys.node
        self._monitor = zmq_connections.open_monitor(self._socket)
        try:
            (self._socket.bind if bind else self._socket.connect)(endpoint)
        except zmq.ZMQError as error:
            self._close(linger=False)
            raise InputError(f"cannot send to {endpoint}: {error.strerror}") from None

    def send(self, message: bytes) -> bool:
        """Send one message; waits for a receiver that is slow, and for a while for one that is absent.

        The first message must be the stream's description.

        Returns
        -------
        bool
            False if the sending was stopped before the message could go.

        Raises
        ------
        InputError
            If nobody receives.
        """
        self._description = self._description or message
        self._waiting_since = time.monotonic()
        while not (self._send_repeats() and self._try_send(message)):
            if self._stop.is_set():
                return False
            self._wait()
        self._recent.append(message)
        return True

    def finish(self, message: bytes) -> None:
        """Send the last message, and wait until it has left and the system holds nothing of it.

        Who was stopped tells a slow receiver of the end too, or that would wait for more, but not for ever. Who goes
        and is not replaced once all was handed over may well have had it: that is no error.

        Raises
        ------
        InputError
            If nobody receives.
        """
        self._tracking, self._last_tracker = True, None
        self._socket.copy_threshold = 0  # what is copied cannot be tracked
        self._recent.append(message)
        self._to_repeat.append(message)
        self._waiting_since = start_time = time.monotonic()
        while not (self._send_repeats() and self._is_sent() and self._is_read()):
            if self._stop.is_set() and time.monotonic() - start_time >= self._receiver_timeout:
                return
            try:
                self._wait()
            except InputError:
                if self._last_tracker is None:
                    raise
                return

    def _send_repeats(self) -> bool:
        """Pass on what must go before anything new, as far as it is taken; True if that is all."""
        self._update_peers()
        while self._to_repeat and self._try_send(self._to_repeat[0]):
            self._to_repeat.popleft()
        return not self._to_repeat

    def _try_send(self, message: bytes) -> bool:
        # Never waits: to whoever comes meanwhile the message would go before what is repeated. And libzmq takes at
        # least 100 ms from a loss to the next connection, so the news is never old enough to have missed both.
        try:
            if self._connected:
                self._last_tracker = self._socket.send(message, zmq.NOBLOCK, copy=False, track=self._tracking)
        except zmq.Again:
            return False
        return self._connected

    def _is_sent(self) -> bool:
        """Say whether the last message has gone to a receiver that is there."""
        if self._last_tracker is not None:
            try:
                self._last_tracker.wait(_WAIT_MS / 1000)
            except zmq.NotDone:
                return False
        self._update_peers()  # when a receiver goes, what waits for it is thrown away, which is told first
        return self._connected

    def _is_read(self) -> bool:
        """Say whether receivers have read all that the system held for them.

        To close earlier would lose it: libzmq takes the hang-up of an ipc connection before the data when the
        receiver's queue is full.
        """
        if not any(_unread_bytes(connection) for connection in self._peers):
            return True
        self._monitor.poll(_READ_MS)
        return False

    def _wait(self) -> None:
        """Wait until something changes, but not for long.

        Raises
        ------
        InputError
            If nobody receives.
        """
        poller = zmq.Poller()
        poller.register(self._monitor, zmq.POLLIN)
        if self._connected:
            poller.register(self._socket, zmq.POLLOUT)
        poller.poll(_WAIT_MS)
        self._update_peers()
        if self._peers and not self._refused:
            self._waiting_since = time.monotonic()
        elif time.monotonic() - self._waiting_since >= self._receiver_timeout:
            why = "the receiver refuses the keys" if self._refused else "nobody receives"
            raise InputError(f"{why} at {self._endpoint}: waited {self._receiver_timeout:g} s")

    def _update_peers(self) -> None:
        """Learn who has come and gone."""
        for event, connection in zmq_connections.read_events(self._monitor):
            if event & zmq_connections.CONNECTED:
                self._peers.add(connection)
            elif event == zmq_connections.DISCONNECTED:
                self._peers.discard(connection)
                self._connected = self._connected and bool(self._peers)
            elif event & zmq_connections.HANDSHAKE_FAILED:
                self._refused = True
            elif event == zmq_connections.HANDSHAKE_SUCCEEDED:
                if self._had_receiver:
                    self._to_repeat = deque([self._description, *self._recent])
                self._had_receiver = self._connected = True
                self._refused = False

    def _close(self, linger: bool) -> None:
        self._socket.disable_monitor()
        self._monitor.close()
        self._socket.close(None if linger else 0)
        self._context.term()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close(linger=kind is None)


def _unread_bytes(connection: int) -> int:
    """Count the bytes that the system holds for the other end of a connection; 0 if it is gone."""
    try:
        return int(struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)))[0])
    except OSError:
        return 0
