"""The ZeroMQ input writes well-formed frames to the ring, counts all other messages, and no message stops it."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefilter.core.chunk import Gap, Loss
from edgefilter.core.errors import ConfigError, InputError
from edgefilter.core.stream import Encoding, SampleKind, Stream
from edgefilter.node.receiver.input import Input, InputSettings
from edgefilter.node.ring import Policy, RingReader, RingWriter
from edgefilter.sources.live.zmq_input import ZmqInput
from edgefilter.sources.live.zmq_wire import pack_end, pack_frame_header, pack_stream

STREAM = Stream("test", SampleKind.POWER, 0, Fraction(1000), 8, 1e8, 1e6, ("I",), 8, Encoding.UNSIGNED)
OTHER = replace(STREAM, name="other")
LOOPBACK = "tcp://127.0.0.1:*"
WAIT = 20.0
CAPACITY = 512
"""Samples in a page, the smallest ring."""


def frame(start: int, stop: int, salt: int = 0, stream: Stream = STREAM) -> bytes:
    """Make a frame whose samples are their own numbers times 1000 plus the salt."""
    return (
        pack_frame_header(stream, start, stop - start) + (np.arange(start, stop) * 1000 + salt).astype("<u8").tobytes()
    )


class Telescope:
    """A running input, a socket that sends any message to it, and readers of its ring."""

    def __init__(self, folder: Path, capacity: int = CAPACITY, policy: Policy = Policy.HOLD, **fields: Any) -> None:
        self.path = folder / "ring"
        self.capacity, self.policy = capacity, policy
        fields = {"name": "main", "endpoint": LOOPBACK, "late_seconds": 1e6} | fields
        self.zmq_input = Input(InputSettings(**fields), ZmqInput, self.on_stream)
        self.thread = threading.Thread(target=self.zmq_input.run, daemon=True)
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self.connect()
        self.thread.start()

    def connect(self) -> "zmq.Socket[bytes]":
        socket = self.context.socket(zmq.PUSH)
        socket.setsockopt(zmq.SNDTIMEO, int(WAIT * 1000))
        (socket.bind if self.zmq_input.settings.connect else socket.connect)(self.zmq_input.endpoint)
        return socket

    def on_stream(self, stream: Stream) -> None:
        RingWriter.create(self.path, stream, self.capacity, self.policy).close()
        self.zmq_input.set_ring(self.path)

    def reader(self, name: str = "reader") -> RingReader:
        return RingReader.attach(self.path, name, timeout=WAIT)

    def send(self, *messages: bytes) -> None:
        for message in messages:
            self.socket.send(message)

    def finish(self) -> RingReader:
        """End the stream and wait until the input has handled all messages."""
        self.send(pack_stream(STREAM), pack_end(STREAM, 0))
        reader = self.reader()
        wait_until(lambda: reader.last is not None)
        return reader

    def stop(self) -> None:
        self.zmq_input.drain()
        self.thread.join(WAIT)
        assert not self.thread.is_alive()
        self.context.destroy(0)


@contextmanager
def telescope(**fields: Any) -> Iterator[Telescope]:
    with TemporaryDirectory() as folder:
        scope = Telescope(Path(folder), **fields)
        try:
            yield scope
        finally:
            scope.stop()


def numbers(ring: RingReader, start: int, stop: int) -> list[int]:
    chunk = ring.read(start, stop)
    assert chunk.gaps == ()
    return chunk.data.reshape(-1).view("<u8").tolist()


def test_a_stream_arrives() -> None:
    with telescope() as scope:
        scope.send(pack_stream(STREAM), frame(10, 30), frame(30, 60))
        ring = scope.finish()
        assert ring.stream == STREAM
        assert numbers(ring, 10, 60) == [1000 * sample for sample in range(10, 60)]
        assert ring.last == 60
        fields = scope.zmq_input.status()
        assert fields["counters"] == {
            "frames": 2, "bytes": 400, "samples": 50, "repeated": 0, "late": 0, "unknown_stream": 0, "other_stream": 0,
            "malformed": {}, "input": {}, "ended": True,
        }  # fmt: skip
        assert Stream.from_json(fields["header"]) == STREAM
        assert (fields["head"], fields["tail"], fields["lag"], fields["lost"]) == (60, 10, 50, 0)
        assert fields["ring"] == str(scope.path)


def test_repeated_late_lost_and_disordered_frames_are_counted() -> None:
    with telescope() as scope:
        scope.send(
            pack_stream(STREAM), frame(10, 20), frame(30, 40), frame(15, 25, salt=7), frame(0, 12), frame(30, 40)
        )
        ring = scope.finish()
        counters = scope.zmq_input.counters
        assert (counters.samples, counters.repeated, counters.late) == (25, 17, 10)
        assert ring.read(0, 40).gaps == (Gap(0, 10, Loss.OUTSIDE), Gap(25, 30, Loss.MISSING))
        assert scope.zmq_input.status()["lost"] == 5


def test_frames_of_unknown_streams_are_counted_and_not_written() -> None:
    with telescope() as scope:
        scope.send(frame(0, 10), pack_end(STREAM, 5), pack_stream(STREAM), frame(20, 30, stream=OTHER))
        scope.send(pack_stream(OTHER), frame(20, 30), pack_end(OTHER, 5), pack_stream(STREAM))
        ring = scope.finish()
        counters = scope.zmq_input.counters
        assert (counters.unknown_stream, counters.other_stream, counters.frames) == (4, 1, 1)
        assert ring.stream == STREAM
        assert numbers(ring, 20, 30) == [1000 * sample for sample in range(20, 30)]


def test_a_frame_or_end_too_far_ahead_is_malformed() -> None:
    with telescope(max_gap_seconds=60.0) as scope:  # 60,000 samples
        scope.send(
            pack_stream(STREAM), frame(10, 30), frame(10**15, 10**15 + 5), pack_end(STREAM, 10**15), frame(30, 40)
        )
        ring = scope.finish()
        assert ring.last == 40
        assert scope.zmq_input.counters.malformed == {"far": 2}
        assert scope.zmq_input.counters.frames == 2


def test_a_full_ring_blocks_the_sender_and_loses_nothing() -> None:
    with telescope() as scope:
        messages = [pack_stream(STREAM), *(frame(start, start + 100) for start in range(0, 9000, 100))]
        sending = threading.Thread(target=scope.send, args=(*messages, pack_end(STREAM, 9000)), daemon=True)
        sending.start()
        ring = scope.reader()
        for start in range(0, 9000, 50):
            assert ring.wait_until_ready(start + 50, WAIT)
            assert numbers(ring, start, start + 50) == [1000 * sample for sample in range(start, start + 50)]
            ring.release(start + 50)
        sending.join(WAIT)
        scope.stop()
        assert scope.zmq_input.counters.samples == 9000


def test_a_ring_that_drops_the_oldest_samples_never_blocks_the_sender() -> None:
    with telescope(policy=Policy.DROP_OLDEST) as scope:
        scope.send(pack_stream(STREAM), *(frame(start, start + 100) for start in range(0, 9000, 100)))
        ring = scope.finish()
        assert ring.tail == 9000 - CAPACITY
        assert numbers(ring, ring.tail, 9000) == [1000 * sample for sample in range(9000 - CAPACITY, 9000)]
        assert ring.read(ring.tail - 10, 9000 - 10).gaps == (Gap(ring.tail - 10, ring.tail, Loss.OVERRUN),)


def test_drain_receives_what_has_arrived_and_ends_the_run() -> None:
    with telescope() as scope:
        scope.send(pack_stream(STREAM), frame(0, 10), frame(10, 20), frame(30, 40))
        ring = scope.reader()
        assert ring.wait_for_first_sample(WAIT) == 0
        scope.stop()
        assert ring.last == 40
        assert numbers(ring, 0, 20) == [1000 * sample for sample in range(20)]


def test_samples_without_room_in_the_ring_at_the_end_count_as_lost() -> None:
    with telescope() as scope:
        scope.zmq_input._drain_seconds = 0.0
        scope.send(pack_stream(STREAM), frame(0, CAPACITY + 100))
        ring = scope.reader()
        assert ring.wait_until_ready(CAPACITY, WAIT)
        scope.stop()
        assert ring.last == CAPACITY + 100
        assert ring.lost == 100


def test_another_input_continues_at_the_same_endpoint_and_ring(tmp_path: Path) -> None:
    first = Telescope(tmp_path)
    first.send(pack_stream(STREAM), frame(0, 10))
    ring = first.reader()
    assert ring.wait_until_ready(10, WAIT)
    first.zmq_input.retire()
    second = Telescope(tmp_path, endpoint=first.zmq_input.endpoint, ring=str(first.path))
    first.thread.join(WAIT)
    assert ring.last is None
    second.send(frame(10, 30))  # no stream header: the ring contains it
    assert ring.wait_until_ready(30, WAIT)
    assert numbers(ring, 0, 30) == [1000 * sample for sample in range(30)]
    second.stop()
    first.context.destroy(0)


def test_a_frame_without_room_when_the_input_retires_is_not_overtaken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next input gets the frame again, and a newer frame in the ring could make its samples count as lost."""
    with telescope() as scope:
        scope.send(pack_stream(STREAM))
        ring = scope.reader()

        def give_up(_: RingWriter) -> bool:
            scope.zmq_input.retire()
            ring.release(CAPACITY)
            return False

        monkeypatch.setattr(scope.zmq_input, "_wait_for_room", give_up)
        scope.send(frame(0, CAPACITY + 100), frame(CAPACITY + 100, CAPACITY + 200))
        scope.thread.join(WAIT)
        assert ring.head == CAPACITY


