"""For any order of frames and any speed of the reader, every sample is either right or a gap with the right reason."""

import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefilter.core.chunk import Loss
from edgefilter.node.ring import Policy, RingReader, RingWriter, WriteResult
from edgefilter.node.ring.layout import FOREVER
from tests.helpers.rings import PAGE, WAIT, contents, put, received_samples, ring


class Model:
    """A simple model of the ring, sample by sample."""

    def __init__(self, policy: Policy, capacity: int, slack: int) -> None:
        self.policy, self.capacity, self.slack = policy, capacity, slack
        self.arrived: dict[int, int] = {}
        self.first: int | None = None
        self.last: int | None = None
        self.floor = self.final = self.head = self.cursor = 0
        self.held_from: int | None = None

    def write(self, start: int, stop: int, frame: int) -> WriteResult:
        if self.first is None and self.last is None:
            self.first = self.floor = self.final = self.head = start
        write_stop = max(start, self._writable_stop(start, stop))
        written = repeated = late = 0
        for sample in range(start, write_stop):
            if sample in self.arrived:
                repeated += 1
            elif sample < self.final:
                late += 1
            else:
                self.arrived[sample] = frame
                written += 1
        if max(start, self.final) < write_stop:
            self.floor = max(self.floor, write_stop - self.capacity)
            self.head = max(self.head, write_stop)
        self.held_from = write_stop if write_stop < stop else None
        self._advance_final()
        return WriteResult(written, repeated, late, stop - write_stop)

    def end(self, sample: int) -> None:
        if self.last is None:
            self.last = max(sample, self.head, self.final)
            self._advance_final()

    def gaps(self, start: int, stop: int) -> dict[int, Loss]:
        first = stop if self.first is None else self.first
        last = stop if self.last is None else self.last
        reasons = {}
        for sample in range(start, stop):
            if not first <= sample < last:
                reasons[sample] = Loss.OUTSIDE
            elif sample not in self.arrived:
                reasons[sample] = Loss.MISSING
            elif sample < self.floor:
                reasons[sample] = Loss.OVERRUN
        return reasons

    def _writable_stop(self, start: int, stop: int) -> int:
        if self.last is not None:
            return stop
        oldest_cursor = start if self.policy is Policy.DROP_OLDEST else max(self.cursor, self.floor)
        return min(stop, oldest_cursor + self.capacity)

    def _advance_final(self) -> None:
        if self.last is not None:
            self.final = FOREVER
            return
        while self.final < self.head:
            present = next(sample for sample in range(self.final, self.head) if sample in self.arrived)
            gap_is_lost = self.held_from is not None or present + self.slack <= self.head or present <= self.floor
            if present > self.final and not gap_is_lost:
                break
            self.final = present + 1
        self.final = max(self.final, self.held_from or 0, self.floor)


STEP = st.one_of(
    st.tuples(st.just("write"), st.integers(-300, 400), st.integers(1, 300)),
    st.tuples(st.just("write"), st.integers(-40, 60), st.integers(1, 45)),
    st.tuples(st.just("read"), st.integers(-200, 200), st.integers(0, PAGE)),
    st.tuples(st.just("release"), st.integers(1, 200), st.just(0)),
    st.tuples(st.just("end"), st.integers(-50, 100), st.just(0)),
)


@given(
    st.sampled_from(Policy),
    st.integers(0, 2**62),
    st.sampled_from([0, 30, 10_000]),
    st.lists(STEP, min_size=3, max_size=40),
)
@settings(deadline=None, max_examples=250)
def test_the_ring_agrees_with_the_model_for_any_sequence_of_steps(
    policy: Policy, origin: int, slack: int, steps: list[tuple[str, int, int]]
) -> None:
    with TemporaryDirectory() as folder, ring(Path(folder), PAGE, policy, slack) as (writer, reader):
        model = Model(policy, PAGE, slack)
        near = origin
        for frame, (step, at, count) in enumerate(steps):
            if step == "write":
                start = max(near + at, 0)
                assert put(writer, start, start + count, frame) == model.write(start, start + count, frame)
            elif step == "end":
                writer.end(max(near + at, 0))
                model.end(max(near + at, 0))
            elif step == "release":
                reader.release(reader.tail + at)
                model.cursor = max(model.cursor, reader.cursor)
            else:
                start = min(near + at, model.final)
                stop = max(start, min(start + count, model.final))
                chunk = reader.read(start, stop)
                assert {s: gap.reason for gap in chunk.gaps for s in range(gap.start, gap.stop)} == model.gaps(
                    start, stop
                )
                assert contents(chunk) == {
                    s: model.arrived[s] for s in range(max(start, model.floor), stop) if s in model.arrived
                }
                assert reader.still_valid(chunk)
            assert (reader.first, reader.last) == (model.first, model.last)
            assert (reader.tail, reader.head, reader.final) == (model.floor, model.head, model.final)
            near = max(model.head, origin)
        if model.first is not None:
            decided = range(model.first, model.final if model.last is None else model.last)
            assert reader.lost == len(decided) - len(model.arrived.keys() & set(decided))


def in_thread(run: Callable[[], None]) -> Callable[[], None]:
    """Start a thread; return a function that joins it and raises its exception."""
    errors: list[BaseException] = []

    def work() -> None:
        try:
            run()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()

    def join() -> None:
        thread.join(WAIT)
        assert not thread.is_alive(), "the thread has not ended"
        if errors:
            raise errors[0]

    return join


