"""An input: one endpoint of the node. It asks a live input for what has arrived and copies samples into one ring.

No packet can stop it: a malformed one is counted by kind and dropped before it reaches the ring. A frame is copied
once, from the memory of the live input to its place in the ring.

When the ring is full under the policy *hold*, the input stops reading. What that means is a matter of the transport:
ZeroMQ blocks the sender, UDP loses packets.
"""

import errno
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from operator import index
from pathlib import Path
from threading import Event
from typing import Any, Self

from edgefilter.core.endpoint import LiveInputSettings
from edgefilter.core.errors import InputError, WireError
from edgefilter.core.stream import Stream
from edgefilter.node.ring import RingWriter
from edgefilter.plugins import Plugin
from edgefilter.sources.live import base
from edgefilter.sources.live.base import End, Frame, LiveInput

_POLL_SECONDS = 0.05
_QUIET_SECONDS = 0.1  # when nothing arrives for so long, all that was sent has arrived
_SAMPLE_LIMIT = 1 << 63


@dataclass(frozen=True, slots=True)
class InputSettings(LiveInputSettings):
    """Settings of an input: those of its live input, and these.

    Parameters
    ----------
    late_seconds
        How long after newer samples missing ones may still arrive, s of signal; later they count as lost.
    max_gap_seconds
        Maximum distance from the newest sample to a later frame, s of signal.
    ring
        File of the ring, if a run has begun; the input receives nothing before it exists.
    bind_seconds
        How long to wait for an endpoint that another receiver still uses, s.
    """

    late_seconds: float = 0.5
    max_gap_seconds: float = 3600.0
    ring: str | None = None
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
class InputCounters:
    """Counters of an input. Only its thread writes them; any thread may read them.

    Parameters
    ----------
    frames, bytes
        Well-formed frames of the stream, and their bytes.
    samples, repeated, late
        Samples that were written, repeated or late: see :class:`~edgefilter.node.ring.WriteResult`.
    unknown_stream
        Frames and ends of a stream that is not the ring's, or that arrived before a stream header.
    other_stream
        Stream headers that are not the ring's, which were refused.
    malformed
        Malformed packets, by the kind of :class:`~edgefilter.core.errors.WireError`.
    input
        Counters of the live input's own.
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
    input: dict[str, int] = field(default_factory=dict)
    ended: bool = False


class Input:
    """Receives one stream. It listens from its creation on; :meth:`run` receives.

    Parameters
    ----------
    settings
        The settings.
    kind
        Class of the live input.
    on_stream
        Called in the thread of :meth:`run` with a stream that begins a run. The input then waits until
        :meth:`set_ring` has named the ring, and its file exists.
    plugin
        The plug-in that ``kind`` comes from, which errors name; None if it comes from none.
    drain_seconds
        Maximum time for which :meth:`run` receives after :meth:`drain` or :meth:`retire`, s.

    Raises
    ------
    ConfigError
        If a setting is not possible, or the keys cannot be used.
    InputError
        If it cannot listen at the endpoint, or the ring's file is not a ring.
    PluginError
        If the code of the plug-in raises anything else; :meth:`run` raises it too.
    """

    def __init__(
        self,
        settings: InputSettings,
        kind: type[LiveInput],
        on_stream: Callable[[Stream], None],
        plugin: Plugin | None = None,
        drain_seconds: float = 5.0,
    ) -> None:
        self.settings = settings
        self.counters = InputCounters()
        self.ring: RingWriter | None = None
        self.stream: Stream | None = None
        self.connections = 0
        self.waiting = False
        """Whether a frame waits for room in the ring, or for the ring."""
        self.last_loop_time = time.monotonic()
        """When the last turn of the loop began, s of the monotonic clock."""
        self._plugin_errors = nullcontext if plugin is None else plugin.errors_in_one_line
        self._on_stream = on_stream
        self._drain_seconds = drain_seconds
        self._path = Path(settings.ring) if settings.ring else None
        self._stopping = Event()
        self.draining = False
        """Whether :meth:`drain` was called."""
        self._sample_bytes = 0
        self._newest = 0  # one past the newest sample of all frames of the run
        self._other_stream = False  # whether the last header was not the ring's
        self._cut_off = False  # whether the last frame had no room in the ring when the input had to stop
        self._next_count_time = 0.0
        with self._plugin_errors():
            self._live_input = kind(settings)
        try:
            if self._path is not None and self._path.exists():
                self._attach(self._path)
            with self._plugin_errors():
                self._open()
        except BaseException:
            self._close_after_error()
            raise

    @property
    def endpoint(self) -> str:
        """Where it listens, with the actual port."""
        return self._live_input.endpoint

    def _open(self) -> None:
        """Open the live input as soon as its endpoint is free."""
        deadline = time.monotonic() + self.settings.bind_seconds
        while True:
            try:
                return self._live_input.open()
            except OSError as error:
                if error.errno != errno.EADDRINUSE or time.monotonic() >= deadline:
                    what = "connect to" if self.settings.connect else "listen at"
                    raise InputError(f"cannot {what} {self.endpoint}: {error.strerror or error}") from None
            self._live_input.close()
            time.sleep(_POLL_SECONDS)

    def set_ring(self, path: str | Path) -> None:
        """Set the ring of the stream that :meth:`run` has reported. Any thread may call it.

        Parameters
        ----------
        path
            File of the ring, which may not exist yet.
        """
        self._path = Path(path)

    def drain(self) -> None:
        """Let :meth:`run` receive what has arrived, end the run there, and return. Any thread may call it."""
        self.draining = True
        self._stopping.set()

    def retire(self) -> None:
        """Let :meth:`run` receive what has arrived and return; the run continues in another receiver."""
        self._stopping.set()

    def run(self) -> None:
        """Receive until :meth:`drain` or :meth:`retire`, then close the live input.

        Raises
        ------
        InputError
            If the file of the ring is not a ring.
        """
        try:
            self._receive_all()
        except BaseException:
            self._close_after_error()
            raise
        self.close()

    def close(self) -> None:
        """Close the live input. :meth:`run` does this itself; call it for an input that never ran."""
        with self._plugin_errors():
            self._live_input.close()

    def _close_after_error(self) -> None:
        with suppress(Exception):  # the first error says what is wrong
            self._live_input.close()

    def _receive_all(self) -> None:
        if self.ring is None and self._path is not None:
            self._wait_for_ring()
        while not self._stopping.is_set():
            self._receive(_POLL_SECONDS)
        if not self.draining:
            with self._plugin_errors():
                self._live_input.stop_listening()
        # Limited in time, because something always arrives from a sender that never pauses.
        deadline = time.monotonic() + self._drain_seconds
        # No newer frame may follow one that had no room: the next receiver gets that one again.
        while not self._cut_off and time.monotonic() < deadline and self._receive(_QUIET_SECONDS):
            pass
        if self.draining and self.ring is not None:
            self.ring.end(max(self.ring.head, self._newest))

    def _receive(self, timeout: float) -> bool:
        """Handle what has arrived; return False if nothing arrives in time."""
        self.last_loop_time = time.monotonic()
        if self.last_loop_time >= self._next_count_time:
            self._read_counters()
            self._next_count_time = self.last_loop_time + _POLL_SECONDS
        arrived = False
        for event in self._events(timeout):
            if not self._cut_off:
                self._handle(event)
            arrived = True
        return arrived

    def _read_counters(self) -> None:
        with self._plugin_errors():
            self.connections = index(self._live_input.connections())
            self.counters.input = {name: index(count) for name, count in self._live_input.counters().items()}

    def _events(self, timeout: float) -> Iterator[base.Event]:
        try:
            yield from self._live_input.receive(timeout)
        except WireError as error:
            yield error
        except Exception:
            with self._plugin_errors():
                raise

    def _handle(self, event: base.Event) -> None:
        try:
            if isinstance(event, Frame):
                self._handle_frame(event)
            elif isinstance(event, Stream):
                self._handle_stream(event)
            elif isinstance(event, End):
                self._handle_end(event)
            elif isinstance(event, WireError):
                self.counters.malformed[event.kind] += 1
            else:
                with self._plugin_errors():
                    raise TypeError(
                        f"receive returned {type(event).__name__}, must return Stream, Frame, End and WireError"
                    )
        except WireError as error:
            self.counters.malformed[error.kind] += 1

    def _handle_end(self, end: End) -> None:
        with self._plugin_errors():
            ring, sample = self._ring_of(end), index(end.sample)
        if ring is None:
            return
        if not 0 <= sample < _SAMPLE_LIMIT:
            raise WireError("range", f"the end is {sample}, must be 0 or more and below 2^63")
        ring.end(sample)
        self.counters.ended = True

    def _ring_of(self, event: Frame | End) -> RingWriter | None:
        """Return the ring if the event is of its stream; otherwise count it."""
        ring = self.ring
        if ring is not None:
            of_ring = ring.stream.digest.startswith(event.digest) if event.digest else not self._other_stream
            if of_ring:
                return ring
        self.counters.unknown_stream += 1
        return None

    def _handle_stream(self, stream: Stream) -> None:
        ring = self.ring
        if ring is None or (ring.last is not None and (stream != ring.stream or not ring.path.exists())):
            self._begin_run(stream)
        if self.ring is not None:
            self._other_stream = stream != self.ring.stream
            self.counters.other_stream += self._other_stream

    def _begin_run(self, stream: Stream) -> None:
        """Report a stream and wait for its ring; before that, wait until a run that has ended is reduced."""
        if self.ring is not None:
            ended = self.ring.path
            if not self._wait_until(lambda: not ended.exists()):
                return
            self.ring.close()
            self.ring = self._path = None
        self.stream, self._newest = stream, 0
        self._on_stream(stream)
        self._wait_for_ring()

    def _wait_for_ring(self) -> None:
        if self._wait_until(lambda: self._path is not None and self._path.exists()) and self._path is not None:
            self._attach(self._path)

    def _wait_until(self, condition: Callable[[], bool]) -> bool:
        """Wait until a condition is true; return False if the input must stop before that."""
        self.waiting = True
        while not (met := condition()) and not self._stopping.wait(_POLL_SECONDS):
            self.last_loop_time = time.monotonic()
        self.waiting = False
        return met

    def _attach(self, path: Path) -> None:
        ring = RingWriter.attach(path)
        ring.slack = round(self.settings.late_seconds * ring.stream.rate)
        ring.max_gap_samples = round(self.settings.max_gap_seconds * ring.stream.rate)
        self.ring, self.stream = ring, ring.stream
        self._live_input.stream = ring.stream
        self._sample_bytes = ring.stream.sample_bytes
        self.counters.ended = ring.last is not None

    def _handle_frame(self, frame: Frame) -> None:
        try:
            if (ring := self._ring_of(frame)) is None:
                return
            start, payload = index(frame.start), memoryview(frame.data).cast("B")
        except (TypeError, ValueError):
            with self._plugin_errors():
                raise
        size, counters = self._sample_bytes, self.counters
        samples, rest = divmod(len(payload), size)
        if rest or not samples:
            raise WireError("size", f"a frame of {len(payload)} bytes, must be whole samples of {size} bytes")
        stop = start + samples
        if start < 0 or stop >= _SAMPLE_LIMIT:
            raise WireError("range", f"samples {start} to {stop}, must be 0 or more and below 2^63")
        if ring.last is not None and (start >= ring.last or not ring.path.exists()):
            self._begin_run(ring.stream)
            if self.ring is None or self.ring is ring:
                return
            ring = self.ring
        result = ring.write(start, payload)
        counters.frames += 1
        counters.bytes += len(payload)
        self._newest = max(self._newest, stop)
        while True:
            counters.samples += result.written
            counters.repeated += result.repeated
            counters.late += result.late
            if not result.held:
                return
            if not self._wait_for_room(ring):
                self._cut_off = True
                return
            result = ring.write(stop - result.held, payload[(samples - result.held) * size :])

    def _wait_for_room(self, ring: RingWriter) -> bool:
        """Wait until the ring has room; return False if the input must stop before that."""
        deadline: float | None = None
        self.waiting = True
        while not ring.wait_for_room(_POLL_SECONDS):
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
            "waiting": self.waiting,
        }


def _lag(ring: RingWriter) -> int:
    """Return the number of samples from the slowest reader's cursor to the newest sample."""
    cursors = [reader.cursor for reader in ring.readers() if reader.cursor is not None]
    return max(0, ring.head - max(min(cursors), ring.tail)) if cursors else 0
