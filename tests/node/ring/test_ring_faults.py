"""A writer may die at any step: the ring that it leaves is valid, and the next writer continues."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from edgefilter.core.chunk import Loss
from edgefilter.node.ring import Policy, RingReader, RingWriter
from edgefilter.node.ring.layout import FLOOR, FOREVER
from tests.helpers.rings import PAGE, WAIT, contents, payload, put, received_samples, ring


class SimulatedCrash(BaseException):
    """Simulates SIGKILL: no code of the writer changes the ring after it."""


FRAMES = [(0, 100), (150, 200), (210, 230), (100, 150), (190, 215), (240, 300), (230, 240), (300, 420), (400, 500)]
"""Appended frames, gaps, a frame that joins two intervals, overlaps, wraps around the end, and a rising floor."""


def write_frames(writer: RingWriter, reader: RingReader) -> None:
    for start, stop in FRAMES:
        if stop > reader.cursor + PAGE:
            reader.release(stop - PAGE)
        put(writer, start, stop)
    writer.end(500)


def count_fences(folder: Path, fatal: int) -> int:
    """Stop a writer at fence number ``fatal`` and let another write everything again; count the fences of the first."""
    passed = 0

    def fence() -> None:
        nonlocal passed
        passed += 1
        if passed == fatal:
            raise SimulatedCrash

    with ring(folder, slack=1 << 30) as (writer, reader):
        writer._fence = fence
        try:
            write_frames(writer, reader)
        except SimulatedCrash:
            received = received_samples(reader)
            check_table(reader)
            with RingWriter.attach(writer.path, slack=1 << 30) as successor:
                check_table(reader)
                write_frames(successor, reader)
            assert received <= received_samples(reader)
        assert contents(reader.read(500 - PAGE, 500)) == dict.fromkeys(range(500 - PAGE, 500), 0)
        assert reader.last == 500
    return passed


def check_end_after_crash(folder: Path, fatal: int) -> None:
    """Stop a writer at its fence number ``fatal`` and let another only end the run."""
    passed = 0

    def fence() -> None:
        nonlocal passed
        passed += 1
        if passed == fatal:
            raise SimulatedCrash

    with ring(folder, slack=1 << 30) as (writer, reader):
        writer._fence = fence
        with suppress(SimulatedCrash):
            write_frames(writer, reader)
        with RingWriter.attach(writer.path) as successor:
            successor.end()
        received = received_samples(reader)
        assert reader.final == FOREVER
        assert reader.last is not None
        start = max(0, reader.last - PAGE)
        assert set(contents(reader.read(start, reader.last))) == {s for s in received if s >= reader.tail}
        assert reader.last >= max(received, default=0)


def check_table(reader: RingReader) -> None:
    """Check that every sample in the table has its right value at its right place."""
    intervals = reader.snapshot().intervals
    assert intervals == sorted(intervals)
    whole = reader._data.view(np.uint64).reshape(-1, 2)
    for interval_start, interval_stop in intervals:
        for sample in range(max(interval_start, reader.tail), interval_stop):
            assert whole[sample % PAGE, 0] == sample


def test_a_writer_may_die_at_every_step(tmp_path: Path) -> None:
    total = count_fences(tmp_path, 0)
    assert total > 3 * len(FRAMES)
    for fatal in range(1, total + 1):
        count_fences(tmp_path, fatal)
        check_end_after_crash(tmp_path, fatal)


def test_a_writer_may_die_in_the_middle_of_a_copy(tmp_path: Path) -> None:
    with ring(tmp_path) as (writer, reader):
        put(writer, 0, 200)
        # The state within the copy of frame [200, 300): raised floor, some of the samples, old table.
        reader.release(50)
        writer._words[FLOOR] = 44
        half = np.frombuffer(payload(200, 70, frame=9), np.uint8)
        writer._data[200 * 16 : 270 * 16] = half
        check_table(reader)
        with RingWriter.attach(writer.path) as successor:
            assert put(successor, 200, 300, frame=1).written == 100
        assert contents(reader.read(50, 300)) == {sample: int(sample >= 200) for sample in range(50, 300)}


WRITER = """
import sys
from edgefilter.node.ring import RingWriter
from tests.helpers.rings import payload
ring = RingWriter.attach(sys.argv[1])
step = 1 << 15
start = ring.head
while start < int(sys.argv[2]):
    frame = payload(start, step)
    while held := ring.write(start + step - (len(frame) // 16), frame).held:
        frame = frame[-16 * held :]
        ring.wait_for_room(1.0)
    start += step
ring.end(start)
"""


@pytest.mark.parametrize("policy", Policy)
def test_writers_that_are_killed_leave_no_torn_sample(policy: Policy, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    end, window = 60 << 15, 20_000
    with ring(tmp_path, 1 << 17, policy) as (writer, reader):
        writer.close()
        kills, start, seen, lost = 0, 0, 0, 0
        process: subprocess.Popen[bytes] | None = None
        deadline = time.monotonic() + WAIT
        while reader.last is None or start < reader.last:
            assert time.monotonic() < deadline
            if process is None:
                process = start_writer(reader.path, end)
                fatal = reader.head + int(rng.integers(0, 4 << 15)) if kills < 8 else 2 * end
            elif reader.head >= fatal:
                process.send_signal(signal.SIGKILL)
                process.wait(WAIT)
                process, kills = None, kills + 1
            if not reader.wait_until_ready(start + window, 0.01):
                continue
            chunk = reader.read(start, start + window)
            numbers = chunk.data.reshape(-1).view(np.uint64)[::2].copy()
            if not reader.still_valid(chunk):
                continue
            valid = np.flatnonzero(chunk.valid())
            assert np.array_equal(numbers[valid], start + valid)
            seen += len(valid)
            lost += sum(gap.stop - gap.start for gap in chunk.gaps if gap.reason is not Loss.OUTSIDE)
            reader.release(start + window)
            start += window
        assert process is not None
        assert process.wait(WAIT) == 0
    assert kills == 8 or (policy is Policy.DROP_OLDEST and kills > 0)  # with drop-oldest it may end sooner
    assert seen + lost == reader.last >= end
    assert lost == 0 or policy is Policy.DROP_OLDEST


def start_writer(path: Path, end: int) -> "subprocess.Popen[bytes]":
    paths = os.pathsep.join(entry for entry in sys.path if entry)
    return subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(end)], env=os.environ | {"PYTHONPATH": paths})


def test_the_slot_of_a_reader_that_died_while_registering_can_be_taken_over(tmp_path: Path) -> None:
    with ring(tmp_path) as (writer, reader):
        reader._set_name(1, "half")  # it died after it had set its name
        put(writer, 0, 100)
        with RingReader.attach(writer.path, "half") as again:
            assert again.cursor == 0
            assert [slot.alive for slot in writer.readers()] == [True, True]
