"""The ring holds what came first, in any order, and says of everything else why it is not there."""

import threading
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefilter.chunk import Chunk, Gap, Loss
from edgefilter.errors import InputError
from edgefilter.node.ring import Placed, Ring
from edgefilter.stream import Encoding, Kind, Stream

# A sample is 16 bytes: its own number and the number of the frame that brought it.
STREAM = Stream("test", Kind.POWER, 0, Fraction(1000), 16, 1e8, 1e6, ("I",), 8, Encoding.UNSIGNED)
WAIT = 20.0


def payload(start: int, samples: int, frame: int = 0) -> bytes:
    numbers = np.zeros((samples, 2), np.uint64)
    numbers[:, 0] = np.arange(start, start + samples)
    numbers[:, 1] = frame
    return numbers.tobytes()


def put(ring: Ring, start: int, stop: int, frame: int = 0) -> Placed:
    return ring.place(start, payload(start, stop - start, frame))


def contents(chunk: Chunk) -> dict[int, int]:
    """Sample numbers that a chunk has, and the frame that brought each."""
    numbers = chunk.data.reshape(-1).view(np.uint64).reshape(-1, 2)
    found = {}
    for at in np.flatnonzero(chunk.valid()):
        assert numbers[at, 0] == chunk.start + at
        found[int(chunk.start + at)] = int(numbers[at, 1])
    return found


def in_thread(run: Callable[[], object]) -> Callable[[], object]:
    """Start a thread; what comes back waits for its result."""
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(run()), daemon=True)
    thread.start()

    def join() -> object:
        thread.join(WAIT)
        assert not thread.is_alive(), "the thread still waits"
        return results[0]

    return join


def test_what_is_placed_can_be_read_without_a_copy() -> None:
    ring = Ring(STREAM, 100)
    assert put(ring, 1000, 1050) == Placed(50, 0, 0, 0)
    chunk = ring.read(1010, 1040)
    assert contents(chunk) == dict.fromkeys(range(1010, 1040), 0)
    assert chunk.gaps == ()
    assert not chunk.data.flags.owndata
    assert not chunk.data.flags.writeable
    assert (ring.first, ring.tail, ring.head, ring.last) == (1000, 1000, 1050, None)


def test_what_wraps_around_is_read_in_one_piece() -> None:
    ring = Ring(STREAM, 100)
    put(ring, 0, 90)
    ring.release(60)
    put(ring, 90, 150)
    chunk = ring.read(60, 150)
    assert contents(chunk) == dict.fromkeys(range(60, 150), 0)
    assert chunk.data.flags.c_contiguous


def test_the_first_of_two_that_bring_a_sample_wins() -> None:
    ring = Ring(STREAM, 100)
    put(ring, 0, 10, frame=1)
    assert put(ring, 5, 15, frame=2) == Placed(5, 5, 0, 0)
    assert contents(ring.read(0, 15)) == {sample: 1 if sample < 10 else 2 for sample in range(15)}


def test_gaps_say_why() -> None:
    ring = Ring(STREAM, 100)
    put(ring, 10, 20)
    put(ring, 30, 40)
    ring.end(45)
    assert ring.read(0, 60).gaps == (
        Gap(0, 10, Loss.OUTSIDE),
        Gap(20, 30, Loss.MISSING),
        Gap(40, 45, Loss.MISSING),
        Gap(45, 60, Loss.OUTSIDE),
    )


def test_a_window_may_begin_before_sample_zero() -> None:
    ring = Ring(STREAM, 100)
    put(ring, 0, 10)
    assert ring.read(-5, 10).gaps == (Gap(-5, 0, Loss.OUTSIDE),)


def test_what_comes_before_the_tail_is_late() -> None:
    ring = Ring(STREAM, 100)
    put(ring, 50, 60)
    assert put(ring, 40, 55, frame=1) == Placed(0, 5, 10, 0)
    ring.release(58)
    assert put(ring, 50, 60, frame=1) == Placed(0, 2, 8, 0)


def test_what_was_read_as_missing_stays_missing() -> None:
    ring = Ring(STREAM, 100)
    put(ring, 0, 10)
    put(ring, 20, 30)
    assert ring.read(0, 20).gaps == (Gap(10, 20, Loss.MISSING),)
    assert put(ring, 10, 20) == Placed(0, 0, 10, 0)
    assert ring.read(5, 30).gaps == (Gap(10, 20, Loss.MISSING),)


def test_frames_past_the_end_are_late_and_the_end_cuts_nothing_off() -> None:
    ring = Ring(STREAM, 100)
    put(ring, 0, 30)
    ring.end(20)
    assert ring.last == 30
    ring.end(90)
    assert ring.last == 30
    assert put(ring, 25, 40) == Placed(0, 5, 10, 0)
    assert put(ring, 500, 510) == Placed(0, 0, 10, 0)


