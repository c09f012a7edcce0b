"""Samples that are sent arrive unchanged, and missing samples stay missing."""

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefilter.core.chunk import Chunk, Gap, Loss
from edgefilter.core.errors import InputError
from edgefilter.core.stream import Stream
from edgefilter.node.ring import RingWriter
from edgefilter.sources.live import zmq_connections, zmq_sender
from edgefilter.sources.live.zmq_sender import SendReport, send
from tests.helpers.zmq_listener import (
    STREAM,
    WAIT,
    Listener,
    MemorySource,
    assert_same_samples,
    listener,
    send_source,
    wait_until,
)


def test_samples_arrive_unchanged() -> None:
    source = MemorySource(3001)
    with listener() as listening:
        report = send_source(source, listening.endpoint, frame_bytes=1000)
        ring = listening.wait_for_end()
        assert_same_samples(ring, source, ())
        assert ring.stream == STREAM
        assert ring.last == 3001
    assert (report.frames, report.samples, report.bytes, report.end) == (25, 3001, 3001 * 8, 3001)
    assert listening.zmq_input.counters.frames == 25


def test_the_sender_can_bind_for_an_input_that_connects(tmp_path: Path) -> None:
    source = MemorySource(500)
    endpoint = f"ipc://{tmp_path}/telescope"
    with listener(endpoint=endpoint, connect=True) as listening:
        send_source(source, endpoint, frame_bytes=80, bind=True)
        assert_same_samples(listening.wait_for_end(), source, ())


def test_an_ipc_sender_does_not_close_before_a_full_receiver_has_read(tmp_path: Path) -> None:
    # libzmq would handle the hang-up first and discard what it has not read: it reads 8 KiB at a time.
    source = MemorySource(4000)
    endpoint = f"ipc://{tmp_path}/telescope"
    with zmq.Context() as context, context.socket(zmq.PULL) as pull:
        pull.setsockopt(zmq.RCVHWM, 1)
        pull.setsockopt(zmq.RCVTIMEO, int(WAIT * 1000))
        pull.connect(endpoint)
        sending = threading.Thread(
            target=send_source, args=(source, endpoint), kwargs={"frame_bytes": 80, "bind": True}, daemon=True
        )
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
        report = send_source(source, listening.endpoint, frame_bytes=frame_bytes)
        ring = listening.wait_for_end()
        assert report.samples == there == listening.zmq_input.counters.samples
        chunk = ring.read(0, 1001)
        valid = Chunk(0, source.data, gaps).valid()
        assert np.array_equal(chunk.valid(), valid)
        assert np.array_equal(chunk.data[valid], source.data[valid])


def test_frames_can_be_dropped_on_purpose() -> None:
    source = MemorySource(1000)
    with listener() as listening:
        report = send_source(source, listening.endpoint, frame_bytes=800, drop=lambda frame: frame in (2, 5))
        assert_same_samples(
            listening.wait_for_end(), source, (Gap(200, 300, Loss.MISSING), Gap(500, 600, Loss.MISSING))
        )
    assert (report.frames, report.samples, report.dropped_frames, report.dropped_samples) == (8, 800, 2, 200)


def test_a_frame_has_at_least_one_sample() -> None:
    source = MemorySource(5)
    with listener() as listening:
        assert send_source(source, listening.endpoint, frame_bytes=1).frames == 5
        assert_same_samples(listening.wait_for_end(), source, ())


def test_an_empty_source_is_sent_as_an_empty_stream() -> None:
    with listener() as listening:
        assert send_source(MemorySource(0), listening.endpoint).frames == 0
        assert listening.wait_for_end().last == 0


def test_the_pace_is_real_time_times_speed() -> None:
    source = MemorySource(300)
    with listener() as listening:
        report = send_source(source, listening.endpoint, 2.0, frame_bytes=400)
        assert_same_samples(listening.wait_for_end(), source, ())
    assert report.seconds >= 0.15  # 0.3 s of samples at twice the speed