def test_an_input_can_connect_to_a_sender_that_binds(tmp_path: Path) -> None:
    with telescope(endpoint=f"ipc://{tmp_path}/telescope", connect=True) as scope:
        scope.send(pack_stream(STREAM), frame(0, 10))
        assert numbers(scope.finish(), 0, 10) == [1000 * sample for sample in range(10)]


def test_connections_are_counted() -> None:
    with telescope() as scope:
        scope.send(pack_stream(STREAM))
        scope.reader()
        second = scope.connect()
        second.send(pack_stream(STREAM))
        wait_until(lambda: scope.zmq_input.connections == 2)
        second.close(0)
        wait_until(lambda: scope.zmq_input.connections == 1)


def wait_until(condition: Any) -> None:
    event = threading.Event()
    for _ in range(2000):
        if condition():
            return
        event.wait(0.01)
    raise AssertionError("the condition did not become true")


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1", "nonsense", "carrier-pigeon://here", "tcp://127.0.0.1:70000"])
def test_an_invalid_endpoint_is_a_one_line_error(endpoint: str) -> None:
    with pytest.raises(ConfigError, match="must be tcp://HOST:PORT") as caught:
        Input(InputSettings(endpoint), ZmqInput, lambda stream: None)
    assert "\n" not in str(caught.value)


