"""The ring keeps the first copy of each sample, in any order of frames, and gives a reason for every missing one."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgefilter.core.chunk import Gap, Loss
from edgefilter.core.errors import InputError, WireError
from edgefilter.node.ring import Policy, RingReader, RingWriter, WriteResult
from edgefilter.node.ring.layout import DATA_OFFSET, FOREVER, INTERVALS, READERS
from edgefilter.node.ring.memory import make_fence
from tests.helpers.rings import PAGE, STREAM, contents, payload, put, ring


def test_written_samples_are_read_without_a_copy(tmp_path: Path) -> None:
    with ring(tmp_path) as (writer, reader):
        assert put(writer, 1000, 1050) == WriteResult(50, 0, 0, 0)
        chunk = reader.read(1010, 1040)
        assert contents(chunk) == dict.fromkeys(range(1010, 1040), 0)
        assert chunk.gaps == ()
        assert not chunk.data.flags.owndata
        assert not chunk.data.flags.writeable
        assert (reader.first, reader.tail, reader.head, reader.last) == (1000, 1000, 1050, None)
        assert reader.stream == STREAM


def test_a_window_that_wraps_around_the_end_is_contiguous_and_not_a_copy(tmp_path: Path) -> None:
    with ring(tmp_path) as (writer, reader):
        put(writer, 0, 200)
        reader.release(200)
        put(writer, 200, 400)
        chunk = reader.read(200, 400)
        assert contents(chunk) == dict.fromkeys(range(200, 400), 0)
        assert not chunk.data.flags.owndata
        assert chunk.data.flags.c_contiguous


def test_samples_whose_size_does_not_divide_a_page_wrap_around_too(tmp_path: Path) -> None:
    odd = replace(STREAM, channels=23)
    with ring(tmp_path, 1, stream=odd) as (writer, reader):
        assert reader.capacity == 4096 // 23
        for start in range(0, 1000, 50):
            data = np.random.default_rng(start).integers(0, 256, 50 * 23, np.uint8)
            writer.write(start, data.tobytes())
            assert np.array_equal(reader.read(start, start + 50).data.reshape(-1), data)
            reader.release(start + 50)


def test_the_ring_keeps_the_first_copy_of_a_repeated_sample(tmp_path: Path) -> None:
    with ring(tmp_path, slack=100) as (writer, reader):
        put(writer, 0, 10)
        put(writer, 20, 30, frame=1)
        assert put(writer, 15, 35, frame=2) == WriteResult(10, 10, 0, 0)
        put(writer, 10, 15, frame=3)
        frames = [0] * 10 + [3] * 5 + [2] * 5 + [1] * 10 + [2] * 5
        assert contents(reader.read(0, 35)) == dict(enumerate(frames))


def test_gaps_have_reasons(tmp_path: Path) -> None:
    with ring(tmp_path) as (writer, reader):
        put(writer, 10, 20)
        put(writer, 30, 40)
        writer.end(45)
        assert reader.read(-5, 60).gaps == (
            Gap(-5, 10, Loss.OUTSIDE),
            Gap(20, 30, Loss.MISSING),
            Gap(40, 45, Loss.MISSING),
            Gap(45, 60, Loss.OUTSIDE),
        )
        assert reader.lost == 15


def test_a_gap_is_lost_for_good_when_the_head_is_slack_samples_beyond_it(tmp_path: Path) -> None:
    with ring(tmp_path, slack=10) as (writer, reader):
        put(writer, 0, 10)
        put(writer, 20, 29)
        assert reader.final == 10
        put(writer, 29, 30)
        assert reader.final == 30
        assert reader.read(0, 30).gaps == (Gap(10, 20, Loss.MISSING),)
        assert put(writer, 10, 20) == WriteResult(0, 0, 10, 0)
        assert reader.read(0, 30).gaps == (Gap(10, 20, Loss.MISSING),)


def test_a_gap_that_is_filled_in_time_is_not_lost(tmp_path: Path) -> None:
    with ring(tmp_path, slack=50) as (writer, reader):
        for start, stop in ((0, 10), (20, 30), (40, 50), (10, 20)):
            put(writer, start, stop)
        assert reader.final == 30
        put(writer, 30, 40)
        assert reader.final == 50
        assert reader.read(0, 50).gaps == ()
        assert reader.lost == 0


def test_samples_before_the_first_frame_are_late(tmp_path: Path) -> None:
    with ring(tmp_path) as (writer, reader):
        put(writer, 50, 60)
        assert put(writer, 40, 55, frame=1) == WriteResult(0, 5, 10, 0)
        assert reader.read(40, 60).gaps == (Gap(40, 50, Loss.OUTSIDE),)


def test_frames_past_the_end_are_late_and_the_end_never_lies_before_received_samples(tmp_path: Path) -> None:
    with ring(tmp_path) as (writer, reader):
        put(writer, 0, 30)
        writer.end(20)
        writer.end(90)
        assert (reader.last, reader.final) == (30, FOREVER)
        assert put(writer, 25, 40) == WriteResult(0, 5, 10, 0)
        assert put(writer, 5000, 5010) == WriteResult(0, 0, 10, 0)
        assert reader.wait_until_ready(10_000, 0)


def test_a_run_without_samples_can_end(tmp_path: Path) -> None:
    with ring(tmp_path) as (writer, reader):
        assert reader.wait_for_first_sample(0) is None
        writer.end()
        assert reader.wait_for_first_sample(60) is None
        assert reader.read(0, 10).gaps == (Gap(0, 10, Loss.OUTSIDE),)
        assert put(writer, 0, 5) == WriteResult(0, 0, 5, 0)
        assert reader.lost == 0


def test_a_full_ring_accepts_the_rest_of_a_frame_when_there_is_room(tmp_path: Path) -> None:
    with ring(tmp_path) as (writer, reader):
        put(writer, 0, 200)
        assert put(writer, 200, 300) == WriteResult(56, 0, 0, 44)
        assert not writer.wait_for_room(0)
        reader.release(40)
        assert writer.wait_for_room(0)
        assert put(writer, 256, 300) == WriteResult(40, 0, 0, 4)
        reader.release(44)
        assert put(writer, 296, 300) == WriteResult(4, 0, 0, 0)
        assert contents(reader.read(44, 300)) == dict.fromkeys(range(44, 300), 0)


def test_nothing_is_overwritten_before_the_first_reader_attaches(tmp_path: Path) -> None:
    with RingWriter.create(tmp_path / "ring", STREAM, PAGE) as writer:
        assert put(writer, 1000, 1300) == WriteResult(256, 0, 0, 44)
        with RingReader.attach(tmp_path / "ring", "late") as reader:
            assert reader.cursor == 1000
            assert len(contents(reader.read(1000, 1256))) == 256


def test_gaps_before_a_held_frame_are_lost(tmp_path: Path) -> None:
    with ring(tmp_path, slack=1000) as (writer, reader):
        put(writer, 0, 10)
        assert put(writer, 20, 300).held
        assert reader.final == 256
        reader.release(100)
        assert put(writer, 256, 300) == WriteResult(44, 0, 0, 0)


def test_a_jump_ahead_is_one_gap_and_blocks_no_reader(tmp_path: Path) -> None:
    with ring(tmp_path, slack=1000) as (writer, reader):
        put(writer, 0, 50)
        assert put(writer, 10_000, 10_010).held == 10
        assert reader.final == 10_000
        assert reader.read(40, 140).gaps == (Gap(50, 140, Loss.MISSING),)
        reader.release(10_000)
        assert put(writer, 10_000, 10_010) == WriteResult(10, 0, 0, 0)
        assert reader.read(9_990, 10_010).gaps == (Gap(9_990, 10_000, Loss.MISSING),)


def test_a_jump_beyond_reach_is_malformed_and_changes_nothing(tmp_path: Path) -> None:
    with ring(tmp_path) as (writer, reader):
        writer.max_gap_samples = 100
        put(writer, 10**12, 10**12 + 10)
        for jump in (lambda: put(writer, 10**12 + 111, 10**12 + 112), lambda: writer.end(10**12 + 111)):
            with pytest.raises(WireError) as caught:
                jump()
            assert caught.value.kind == "far"
        assert (reader.head, reader.last) == (10**12 + 10, None)
        assert put(writer, 10**12 + 110, 10**12 + 112).written == 2


def test_a_frame_that_makes_too_many_gaps_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    with ring(tmp_path, 4 * INTERVALS, slack=1 << 40) as (writer, reader):
        for start in range(0, 2 * INTERVALS, 2):
            put(writer, start, start + 1)
        with pytest.raises(WireError) as caught:
            put(writer, 2 * INTERVALS, 2 * INTERVALS + 1)
        assert caught.value.kind == "fragments"
        assert reader.head == 2 * INTERVALS - 1
        assert len(reader.snapshot().intervals) == INTERVALS
        assert put(writer, 1, 2).written == 1  # joins two
        assert len(reader.snapshot().intervals) == INTERVALS - 1
        assert put(writer, 2 * INTERVALS, 2 * INTERVALS + 1).written == 1


def test_drop_oldest_overwrites_and_the_gaps_say_exactly_which_samples(tmp_path: Path) -> None:
    with ring(tmp_path, policy=Policy.DROP_OLDEST) as (writer, reader):
        put(writer, 0, 100)
        view = reader.read(0, 100)
        put(writer, 120, 256)
        assert reader.still_valid(view)
        put(writer, 256, 300)
        assert (reader.tail, reader.cursor) == (44, 0)
        assert not reader.still_valid(view)
        again = reader.read(0, 150)
        assert again.gaps == (Gap(0, 44, Loss.OVERRUN), Gap(100, 120, Loss.MISSING))
        assert reader.still_valid(again)
        assert contents(again) == {**dict.fromkeys(range(44, 100), 0), **dict.fromkeys(range(120, 150), 0)}
        put(writer, 300, 420)
        assert reader.read(40, 180).gaps == (
            Gap(40, 100, Loss.OVERRUN),
            Gap(100, 120, Loss.MISSING),
            Gap(120, 164, Loss.OVERRUN),
        )


def test_a_frame_longer_than_the_ring_is_written_in_parts(tmp_path: Path) -> None:
    with ring(tmp_path, policy=Policy.DROP_OLDEST) as (writer, reader):
        assert put(writer, 0, 300) == WriteResult(256, 0, 0, 44)
        assert writer.wait_for_room(0)
        assert put(writer, 256, 300) == WriteResult(44, 0, 0, 0)
        assert len(contents(reader.read(44, 300))) == 256


def test_a_reader_continues_at_the_cursor_of_a_dead_one_of_the_same_name(tmp_path: Path) -> None:
    with ring(tmp_path) as (writer, reader):
        put(writer, 0, 100)
        reader.release(60)
        with pytest.raises(InputError, match="another process reads as 'reader'"):
            RingReader.attach(writer.path, "reader")
        reader.close()
        assert [(slot.name, slot.cursor, slot.alive) for slot in writer.readers()] == [("reader", 60, False)]
        assert put(writer, 100, 400).held == 400 - 60 - PAGE  # the cursor of the dead reader holds the writer back
        with RingReader.attach(writer.path, "reader") as successor:
            assert successor.cursor == 60
            for one in (writer, successor):
                assert one.readers()[0].alive
            successor.detach()
        assert writer.readers() == []


def test_a_reader_with_hold_false_does_not_hold_the_writer_back(tmp_path: Path) -> None:
    with ring(tmp_path) as (writer, reader), RingReader.attach(writer.path, "shadow", start=5, hold=False) as shadow:
        put(writer, 0, 200)
        reader.release(150)
        assert put(writer, 200, 400) == WriteResult(200, 0, 0, 0)
        assert shadow.read(100, 200).gaps == (Gap(100, 144, Loss.OVERRUN),)


def test_the_slowest_reader_holds_the_writer_back(tmp_path: Path) -> None:
    with ring(tmp_path) as (writer, reader), RingReader.attach(writer.path, "slow") as slow:
        put(writer, 0, 200)
        reader.release(200)
        slow.release(20)
        assert put(writer, 200, 400).held == 400 - 20 - PAGE
        assert len(contents(slow.read(20, 200))) == 180


def test_a_passive_reader_changes_nothing(tmp_path: Path) -> None:
    with ring(tmp_path) as (writer, reader), RingReader.attach(writer.path, None) as passive_reader:
        put(writer, 0, 200)
        reader.release(100)
        assert (passive_reader.head, passive_reader.tail, passive_reader.final) == (200, 0, 200)
        assert [slot.name for slot in passive_reader.readers()] == ["reader"]
        assert len(contents(passive_reader.read(0, 200))) == 200


def test_two_writers_take_turns_and_see_the_samples_of_the_other(tmp_path: Path) -> None:
    with ring(tmp_path, slack=100) as (writer, reader), RingWriter.attach(writer.path, slack=100) as other:
        put(writer, 0, 20, frame=1)
        assert put(other, 10, 40, frame=2) == WriteResult(20, 10, 0, 0)
        put(writer, 60, 80, frame=1)
        assert put(other, 30, 70, frame=2) == WriteResult(20, 20, 0, 0)
        assert contents(reader.read(0, 80)) == {sample: 1 if sample < 20 or sample >= 60 else 2 for sample in range(80)}
        other.end(100)
        assert put(writer, 80, 90) == WriteResult(0, 0, 10, 0)


def test_making_a_ring_twice_attaches_and_a_different_ring_is_refused(tmp_path: Path) -> None:
    with ring(tmp_path) as (writer, _):
        put(writer, 0, 10)
        with RingWriter.create(writer.path, STREAM, 100) as same:
            assert same.head == 10
        with pytest.raises(InputError, match="another ring, of stream test-"):
            RingWriter.create(writer.path, replace(STREAM, source="else"), 100)
        with pytest.raises(InputError, match="of 256 samples, expected 1000"):
            RingWriter.create(writer.path, STREAM, 1000)
        with pytest.raises(InputError, match="of policy hold, expected drop-oldest"):
            RingWriter.create(writer.path, STREAM, 100, Policy.DROP_OLDEST)


def test_a_file_that_is_not_a_ring_is_an_input_error(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(InputError, match="cannot be opened as a ring: No such file"):
        RingReader.attach(path, "reader", timeout=0.05)
    path.write_bytes(b"EDGF")
    with pytest.raises(InputError, match="not a ring"):
        RingReader.attach(path, "reader")
    path.unlink()
    RingWriter.create(path, STREAM, 100).close()
    data = bytearray(path.read_bytes())
    data[8] = 2
    path.write_bytes(data)
    with pytest.raises(InputError, match="version 2, expected 1"):
        RingReader.attach(path, "reader")
    data[8] = 1
    path.write_bytes(data[: DATA_OFFSET + 100])
    with pytest.raises(InputError, match="does not match its size"):
        RingReader.attach(path, "reader")


def test_a_ring_that_does_not_fit_into_memory_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a ring of \d+ MiB cannot be made"):
        RingWriter.create(tmp_path / "ring", STREAM, 1 << 50)
    assert list(tmp_path.iterdir()) == []


def test_the_number_of_readers_is_limited(tmp_path: Path) -> None:
    with ring(tmp_path) as (writer, _):
        others = [RingReader.attach(writer.path, f"r{number}") for number in range(READERS - 1)]
        with pytest.raises(InputError, match="has 16 readers, the maximum"):
            RingReader.attach(writer.path, "one more")
        for other in others:
            other.detach()
        RingReader.attach(writer.path, "one more").close()


def test_wrong_arguments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="capacity"):
        RingWriter.create(tmp_path / "ring", STREAM, 0)
    with ring(tmp_path) as (writer, reader):
        with pytest.raises(ValueError, match="samples of 16 bytes"):
            writer.write(0, b"abc")
        with pytest.raises(ValueError, match="1 to 64 bytes"):
            RingReader.attach(writer.path, "")
        put(writer, 0, 10)
        with pytest.raises(ValueError, match="final up to sample 10 only"):
            reader.read(0, 11)
        with pytest.raises(ValueError, match="more than the 256"):
            reader.wait_until_ready(257, 0)
        writer.end(10)
        with pytest.raises(ValueError, match="more than the 256"):
            reader.read(0, 257)


def test_fences_use_the_system_call_or_refuse_the_machine(tmp_path: Path) -> None:
    make_fence("+x86_64")()  # makes the system call, which x86 does not need
    with pytest.raises(InputError, match="membarrier"):
        make_fence("pdp11")


def test_the_program_in_the_documentation_reads_a_ring(tmp_path: Path) -> None:
    with ring(tmp_path) as (writer, _):
        put(writer, 300, 500, frame=7)
        program = Path(__file__).parents[3] / "docs" / "ring.md"
        code = program.read_text().split("```python\n")[1].split("```")[0]
        done = subprocess.run(
            [sys.executable, "-c", code, str(writer.path)], capture_output=True, text=True, check=True, timeout=60
        )
        assert done.stdout.splitlines() == ["test 16", "300 500", payload(300, 1, 7).hex()]
