"""Conformance suite for a live input: each sample that was sent is in the ring at its number, and each loss is a gap.

::

    from edgefilter.testing.live_input import LiveInputSuite, Sender

    class UdpSender(Sender):
        ...                                       # sends packets to an endpoint

    class TestUdpInput(LiveInputSuite):
        kind = UdpInput
        endpoint = "udp://127.0.0.1:*"
        options = {"rate_hz": 1000.0}             # input.options of the configuration
        stream = Stream(...)                      # what the input returns as its header
        frame_samples = 64                        # in one packet
        sender = UdpSender

The input writes to a real ring, as in a node. The suite sends a few packets at a time and waits until they have
arrived, so a transport that loses packets when it is overloaded passes.
"""

import threading
from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np

from edgefilter.core.closing import Closing
from edgefilter.core.endpoint import LiveInputSettings
from edgefilter.core.errors import ConfigError
from edgefilter.core.stream import Stream
from edgefilter.node.receiver.input import Input, InputSettings
from edgefilter.node.ring import RingReader, RingWriter
from edgefilter.sources.live.base import Frame, LiveInput

_SLACK_FRAMES = 4
"""Frames that must follow a gap before its samples count as lost."""


class Sender(Closing):
    """A telescope that sends the stream of the suite.

    Parameters
    ----------
    endpoint
        Where the input listens, with its actual port.
    """

    @abstractmethod
    def __init__(self, endpoint: str) -> None: ...

    def send_header(self) -> None:
        """Send the description of the stream; nothing, if packets of the format do not describe it."""

    @abstractmethod
    def send_frame(self, start: int, data: bytes) -> None:
        """Send a packet.

        Parameters
        ----------
        start
            Number of its first sample.
        data
            Raw bytes of its samples.
        """

    @abstractmethod
    def send_malformed(self) -> None:
        """Send one packet that breaks the format."""

    def send_end(self, sample: int) -> None:
        """Send the end of the stream; called only if the format has one.

        Parameters
        ----------
        sample
            One past the last sample.
        """