def test_the_header_is_repeated_for_late_receivers() -> None:
    source = MemorySource(400)
    with zmq.Context() as context, context.socket(zmq.PULL) as pull:
        port = pull.bind_to_random_port("tcp://127.0.0.1")
        sending = threading.Thread(
            target=send_source,
            args=(source, f"tcp://127.0.0.1:{port}"),
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
    """Wait, in the sender's thread, for a connection event that the sender has not read yet."""
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
    """A receiver that dies and loses all messages in its queue."""

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
    """Never set; calls an action at the n-th ``is_set`` after :meth:`arm`."""

    def __init__(self, number: int, action: Callable[[], None]) -> None:
        super().__init__()
        self.remaining = 0
        self.number, self.action = number, action

    def arm(self) -> None:
        self.remaining = self.number

    def is_set(self) -> bool:
        if self.remaining:
            self.remaining -= 1
            if not self.remaining:
                self.action()
        return False


def test_messages_to_a_receiver_that_disconnects_are_repeated_to_the_next_one(
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
    send_source(source, first.endpoint, frame_bytes=800)
    assert_same_samples(second[0].wait_for_end(), source, ())
    assert second[0].zmq_input.counters.repeated > 0
    second[0].stop()


def test_repeated_messages_are_sent_before_new_ones(tmp_path: Path, wait_for_monitor_event: Callable[[], None]) -> None:
    # The next receiver does not wait for samples older than the newest: if a new frame came first, all would be lost.
    source = MemorySource(4000)
    with RingWriter.create(tmp_path / "ring", STREAM, 5000) as ring:
        ring.write(0, source.data[:100].tobytes())
    dying_receiver = DyingReceiver()
    successor: list[Listener] = []
    # Called repeatedly while a frame waits for a receiver.
    stop = CountdownEvent(5, lambda: successor.append(listen(tmp_path, dying_receiver.endpoint)))

    def die(start: int) -> None:
        if start == 2000:
            dying_receiver.die()
            wait_for_monitor_event()
            stop.arm()

    source.on_read = die
    send_source(source, dying_receiver.endpoint, frame_bytes=800, stop=stop)
    assert_same_samples(successor[0].wait_for_end(), source, ())
    successor[0].stop()


def listen(folder: Path, endpoint: str) -> Listener:
    """Receive into an existing ring, without waiting for late samples."""
    return Listener(folder, 5000, endpoint=endpoint, ring=str(folder / "ring"), late_seconds=0.0)


def test_the_end_message_is_repeated_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = MemorySource(6 * 131_072)
    RingWriter.create(tmp_path / "ring", STREAM, source.samples).close()
    dying_receiver = DyingReceiver(
        RCVBUF=4096, RCVHWM=1
    )  # so that the END message is still queued at the sender when it dies
    at_end = threading.Event()
    pack = zmq_sender.pack_end

    def pack_end(stream: Stream, end: int) -> bytes:
        at_end.set()
        return pack(stream, end)

    monkeypatch.setattr(zmq_sender, "pack_end", pack_end)
    sending = threading.Thread(target=send_source, args=(source, dying_receiver.endpoint), daemon=True)
    sending.start()
    assert at_end.wait(WAIT)
    dying_receiver.die()
    successor = listen(tmp_path, dying_receiver.endpoint)
    assert_same_samples(successor.wait_for_end(), source, ())
    successor.stop()
    sending.join(WAIT)
    assert not sending.is_alive()


def test_stopping_ends_the_stream_at_the_last_sent_sample() -> None:
    stop = threading.Event()
    source = MemorySource(1000, on_read=lambda start: stop.set() if start >= 500 else None)
    with listener() as listening:
        report = send_source(source, listening.endpoint, frame_bytes=800, stop=stop)
        ring = listening.wait_for_end()
    assert report.end == report.samples == ring.last == 500


def test_stopping_works_at_a_slow_pace() -> None:
    stop = threading.Event()
    source = MemorySource(1000, on_read=lambda start: stop.set() if start >= 100 else None)
    with listener() as listening:
        report = send_source(source, listening.endpoint, 1.0, frame_bytes=800, stop=stop)
        assert listening.wait_for_end().last == 100
    assert report.end == 100


def test_the_receiver_timeout_does_not_apply_to_a_slow_receiver() -> None:
    # Too much for the queues of both sockets and of the kernel: all arrive only if the sender waits for the reader.
    source = MemorySource(12_000_000)
    reports: list[SendReport] = []
    with listener(capacity=100_000) as listening:
        sending = threading.Thread(
            target=lambda: reports.append(send_source(source, listening.endpoint, receiver_timeout=0.0)), daemon=True
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


def test_a_missing_receiver_is_an_error_of_one_line() -> None:
    with zmq.Context() as context, context.socket(zmq.PULL) as socket:
        port = socket.bind_to_random_port("tcp://127.0.0.1")
    with pytest.raises(InputError, match="no receiver at tcp") as caught:
        send_source(MemorySource(10), f"tcp://127.0.0.1:{port}", receiver_timeout=0.1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("endpoint", ["nonsense", "carrier-pigeon://here", "tcp://127.0.0.1"])
def test_an_invalid_endpoint_is_an_error(endpoint: str) -> None:
    with pytest.raises(InputError, match="cannot send to"):
        send_source(MemorySource(10), endpoint)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="speed"):
        send(MemorySource(10), "tcp://127.0.0.1:1", 0.0)
    with pytest.raises(ValueError, match="frame_bytes"):
        send_source(MemorySource(10), "tcp://127.0.0.1:1", frame_bytes=0)