FRAMES = st.lists(
    st.tuples(st.integers(1, 300), st.sampled_from(["send", "send", "lose", "twice", "swap"])), min_size=1, max_size=40
)


def frame_order(frames: list[tuple[int, str]]) -> tuple[list[tuple[int, int]], set[int], int]:
    """Return the frames in sending order, the set of sent samples, and one past the last sample."""
    cuts = np.cumsum([0, *(count for count, _ in frames)]).tolist()
    order: list[tuple[int, int]] = []
    for span, (_, fate) in zip(pairwise(cuts), frames, strict=True):
        if fate == "swap" and order:
            order.insert(-1, span)
        elif fate != "lose":
            order += [span] * (1 + (fate == "twice"))
    return order, {sample for start, stop in order for sample in range(start, stop)}, cuts[-1]


def write_all(writer: RingWriter, order: list[tuple[int, int]], end: int) -> None:
    for start, stop in order:
        held = put(writer, start, stop).held
        while held:
            assert writer.wait_for_room(WAIT)
            held = put(writer, stop - held, stop).held
    writer.end(end)


def read_all(reader: RingReader, window: int, pause: Callable[[], None]) -> tuple[dict[int, int], dict[Loss, set[int]]]:
    """Read all windows of a run; return the samples found, and the lost samples by reason."""
    first = reader.wait_for_first_sample(WAIT) or 0
    found: dict[int, int] = {}
    lost: dict[Loss, set[int]] = {reason: set() for reason in Loss}
    start = first - first % window
    while reader.last is None or start < reader.last:
        if not reader.wait_until_ready(start + window, 0.01):
            continue
        while True:
            chunk = reader.read(start, start + window)
            pause()
            numbers = chunk.data.reshape(-1).view(np.uint64).reshape(-1, 2).copy()
            if reader.still_valid(chunk):
                break
        for at in np.flatnonzero(chunk.valid()):
            assert numbers[at, 0] == start + at
            found[start + int(at)] = int(numbers[at, 1])
        for gap in chunk.gaps:
            lost[gap.reason] |= set(range(gap.start, gap.stop))
        reader.release(start + window)
        start += window
    return found, lost


@given(FRAMES, st.sampled_from([7, 64, PAGE]), st.sampled_from([0.0, 0.0005]))
@settings(deadline=None, max_examples=20)
def test_the_policy_hold_loses_no_sample_that_was_sent(
    frames: list[tuple[int, str]], window: int, read_delay: float
) -> None:
    order, sent, end = frame_order(frames)
    with TemporaryDirectory() as folder, ring(Path(folder), PAGE, slack=600) as (writer, reader):
        writing = in_thread(lambda: write_all(writer, order, end))
        found, lost = read_all(reader, window, lambda: threading.Event().wait(read_delay) and None)
        writing()
    first = order[0][0] if order else end
    late = sent - set(found)
    assert lost[Loss.OVERRUN] == set()
    assert late <= {sample for sample in sent if sample < first} | _overtaken(order, PAGE)
    assert lost[Loss.MISSING] == set(range(first, end)) - set(found)


def _overtaken(order: list[tuple[int, int]], capacity: int) -> set[int]:
    """Return the samples of frames that came after a frame which had filled the ring behind their gap."""
    newest, overtaken = 0, set()
    for start, stop in order:
        if start < newest and newest - start >= capacity // 2:
            overtaken |= set(range(start, stop))
        newest = max(newest, stop)
    return overtaken


@given(FRAMES, st.sampled_from([0.0, 0.0005, 0.002]))
@settings(deadline=None, max_examples=20)
def test_the_policy_drop_oldest_reports_exactly_what_it_loses(frames: list[tuple[int, str]], read_delay: float) -> None:
    order, sent, end = frame_order(frames)
    with TemporaryDirectory() as folder, ring(Path(folder), PAGE, Policy.DROP_OLDEST) as (writer, reader):
        writing = in_thread(lambda: write_all(writer, order, end))
        found, lost = read_all(reader, 50, lambda: threading.Event().wait(read_delay) and None)
        writing()
        arrived = received_samples(reader)
    assert set(found) | lost[Loss.OVERRUN] == arrived
    assert not set(found) & lost[Loss.OVERRUN]
    assert arrived <= sent
    first = min(arrived, default=end)
    assert lost[Loss.MISSING] == set(range(first, end)) - arrived


def test_two_writers_that_take_turns_lose_nothing(tmp_path: Path) -> None:
    spans = [(start, start + 37) for start in range(0, 37 * 400, 37)]
    results: list[tuple[dict[int, int], dict[Loss, set[int]]]] = []
    with ring(tmp_path, slack=4000) as (writer, reader), RingWriter.attach(writer.path, slack=4000) as other:
        reading = in_thread(lambda: results.append(read_all(reader, 50, lambda: None)))
        for number, (start, stop) in enumerate(spans):
            held = put((writer, other)[number % 2], start, stop, number).held
            while held:
                assert (writer, other)[number % 2].wait_for_room(WAIT)
                held = put((writer, other)[number % 2], stop - held, stop, number).held
        other.end(spans[-1][1])
        reading()
    found, lost = results[0]
    assert set(found) == set(range(spans[-1][1]))
    assert lost[Loss.MISSING] == lost[Loss.OVERRUN] == set()