class LiveInputSuite:
    """Tests of one live input; make a subclass with a name that begins with ``Test``.

    Frame *k* of a test has the samples ``first + k * frame_samples`` and following.

    Attributes
    ----------
    kind
        The live input.
    endpoint
        Where it listens, with port ``*`` if it has ports.
    options
        Its options, as in ``input.options``.
    stream
        The stream that it returns.
    frame_samples, first
        Samples in a packet, and the number of the first sample that is sent.
    sender
        The sender.
    has_end
        Whether the format marks the end of a stream.
    wait_seconds
        Longest time that the suite waits for something, s.
    """

    kind: ClassVar[type[LiveInput]]
    endpoint: ClassVar[str]
    options: ClassVar[Mapping[str, Any]] = {}
    stream: ClassVar[Stream]
    frame_samples: ClassVar[int]
    first: ClassVar[int] = 0
    sender: ClassVar[type[Sender]]
    has_end: ClassVar[bool] = False
    wait_seconds: ClassVar[float] = 20.0

    def test_each_sample_arrives_at_its_number(self) -> None:
        """Frames in order, from the header on."""
        with _Run(self) as run:
            run.send(*range(20))
            run.check(*range(20))

    def test_frames_may_change_places(self) -> None:
        """The number of a sample places it, not the time of its arrival."""
        order = (0, 3, 1, 2, 5, 4)
        with _Run(self) as run:
            run.send(*order)
            run.check(*order)

    def test_a_frame_that_was_not_sent_is_a_gap(self) -> None:
        """The frames after a gap stay at their numbers."""
        sent = (0, 1, 2, 5, 6, 8, *range(9, 16))
        with _Run(self) as run:
            run.send(*sent)
            run.check(*sent)

    def test_a_repeated_frame_is_counted(self) -> None:
        """The ring keeps the first."""
        with _Run(self) as run:
            run.send(0, 1, 2, 1, 3)
            run.check(0, 1, 2, 3)
            run.expect("samples that were sent twice", run.input.counters.repeated, self.frame_samples)

    def test_a_late_frame_is_counted(self) -> None:
        """Samples that count as lost already do not come back."""
        sent = (0, 1, *range(3, 3 + 2 * _SLACK_FRAMES))
        with _Run(self) as run:
            run.send(*sent, 2)
            run.check(*sent)
            run.expect("samples that came too late", run.input.counters.late, self.frame_samples)

    def test_malformed_packets_are_counted_and_stop_nothing(self) -> None:
        """Each is counted once, and the frames around it arrive."""
        with _Run(self) as run:
            for frame in range(3):
                run.send(frame)
                run.sender.send_malformed()
            run.wait(
                lambda: run.malformed >= 3,
                lambda: f"3 malformed packets were sent, and {run.malformed} counted: return or raise a WireError",
            )
            run.send(3)
            run.check(*range(4))
            run.expect("malformed packets", run.malformed, 3)

    def test_a_repeated_header_changes_nothing(self) -> None:
        """A format may repeat it, for receivers that start later."""
        with _Run(self) as run:
            run.send(0, 1)
            run.sender.send_header()
            run.send(2, 3)
            run.check(*range(4))
            run.expect("headers of another stream", run.input.counters.other_stream, 0)

    def test_the_end_of_the_stream(self) -> None:
        """It ends the run; without ``has_end`` this test does nothing."""
        if not self.has_end:
            return
        with _Run(self) as run:
            run.send(0, 1)
            run.sender.send_end(run.start(3))
            run.wait(lambda: run.input.counters.ended, lambda: "the end of the stream was sent and not received")
            run.expect("one past the last sample of the run", run.ring().last, run.start(3))

    def test_the_next_receiver_continues(self) -> None:
        """Without a new ring, at the same endpoint."""
        with _Run(self) as run:
            run.send(0, 1, 2)
            run.replace_receiver()
            run.send(3, 4)
            run.check(*range(5))

    def test_what_has_arrived_is_received_before_the_next_receiver_takes_over(self) -> None:
        """Packets wait in the transport while the ring is full; then the receiver stops."""
        with _Run(self) as run:
            run.send(0)
            reader = run.ring("holds the ring")
            full = reader.capacity // self.frame_samples
            run.send(*range(1, full))
            queued = range(full, full + 4)
            run.send(*queued, wait=False)
            run.wait(lambda: run.input.waiting, lambda: "the ring is full, and the input does not wait for room")
            run.input.retire()
            reader.release(run.start(full))
            run.join()
            run.end(queued.stop)
            for frame in queued:
                run.check_frame(reader, frame, there=True)
            reader.close()

    def test_the_endpoint_is_free_after_close(self) -> None:
        """Closing twice does no harm, and nothing is returned when nothing was sent."""
        first = self.kind(LiveInputSettings(self.endpoint, options=self.options))
        first.open()
        frames = [event for event in first.receive(0.05) if isinstance(event, Frame)]
        assert not frames, f"{len(frames)} frames were received before one was sent"
        first.close()
        first.close()
        said = ""
        with self.kind(LiveInputSettings(first.endpoint, options=self.options)) as second:
            try:
                second.open()
            except OSError as error:
                said = str(error)
        assert not said, f"close does not give the endpoint {first.endpoint} back: {said}"

    def test_wrong_settings_are_refused(self) -> None:
        """By one line, when the configuration is read."""
        scheme = self.endpoint.partition("://")[0]
        for settings in (
            LiveInputSettings(f"{scheme}://", options=self.options),
            LiveInputSettings(self.endpoint, options={**self.options, "no_such_option": 1}),
        ):
            said = ""
            try:
                self.kind.check(settings)
            except ConfigError as error:
                said = str(error)
            assert said, f"check accepts {settings}, must raise a ConfigError"
            assert "\n" not in said, f"one mistake must be one line, not {said}"


