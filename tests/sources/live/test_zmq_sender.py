"""What is sent arrives, as it was, with what was missing still missing."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefilter.core.chunk import Chunk, Gap, Loss, clip_gaps
from edgefilter.core.errors import InputError
from edgefilter.core.stream import Encoding, SampleKind, Stream
from edgefilter.node.receiver.zmq_input import ZmqInput, ZmqInputSettings
from edgefilter.node.ring import RingReader, RingWriter
from edgefilter.sources.live import zmq_connections, zmq_sender
from edgefilter.sources.live.zmq_sender import SendReport, send

STREAM = Stream("test", SampleKind.POWER, 0, Fraction(1000), 8, 1e8, 1e6, ("I",), 8, Encoding.UNSIGNED)
WAIT = 20.0


class MemorySource:
    """A source in memory, which counts its reads."""

    warnings: tuple[str, ...] = ()
    stream = STREAM

    def __init__(
        self, samples: int, gaps: tuple[Gap, ...] = (), on_read: Callable[[int], None] = lambda _: None
    ) -> None:
        self.samples = samples
        self.gaps = gaps
        self.on_read = on_read
        self.data = np.random.default_rng(1).integers(0, 256, (samples, STREAM.sample_bytes), np.uint8)

    def read(self, start: int, stop: int) -> Chunk:
        assert 0 <= start <= stop <= self.samples
        self.on_read(start)
        return Chunk(start, self.data[start:stop], clip_gaps(self.gaps, start, stop))

    def close(self) -> None:
        pass


class Listener:
    """An inlet at work in a thread, and a reader of its ring."""

    def __init__(self, folder: Path, capacity: int, **fields: Any) -> None:
        self.path = folder / "ring"
        self.capacity = capacity
        fields = {"name": "main", "endpoint": "tcp://127.0.0.1:*"} | fields
        self.zmq_input = ZmqInput(ZmqInputSettings(**fields), self.on_stream)
        self.endpoint = self.zmq_input.endpoint
        self.thread = threading.Thread(target=self.zmq_input.run, daemon=True)
        self.thread.start()

    def on_stream(self, stream: Stream) -> None:
        RingWriter.create(self.path, stream, self.capacity).close()
        self.zmq_input.set_ring(self.path)

    def reader(self) -> RingReader:
        return RingReader.attach(self.path, "reader", timeout=WAIT)

    def ended(self) -> RingReader:
        """Wait for the end of the stream."""
        reader = self.reader()
        wait_until(lambda: reader.last is not None)
        return reader

    def stop(self) -> None:
        self.zmq_input.drain()
        self.thread.join(WAIT)
        assert not self.thread.is_alive()


@contextmanager
def listener(capacity: int = 5000, **fields: Any) -> Iterator[Listener]:
    with TemporaryDirectory() as folder:
        listening = Listener(Path(folder), capacity, **fields)
        try:
            yield listening
        finally:
            listening.stop()


def wait_until(condition: Callable[[], bool]) -> None:
    event = threading.Event()
    for _ in range(2000):
        if condition():
            return
        event.wait(0.01)
    raise AssertionError("it did not come true")


def assert_same_samples(ring: RingReader, source: MemorySource, gaps: tuple[Gap, ...]) -> None:
    chunk = ring.read(0, source.samples)
    assert chunk.gaps == gaps
    valid = chunk.valid()
    assert np.array_equal(chunk.data[valid], source.data[valid])


def test_what_is_sent_arrives() -> None:
    source = MemorySource(3001)
    with listener() as listening:
        report = send(source, listening.endpoint, None, frame_bytes=1000)
        ring = listening.ended()
        assert_same_samples(ring, source, ())
        assert ring.stream == STREAM
        assert ring.last == 3001
    assert (report.frames, report.samples, report.bytes, report.end) == (25, 3001, 3001 * 8, 3001)
    assert listening.zmq_input.counters.frames == 25


def test_it_can_bind_for_an_inlet_that_connects(tmp_path: Path) -> None:
    source = MemorySource(500)
    endpoint = f"ipc://{tmp_path}/telescope"
    with listener(endpoint=endpoint, connect=True) as listening:
        send(source, endpoint, None, frame_bytes=80, bind=True)
        assert_same_samples(listening.ended(), source, ())


def test_an_ipc_sender_does_not_hang_up_on_a_full_receiver(tmp_path: Path) -> None:
    # libzmq would take the hang-up first, and throw away what it has not read: it reads 8 KiB at a time.
    source = MemorySource(4000)
    endpoint = f"ipc://{tmp_path}/telescope"
    with zmq.Context() as context, context.socket(zmq.PULL) as pull:
        pull.setsockopt(zmq.RCVHWM, 1)
        pull.setsockopt(zmq.RCVTIMEO, int(WAIT * 1000))
        pull.connect(endpoint)
        sending = threading.Thread(target=send, args=(source, endpoint, None, 80), kwargs={"bind": True}, daemon=True)
        sending.start()
        assert pull.recv()[6] == 1
        sending.join(0.3)
        assert sending.is_alive()
        assert [pull.recv()[6] for _ in range(401)] == [2] * 400 + [3]
        sending.join(WAIT)
        assert not sending.is_alive()


@given(st.lists(st.integers(0, 1000), max_size=8, unique=True), st.integers(8, 3000))
@settings(deadline=None, max_examples=15)
def test_frames_are_cut_around_gaps(cuts: list[int], frame_bytes: int) -> None:
    edges = sorted(cuts)
    gaps = tuple(Gap(a, b, Loss.FILE_GAP) for a, b in zip(edges[::2], edges[1::2], strict=False))
    source = MemorySource(1001, gaps)
    there = 1001 - sum(gap.stop - gap.start for gap in gaps)
    with listener() as listening:
        report = send(source, listening.endpoint, None, frame_bytes)
        ring = listening.ended()
        assert report.samples == there == listening.zmq_input.counters.samples
        chunk = ring.read(0, 1001)
        valid = Chunk(0, source.data, gaps).valid()
        assert np.array_equal(chunk.valid(), valid)
        assert np.array_equal(chunk.data[valid], source.data[valid])


def test_frames_can_be_lost_on_purpose() -> None:
    source = MemorySource(1000)
    with listener() as listening:
        report = send(source, listening.endpoint, None, frame_bytes=800, drop=lambda frame: frame in (2, 5))
        assert_same_samples(listening.ended(), source, (Gap(200, 300, Loss.MISSING), Gap(500, 600, Loss.MISSING)))
    assert (report.frames, report.samples, report.dropped_frames, report.dropped_samples) == (8, 800, 2, 200)


def test_frames_are_a_sample_at_least() -> None:
    source = MemorySource(5)
    with listener() as listening:
        assert send(source, listening.endpoint, None, frame_bytes=1).frames == 5
        assert_same_samples(listening.ended(), source, ())


def test_an_empty_source_is_a_stream_too() -> None:
    with listener() as listening:
        assert send(MemorySource(0), listening.endpoint, None).frames == 0
        assert listening.ended().last == 0


def test_the_pace_is_real_time_times_speed() -> None:
    source = MemorySource(300)
    with listener() as listening:
        report = send(source, listening.endpoint, 2.0, frame_bytes=400)
        assert_same_samples(listening.ended(), source, ())
    assert report.seconds >= 0.15  # 0.3 s of samples at twice the speed


def test_a_late_receiver_gets_the_header_again() -> None:
    source = MemorySource(400)
    with zmq.Context() as context, context.socket(zmq.PULL) as pull:
        port = pull.bind_to_random_port("tcp://127.0.0.1")
        sending = threading.Thread(
            target=send,
            args=(source, f"tcp://127.0.0.1:{port}", None),
            kwargs={"frame_bytes": 800, "repeat_header_seconds": 0.0},
            daemon=True,
        )
        sending.start()
        kinds = []
        while not kinds or kinds[-1] != 3:
            assert pull.poll(int(WAIT * 1000))
            kinds.append(pull.recv()[6])
        sending.join(WAIT)
    assert kinds == [1, 1, 2, 1, 2, 1, 2, 1, 2, 3]


@pytest.fixture
def wait_for_monitor_event(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Waits, in the sender's thread, until its socket tells something that the sender does not know yet."""
    monitors: list[zmq.Socket[bytes]] = []
    open_monitor = zmq_connections.open_monitor

    def recording_monitor(socket: "zmq.Socket[bytes]") -> "zmq.Socket[bytes]":
        monitor_socket = open_monitor(socket)
        if socket.type == zmq.PUSH:
            monitors.append(monitor_socket)
        return monitor_socket

    def wait() -> None:
        assert monitors[0].poll(int(WAIT * 1000))

    monkeypatch.setattr(zmq_connections, "open_monitor", recording_monitor)
    return wait