def test_a_full_ring_takes_what_fits_and_the_rest_once_there_is_room() -> None:
    ring = Ring(STREAM, 100)
    put(ring, 0, 80)
    assert put(ring, 80, 130) == Placed(20, 0, 0, 30)
    assert ring.wanted == 100
    assert not ring.wait_for_room(timeout=0)
    waiting = in_thread(lambda: ring.wait_for_room(WAIT))
    ring.release(40)
    assert waiting() is True
    assert ring.wanted is None
    assert put(ring, 100, 130) == Placed(30, 0, 0, 0)
    assert contents(ring.read(40, 130)) == dict.fromkeys(range(40, 130), 0)


def test_a_reader_is_woken_by_what_it_waits_for() -> None:
    ring = Ring(STREAM, 100)
    waiting = in_thread(lambda: (ring.wait_for_first(WAIT), ring.wait_until_ready(20, 50, WAIT)))
    put(ring, 10, 20)
    put(ring, 0, 10)  # before the first: late, and not waited for
    assert waiting() == (10, True)


def test_a_gap_is_waited_for_until_the_head_is_slack_beyond_it() -> None:
    ring = Ring(STREAM, 100)
    assert not ring.ready(10, 5)
    put(ring, 0, 10)
    put(ring, 20, 29)
    assert ring.ready(10, 10)
    assert not ring.ready(15, 15)
    assert not ring.ready(25, 10)
    put(ring, 29, 30)
    assert ring.ready(25, 10)
    assert not ring.ready(31, 10)


def test_a_gap_that_was_read_is_not_waited_for_again() -> None:
    ring = Ring(STREAM, 100)
    put(ring, 0, 10)
    put(ring, 20, 30)
    assert not ring.ready(25, 50)
    ring.read(0, 20)
    assert ring.ready(25, 50)


@pytest.mark.parametrize("finish", [lambda ring: ring.end(30), lambda ring: ring.close()])
def test_after_the_end_nothing_is_waited_for(finish: Callable[[Ring], None]) -> None:
    ring = Ring(STREAM, 100)
    put(ring, 0, 10)
    waiting = in_thread(lambda: ring.wait_until_ready(50, 0, WAIT))
    finish(ring)
    assert waiting() is True
    assert ring.read(0, 50).gaps[-1] == Gap(ring.last or 0, 50, Loss.OUTSIDE)


def test_closing_ends_the_run_at_the_head_and_frees_the_writer() -> None:
    ring = Ring(STREAM, 10)
    assert put(ring, 0, 15).held == 5
    waiting = in_thread(lambda: ring.wait_for_room(WAIT))
    ring.close()
    assert waiting() is False
    assert ring.closed
    assert ring.last == 10
    assert put(ring, 10, 15) == Placed(0, 0, 5, 0)
    assert contents(ring.read(0, 10)) == dict.fromkeys(range(10), 0)


def test_a_run_without_samples_ends_too() -> None:
    ring = Ring(STREAM, 10)
    waiting = in_thread(lambda: ring.wait_for_first(WAIT))
    ring.close()
    assert waiting() is None
    assert ring.ready(10, 0)
    assert ring.read(0, 10).gaps == (Gap(0, 10, Loss.OUTSIDE),)


def test_a_jump_far_ahead_does_not_lock_reader_and_writer() -> None:
    ring = Ring(STREAM, 100)
    put(ring, 0, 50)

    def write() -> None:
        while put(ring, 1030, 1060).held:
            assert ring.wait_for_room(WAIT)
        ring.end(1060)

    writing = in_thread(write)
    found: dict[int, int] = {}
    for start in range(0, 1060, 40):
        assert ring.wait_until_ready(start + 40, 500, WAIT)
        found |= contents(ring.read(start, start + 40))
        ring.release(start + 40)
    writing()
    assert list(found) == [*range(50), *range(1030, 1060)]


def test_a_ring_that_fills_up_behind_a_gap_does_not_lock() -> None:
    ring = Ring(STREAM, 100)
    put(ring, 0, 10)
    assert put(ring, 20, 110).held == 10
    assert ring.ready(50, 1000)
    ring.release(40)
    assert not ring.ready(120, 1000)


def test_releasing_before_the_first_frame_says_where_the_ring_begins() -> None:
    ring = Ring(STREAM, 100)
    ring.release(500)
    assert put(ring, 490, 510) == Placed(10, 0, 10, 0)
    assert (ring.tail, ring.first) == (500, 500)
    assert contents(ring.read(490, 510)) == dict.fromkeys(range(500, 510), 0)


def test_memory_may_come_from_elsewhere() -> None:
    memory = bytearray(10 * 16)
    ring = Ring(STREAM, 10, memory)
    put(ring, 3, 5)
    assert bytes(memory[48:80]) == payload(3, 2)


def test_wrong_use_is_refused() -> None:
    with pytest.raises(ValueError, match="capacity"):
        Ring(STREAM, 0)
    with pytest.raises(ValueError, match="160"):
        Ring(STREAM, 10, bytearray(7))
    with pytest.raises(InputError, match="GiB"):
        Ring(STREAM, 1 << 58)
    ring = Ring(STREAM, 10)
    with pytest.raises(ValueError, match="samples of 16 bytes"):
        ring.place(0, b"abc")
    put(ring, 0, 10)
    ring.release(5)
    with pytest.raises(ValueError, match="released"):
        ring.read(4, 8)
    with pytest.raises(ValueError, match="more than"):
        ring.read(5, 16)
    with pytest.raises(ValueError, match="more than"):
        ring.ready(16, 0)