def test_an_endpoint_in_use_is_an_input_error() -> None:
    zmq_input = Input(InputSettings(LOOPBACK), ZmqInput, lambda stream: None)
    try:
        with pytest.raises(InputError, match="in use"):
            Input(InputSettings(zmq_input.endpoint, bind_seconds=0.1), ZmqInput, lambda stream: None)
    finally:
        zmq_input.close()


def test_an_endpoint_that_other_machines_can_reach_needs_curve_or_insecure() -> None:
    with pytest.raises(ConfigError, match="insecure = true"):
        Input(InputSettings("tcp://0.0.0.0:*"), ZmqInput, lambda stream: None)
    Input(InputSettings("tcp://0.0.0.0:*", insecure=True), ZmqInput, lambda stream: None).close()


GOOD = st.tuples(st.integers(0, 300), st.integers(1, 60)).map(lambda at: (frame(at[0], at[0] + at[1]), "", at))
FAULTS = st.one_of(
    st.binary(max_size=63).map(lambda data: (data, "short", (0, 0))),
    st.binary(min_size=64, max_size=200).map(lambda data: (b"X" + data, "magic", (0, 0))),
    st.integers(2, 2**16 - 1).map(lambda v: (b"EDGF" + v.to_bytes(2, "little") + frame(0, 9)[6:], "version", (0, 0))),
    st.integers(48, 511).map(lambda bit: (flip(frame(0, 9, salt=5), bit), "checksum", (0, 0))),
    st.integers(0, 71).map(lambda cut: (frame(0, 9, salt=5)[: 64 + cut], "size", (0, 0))),
    st.binary(min_size=1, max_size=20).map(lambda extra: (frame(0, 9, salt=5) + extra, "size", (0, 0))),
    st.just((frame(0, 9, salt=5, stream=OTHER), "unknown", (0, 0))),
)


def flip(message: bytes, bit: int) -> bytes:
    data = bytearray(message)
    data[bit // 8] ^= 1 << bit % 8
    return bytes(data)


@given(st.lists(GOOD | FAULTS, max_size=25))
@settings(deadline=None, max_examples=25)
def test_the_ring_has_exactly_the_samples_of_well_formed_frames(
    messages: list[tuple[bytes, str, tuple[int, int]]],
) -> None:
    with telescope() as scope:
        scope.send(pack_stream(STREAM), *(message for message, _, _ in messages))
        ring = scope.finish()
        counters = scope.zmq_input.counters
        faults = Counter(kind for _, kind, _ in messages if kind)
        assert counters.unknown_stream == faults.pop("unknown", 0)
        assert counters.malformed == faults
        good = [at for _, kind, at in messages if not kind]
        assert counters.frames == len(good)
        assert counters.samples + counters.repeated + counters.late == sum(count for _, count in good)
        first = good[0][0] if good else 0
        sent = {sample for start, count in good for sample in range(max(start, first), start + count)}
        chunk = ring.read(0, 400)
        valid = np.flatnonzero(chunk.valid())
        assert set(valid.tolist()) == sent
        assert np.array_equal(chunk.data.view("<u8")[valid, 0], valid * 1000)