class DyingReceiver:
    """A receiver that dies with all that it has got but one message."""

    def __init__(self, **options: int) -> None:
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.PULL)
        for name, value in options.items():
            self.socket.setsockopt(getattr(zmq, name), value)
        self.endpoint = f"tcp://127.0.0.1:{self.socket.bind_to_random_port('tcp://127.0.0.1')}"

    def die(self) -> None:
        assert self.socket.poll(int(WAIT * 1000))
        self.context.destroy(0)


class CountdownEvent(threading.Event):
    """Never set; does something when it is asked for the n-th time after :meth:`arm`."""

    def __init__(self, number: int, action: Callable[[], None]) -> None:
        super().__init__()
        self.left = 0
        self.number, self.action = number, action

    def arm(self) -> None:
        self.left = self.number

    def is_set(self) -> bool:
        if self.left:
            self.left -= 1
            if not self.left:
                self.action()
        return False


def test_what_was_on_its_way_to_a_receiver_that_goes_is_repeated_to_the_next(
    tmp_path: Path, wait_for_monitor_event: Callable[[], None]
) -> None:
    first = Listener(tmp_path, 5000)
    second: list[Listener] = []

    def replace_receiver(start: int) -> None:
        if start == 2000:
            wait_until(lambda: first.zmq_input.counters.samples > 0)
            first.zmq_input.retire()
            second.append(Listener(tmp_path, 5000, endpoint=first.endpoint, ring=str(first.path)))
            first.thread.join(WAIT)
            wait_for_monitor_event()

    source = MemorySource(4000, on_read=replace_receiver)
    send(source, first.endpoint, None, frame_bytes=800)
    assert_same_samples(second[0].ended(), source, ())
    assert second[0].zmq_input.counters.repeated > 0
    second[0].stop()