class _Run(Closing):
    """An input that runs in a thread, its ring, and a sender."""

    def __init__(self, suite: LiveInputSuite) -> None:
        self._suite = suite
        self._folder = TemporaryDirectory()
        self._path = Path(self._folder.name) / "ring"
        self._error: BaseException | None = None
        self._accounted_before = self._sent = 0  # samples
        self.input, self._thread = self._start(suite.endpoint)
        self.sender = self._connect()

    def _start(self, endpoint: str) -> tuple[Input, threading.Thread]:
        suite = self._suite
        settings = InputSettings(
            endpoint,
            options=suite.options,
            late_seconds=suite.stream.seconds(_SLACK_FRAMES * suite.frame_samples),
            ring=str(self._path) if self._path.exists() else None,
        )
        node_input = Input(settings, suite.kind, self._make_ring)
        thread = threading.Thread(target=self._receive, args=(node_input,), daemon=True)
        thread.start()
        return node_input, thread

    def _receive(self, node_input: Input) -> None:
        try:
            node_input.run()
        except BaseException as error:  # wait raises it in the thread of the test
            self._error = error

    def _make_ring(self, stream: Stream) -> None:
        RingWriter.create(self._path, stream, 32 * self._suite.frame_samples).close()
        self.input.set_ring(self._path)

    def _connect(self) -> Sender:
        sender = self._suite.sender(self.input.endpoint)
        sender.send_header()
        return sender

    @property
    def malformed(self) -> int:
        """Number of packets that were counted as malformed."""
        return sum(self.input.counters.malformed.values())

    def start(self, frame: int) -> int:
        """Return the number of the first sample of a frame."""
        return self._suite.first + frame * self._suite.frame_samples

    def _data(self, frame: int) -> bytes:
        return np.random.default_rng(frame).bytes(self._suite.frame_samples * self._suite.stream.sample_bytes)

    def send(self, *frames: int, wait: bool = True) -> None:
        """Send frames, and wait after each until it has arrived."""
        for frame in frames:
            self.sender.send_frame(self.start(frame), self._data(frame))
            self._sent += self._suite.frame_samples
            if wait:
                self.wait(
                    lambda: self._accounted() >= self._sent,
                    lambda: f"{self._sent} samples were sent, and {self._accounted()} arrived: {self.input.counters}",
                )

    def _accounted(self) -> int:
        counters = self.input.counters
        return self._accounted_before + counters.samples + counters.repeated + counters.late

    def wait(self, condition: Callable[[], bool], why: Callable[[], str]) -> None:
        """Wait until a condition is true."""
        pause = threading.Event()
        for _ in range(max(1, round(self._suite.wait_seconds / 0.005))):
            if self._error is not None:
                raise AssertionError(f"the input ended with {self._error!r}") from self._error
            if condition():
                return
            pause.wait(0.005)
        raise AssertionError(why())

    def replace_receiver(self) -> None:
        """Retire the input, and start another one at its endpoint."""
        self.input.retire()
        retired, thread = self.input, self._thread
        self.input, self._thread = self._start(retired.endpoint)
        thread.join(self._suite.wait_seconds)
        assert not thread.is_alive(), "the input does not return after the command to stop"
        self._accounted_before += sum(getattr(retired.counters, name) for name in ("samples", "repeated", "late"))
        self.sender.close()
        self.sender = self._connect()

    def join(self) -> None:
        """Wait until the input has returned."""
        self._thread.join(self._suite.wait_seconds)
        assert not self._thread.is_alive(), "the input does not return after the command to stop"
        self.wait(lambda: True, str)

    def end(self, frame: int) -> None:
        """End the run before a frame."""
        with RingWriter.attach(self._path) as ring:
            ring.end(self.start(frame))

    def ring(self, name: str = "suite") -> RingReader:
        """Return a reader of the ring."""
        return RingReader.attach(self._path, name)

    def check(self, *frames: int) -> None:
        """End the run, and compare the ring with the frames that must be in it."""
        self.input.drain()
        self.join()
        with self.ring() as ring:
            assert ring.stream == self._suite.stream, f"the input returned {ring.stream}, expected {self._suite.stream}"
            for frame in range(max(frames) + 1):
                self.check_frame(ring, frame, frame in frames)
            self.expect("samples that count as lost", ring.lost, self._lost(frames))
            self.expect("one past the last sample of the run", ring.last, self.start(max(frames) + 1))

    def _lost(self, frames: tuple[int, ...]) -> int:
        return (max(frames) + 1 - len(set(frames))) * self._suite.frame_samples

    def check_frame(self, ring: RingReader, frame: int, there: bool) -> None:
        """Compare a frame with the ring."""
        start, stop = self.start(frame), self.start(frame + 1)
        chunk = ring.read(start, stop)
        found = int(np.count_nonzero(chunk.valid()))
        if there:
            assert found == stop - start, f"samples {start} to {stop} were sent, and {found} of them are in the ring"
            assert chunk.data.tobytes() == self._data(frame), (
                f"the ring has other bytes at samples {start} to {stop} than were sent"
            )
        else:
            assert not found, f"samples {start} to {stop} were not sent, and {found} of them are in the ring"

    def expect(self, what: str, found: int | None, expected: int) -> None:
        """Compare a count."""
        assert found == expected, f"{what}: {found}, expected {expected}"

    def close(self) -> None:
        self.input.drain()
        self._thread.join(self._suite.wait_seconds)
        self.sender.close()
        self._folder.cleanup()
