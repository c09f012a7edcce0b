"""The receiver takes good frames in, counts everything else, and is never stopped by what arrives."""

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefilter.chunk import Gap, Loss
from edgefilter.errors import InputError
from edgefilter.node.old_receiver import Receiver
from edgefilter.node.ring import Ring
from edgefilter.sources.wire import pack_end, pack_frame_header, pack_stream
from edgefilter.stream import Encoding, Kind, Stream

STREAM = Stream("test", Kind.POWER, 0, Fraction(1000), 8, 1e8, 1e6, ("I",), 8, Encoding.UNSIGNED)
OTHER = replace(STREAM, name="other")
LOOPBACK = "tcp://127.0.0.1:*"
WAIT = 20.0


def frame(start: int, stop: int, salt: int = 0, stream: Stream = STREAM) -> bytes:
    """Make a frame whose samples are their own numbers times 1000 plus the salt."""
    return (
        pack_frame_header(stream, start, stop - start) + (np.arange(start, stop) * 1000 + salt).astype("<u8").tobytes()
    )


class Telescope:
    """A receiver at work, and a socket to send anything to it."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", endpoint: str, capacity: int) -> None:
        self.made = threading.Event()
        self.receiver = Receiver(endpoint, lambda stream: self.make(stream, capacity), context)
        self.thread = threading.Thread(target=self.receiver.run, daemon=True)
        self.thread.start()
        self.socket = context.socket(zmq.PUSH)
        self.socket.connect(self.receiver.endpoint)

    def make(self, stream: Stream, capacity: int) -> Ring:
        self.ring = Ring(stream, capacity)
        self.made.set()
        return self.ring

    def say(self, *messages: bytes) -> None:
        for message in messages:
            self.socket.send(message)

    def finish(self) -> Ring:
        """End the stream, wait until all that was said has been taken in, and stop."""
        self.say(pack_stream(STREAM), pack_end(STREAM, 0))
        assert self.made.wait(WAIT)
        self.ring.wait_for_first(WAIT)
        # Room is left, and no slack is enough: only the end makes this ready.
        assert self.ring.wait_until_ready((self.ring.tail or 0) + self.ring.capacity, 1 << 40, WAIT)
        self.stop()
        return self.ring

    def stop(self) -> None:
        self.receiver.stop()
        self.thread.join(WAIT)
        assert not self.thread.is_alive()


@contextmanager
def telescope(endpoint: str = LOOPBACK, capacity: int = 1000) -> Iterator[Telescope]:
    with zmq.Context() as context:
        scope = Telescope(context, endpoint, capacity)
        try:
            yield scope
        finally:
            if scope.made.is_set():
                scope.ring.close()
            scope.stop()
            scope.socket.close(0)


def numbers(ring: Ring, start: int, stop: int) -> list[int]:
    chunk = ring.read(start, stop)
    assert chunk.gaps == ()
    return chunk.data.reshape(-1).view("<u8").tolist()


@pytest.mark.parametrize("endpoint", [LOOPBACK, "inproc://telescope"])
def test_a_stream_arrives(endpoint: str) -> None:
    with telescope(endpoint) as scope:
        scope.say(pack_stream(STREAM), frame(10, 30), frame(30, 60))
        ring = scope.finish()
        assert ring.stream == STREAM
        assert numbers(ring, 10, 60) == [1000 * sample for sample in range(10, 60)]
        assert ring.last == 60
        assert ring.closed
        counters = scope.receiver.counters
        assert (counters.frames, counters.bytes, counters.samples) == (2, 400, 50)
        assert counters.ended
        assert not counters.malformed


def test_repeated_late_lost_and_disordered_frames_are_counted() -> None:
    with telescope() as scope:
        scope.say(pack_stream(STREAM), frame(10, 20), frame(30, 40), frame(15, 25, salt=7), frame(0, 12), frame(30, 40))
        ring = scope.finish()
        counters = scope.receiver.counters
        assert (counters.samples, counters.repeated, counters.late) == (25, 17, 10)
        assert ring.read(0, 40).gaps == (Gap(0, 10, Loss.OUTSIDE), Gap(25, 30, Loss.MISSING))


def test_frames_of_unknown_streams_are_counted_and_left_out() -> None:
    with telescope() as scope:
        scope.say(frame(0, 10), pack_end(STREAM, 5), pack_stream(STREAM), frame(20, 30, stream=OTHER))
        scope.say(pack_stream(OTHER), frame(20, 30), pack_end(OTHER, 5), pack_stream(STREAM))
        ring = scope.finish()
        counters = scope.receiver.counters
        assert (counters.unknown_stream, counters.other_stream, counters.frames) == (4, 1, 1)
        assert ring.stream == STREAM
        assert numbers(ring, 20, 30) == [1000 * sample for sample in range(20, 30)]


def test_a_full_ring_holds_the_sender_up_and_loses_nothing() -> None:
    with telescope(capacity=64) as scope:
        scope.socket.setsockopt(zmq.SNDTIMEO, int(WAIT * 1000))
        messages = [pack_stream(STREAM), *(frame(start, start + 100) for start in range(0, 3000, 100))]
        sending = threading.Thread(target=scope.say, args=(*messages, pack_end(STREAM, 3000)), daemon=True)
        sending.start()
        assert scope.made.wait(WAIT)
        for start in range(0, 3000, 50):
            assert scope.ring.wait_until_ready(start + 50, 1000, WAIT)
            assert numbers(scope.ring, start, start + 50) == [1000 * sample for sample in range(start, start + 50)]
            scope.ring.release(start + 50)
        sending.join(WAIT)
        scope.stop()
        assert scope.receiver.counters.samples == 3000


def test_stopping_takes_in_what_has_arrived() -> None:
    with zmq.Context() as context:
        rings: list[Ring] = []
        receiver = Receiver("inproc://stop", lambda stream: rings.append(Ring(stream, 1000)) or rings[0], context)
        with context.socket(zmq.PUSH) as socket:
            socket.connect(receiver.endpoint)
            for message in (pack_stream(STREAM), frame(0, 10), frame(10, 20)):
                socket.send(message)
            receiver.stop()
            receiver.run()
    assert rings[0].closed
    assert rings[0].last == 20
    assert numbers(rings[0], 0, 20) == [1000 * sample for sample in range(20)]


def test_a_reader_that_gives_up_frees_the_receiver() -> None:
    with telescope(capacity=10) as scope:
        scope.say(pack_stream(STREAM), frame(0, 100))
        assert scope.made.wait(WAIT)
        assert scope.ring.wait_until_ready(10, 1000, WAIT)
        scope.ring.close()
        scope.thread.join(WAIT)
        assert not scope.thread.is_alive()


def test_what_the_factory_raises_comes_out_of_run() -> None:
    def refuse(stream: Stream) -> Ring:
        raise InputError("not this stream")

    with zmq.Context() as context:
        receiver = Receiver("inproc://refuse", refuse, context)
        with context.socket(zmq.PUSH) as socket:
            socket.connect(receiver.endpoint)
            socket.send(pack_stream(STREAM))
            with pytest.raises(InputError, match="not this stream"):
                receiver.run()


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1", "nonsense", "carrier-pigeon://here"])
def test_an_endpoint_that_cannot_be_is_one_line(endpoint: str) -> None:
    with pytest.raises(InputError, match="cannot listen at") as caught:
        Receiver(endpoint, lambda stream: Ring(stream, 10))
    assert "\n" not in str(caught.value)


def test_an_endpoint_in_use_is_one_line() -> None:
    receiver = Receiver(LOOPBACK, lambda stream: Ring(stream, 10))
    try:
        with pytest.raises(InputError, match="in use"):
            Receiver(receiver.endpoint, lambda stream: Ring(stream, 10))
    finally:
        receiver.close()


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
def test_whatever_arrives_the_ring_holds_what_good_frames_said(
    messages: list[tuple[bytes, str, tuple[int, int]]],
) -> None:
    with telescope("inproc://fuzz") as scope:
        scope.say(pack_stream(STREAM), *(message for message, _, _ in messages))
        ring = scope.finish()
        counters = scope.receiver.counters
        faults = Counter(kind for _, kind, _ in messages if kind)
        assert counters.unknown_stream == faults.pop("unknown", 0)
        assert counters.malformed == faults
        good = [at for _, kind, at in messages if not kind]
        assert counters.frames == len(good)
        assert counters.samples + counters.repeated + counters.late == sum(count for _, count in good)
        first = good[0][0] if good else 0
        said = {sample for start, count in good for sample in range(max(start, first), start + count)}
        chunk = ring.read(0, 400)
        valid = np.flatnonzero(chunk.valid())
        assert set(valid.tolist()) == said
        assert np.array_equal(chunk.data.view("<u8")[valid, 0], valid * 1000)


def test_the_receiver_starts_without_the_heavy_packages() -> None:
    code = (
        "import sys, edgefilter.node.old_receiver, edgefilter.node.sender, edgefilter.sources.wire\n"
        "print(sorted({'numba', 'scipy', 'astropy', 'h5py', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