def test_what_is_repeated_goes_before_what_waits(tmp_path: Path, wait_for_monitor_event: Callable[[], None]) -> None:
    # The next receiver gives up at once what is older than the newest sample: one new frame first, and all is lost.
    source = MemorySource(4000)
    with RingWriter.create(tmp_path / "ring", STREAM, 5000) as ring:
        ring.write(0, source.data[:100].tobytes())
    dying_receiver = DyingReceiver()
    successor: list[Listener] = []
    # Asked again and again while a frame waits for a receiver.
    stop = CountdownEvent(5, lambda: successor.append(listen(tmp_path, dying_receiver.endpoint)))

    def die(start: int) -> None:
        if start == 2000:
            dying_receiver.die()
            wait_for_monitor_event()
            stop.arm()

    source.on_read = die
    send(source, dying_receiver.endpoint, None, frame_bytes=800, stop=stop)
    assert_same_samples(successor[0].ended(), source, ())
    successor[0].stop()


def listen(folder: Path, endpoint: str) -> Listener:
    """Listen for a ring that is there, without patience for what comes late."""
    return Listener(folder, 5000, endpoint=endpoint, ring=str(folder / "ring"), late_seconds=0.0)


def test_the_end_is_repeated_like_what_comes_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = MemorySource(6 * 131_072)
    RingWriter.create(tmp_path / "ring", STREAM, source.samples).close()
    dying_receiver = DyingReceiver(RCVBUF=4096, RCVHWM=1)  # so that the end is still with the sender when it dies
    at_end = threading.Event()
    pack = zmq_sender.pack_end

    def pack_end(stream: Stream, end: int) -> bytes:
        at_end.set()
        return pack(stream, end)

    monkeypatch.setattr(zmq_sender, "pack_end", pack_end)
    sending = threading.Thread(target=send, args=(source, dying_receiver.endpoint, None), daemon=True)
    sending.start()
    assert at_end.wait(WAIT)
    dying_receiver.die()
    successor = listen(tmp_path, dying_receiver.endpoint)
    assert_same_samples(successor.ended(), source, ())
    successor.stop()
    sending.join(WAIT)
    assert not sending.is_alive()


def test_stopping_ends_the_stream_where_it_stands() -> None:
    stop = threading.Event()
    source = MemorySource(1000, on_read=lambda start: stop.set() if start >= 500 else None)
    with listener() as listening:
        report = send(source, listening.endpoint, None, frame_bytes=800, stop=stop)
        ring = listening.ended()
    assert report.end == report.samples == ring.last == 500


def test_stopping_works_at_a_slow_pace() -> None:
    stop = threading.Event()
    source = MemorySource(1000, on_read=lambda start: stop.set() if start >= 100 else None)
    with listener() as listening:
        report = send(source, listening.endpoint, 1.0, frame_bytes=800, stop=stop)
        assert listening.ended().last == 100
    assert report.end == 100


def test_a_slow_receiver_is_waited_for_beyond_the_patience() -> None:
    # Too much for the queues of both sockets and of the system: it can only arrive if the sender waits for the reader.
    source = MemorySource(12_000_000)
    reports: list[SendReport] = []
    with listener(capacity=100_000) as listening:
        sending = threading.Thread(
            target=lambda: reports.append(send(source, listening.endpoint, None, receiver_timeout=0.0)), daemon=True
        )
        sending.start()
        ring = listening.reader()
        for start in range(0, source.samples, 100_000):
            stop = min(start + 100_000, source.samples)
            assert ring.wait_until_ready(stop, WAIT)
            assert np.array_equal(ring.read(start, stop).data, source.data[start:stop])
            ring.release(stop)
        sending.join(WAIT)
    assert reports[0].samples == source.samples


def test_nobody_there_is_one_line() -> None:
    with zmq.Context() as context, context.socket(zmq.PULL) as socket:
        port = socket.bind_to_random_port("tcp://127.0.0.1")
    with pytest.raises(InputError, match="nobody receives at tcp") as caught:
        send(MemorySource(10), f"tcp://127.0.0.1:{port}", None, receiver_timeout=0.1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("endpoint", ["nonsense", "carrier-pigeon://here", "tcp://127.0.0.1"])
def test_an_endpoint_that_cannot_be_is_one_line(endpoint: str) -> None:
    with pytest.raises(InputError, match="cannot send to"):
        send(MemorySource(10), endpoint, None)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="speed"):
        send(MemorySource(10), "tcp://127.0.0.1:1", 0.0)
    with pytest.raises(ValueError, match="frame_bytes"):
        send(MemorySource(10), "tcp://127.0.0.1:1", None, frame_bytes=0)