class Model:
    """What a ring must do, sample by sample."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.there: dict[int, int] = {}
        self.seen: set[int] = set()
        self.decided = self.tail = -1
        self.end: int | None = None

    def place(self, start: int, stop: int, frame: int) -> Placed:
        if self.tail < 0:
            self.tail = start
        counts = [0, 0, 0, 0]
        drop_all = self.end is not None and self.end <= self.tail + self.capacity
        for sample in range(start, stop):
            if sample >= self.tail + self.capacity and not drop_all:
                counts[3] += 1
            elif sample in self.there:
                counts[1] += 1
            elif sample < max(self.tail, self.decided) or (self.end is not None and sample >= self.end):
                counts[2] += 1
            else:
                self.there[sample] = frame
                self.seen.add(sample)
                counts[0] += 1
        return Placed(*counts)

    def gaps(self, start: int, stop: int) -> dict[int, Loss]:
        first = min(self.seen, default=stop)
        end = stop if self.end is None else self.end
        return {
            sample: Loss.MISSING if first <= sample < end else Loss.OUTSIDE
            for sample in range(start, stop)
            if sample not in self.there
        }


STEP = st.one_of(
    st.tuples(st.just("place"), st.integers(-40, 60), st.integers(1, 45)),
    st.tuples(st.just("place"), st.integers(-5, 25), st.integers(1, 10)),
    st.tuples(st.just("read"), st.integers(-10, 20), st.integers(0, 30)),
    st.tuples(st.just("release"), st.integers(1, 20), st.just(0)),
    st.tuples(st.just("end"), st.integers(0, 60), st.just(0)),
)


@given(st.integers(1, 40), st.integers(0, 2**62), st.lists(STEP, min_size=3, max_size=40))
@settings(deadline=None, max_examples=150)
def test_any_order_of_frames_reads_and_releases_is_as_the_model_says(
    capacity: int, origin: int, steps: list[tuple[str, int, int]]
) -> None:
    ring, model = Ring(STREAM, capacity), Model(capacity)
    for frame, (step, at, count) in enumerate(steps):
        near = origin if model.tail < 0 else max(model.tail, origin)
        if step == "place":
            start = max(near + at, 0)
            assert put(ring, start, start + count, frame) == model.place(start, start + count, frame)
        elif model.tail < 0:
            continue
        elif step == "read":
            released_run = model.seen and min(model.seen) < model.tail
            start = min(near + (max(at, 0) if released_run else at), model.tail + capacity)
            stop = max(start, min(start + count, model.tail + capacity))
            chunk = ring.read(start, stop)
            model.decided = max(model.decided, stop)
            assert contents(chunk) == {
                sample: model.there[sample] for sample in range(start, stop) if sample in model.there
            }
            lost = {sample: gap.reason for gap in chunk.gaps for sample in range(gap.start, gap.stop)}
            assert lost == model.gaps(start, stop)
        elif step == "release":
            model.tail = near + at
            model.there = {sample: frame for sample, frame in model.there.items() if sample >= model.tail}
            ring.release(near + at)
        elif step == "end" and model.end is None:
            model.end = max(near + at, max(model.seen, default=-1) + 1)
            ring.end(near + at)
        assert ring.head == max(model.seen, default=-1) + 1
        assert ring.first == min(model.seen, default=None)


@given(st.lists(st.tuples(st.integers(1, 40), st.sampled_from(["send", "lose", "twice"])), min_size=1, max_size=40))
@settings(deadline=None, max_examples=25)
def test_two_threads_agree_on_every_sample(frames: list[tuple[int, str]]) -> None:
    ring = Ring(STREAM, 64)
    cuts = np.cumsum([0, *(count for count, _ in frames)]).tolist()
    sent = [span for span, (_, fate) in zip(pairwise(cuts), frames, strict=True) if fate != "lose"]
    twice = {span for span, (_, fate) in zip(pairwise(cuts), frames, strict=True) if fate == "twice"}

    def write() -> None:
        for start, stop in sent:
            for _ in range(1 + ((start, stop) in twice)):
                held = put(ring, start, stop).held
                while held:
                    assert ring.wait_for_room(WAIT)
                    held = put(ring, stop - held, stop).held
        ring.end(cuts[-1])

    writing = in_thread(write)
    found: dict[int, int] = {}
    for start in range(0, cuts[-1], 24):
        ring.wait_for_first(WAIT)
        if ring.tail is not None and ring.tail + 64 < start + 24:
            ring.release(start)
        assert ring.wait_until_ready(start + 24, 1000, WAIT)
        found |= contents(ring.read(start, start + 24))
        ring.release(start + 24)
    writing()
    assert set(found) == {sample for start, stop in sent for sample in range(start, stop)}
