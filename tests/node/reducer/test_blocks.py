"""The work of a reducer within this process: overwritten samples are lost exactly, and a dead reducer is continued."""

from dataclasses import dataclass
from typing import Any

import pytest

from edgefilter.core.chunk import Chunk, Gap, Loss, clip_gaps
from edgefilter.core.errors import ConfigError
from edgefilter.node.reducer import blocks as blocks_module
from edgefilter.node.reducer.blocks import ReducerWorker
from edgefilter.node.reducer.latency import ArrivalTimes
from edgefilter.node.ring import RingReader, RingWriter
from edgefilter.node.run_file import RunFile
from edgefilter.sources.simulated.sky import VoltageSky
from tests.helpers.reducer_worker import FakeIpc, begin_run, spool_contents, write_all
from tests.helpers.running_node import ledger, replayed, sky

BLOCK = 32 * 32 * 256


class SimulatedCrash(BaseException):
    """Simulates the death of the process."""


@dataclass
class LossySource:
    """A simulated sky with lost samples."""

    whole: VoltageSky
    gap: Gap
    warnings: tuple[str, ...] = ()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.whole, name)

    def read(self, start: int, stop: int) -> Chunk:
        chunk = self.whole.read(start, stop)
        return Chunk(chunk.start, chunk.data, (*chunk.gaps, *clip_gaps([self.gap], start, stop)))


def test_samples_that_are_overwritten_before_they_are_reduced_are_lost_exactly(tmp_path):
    source = sky(3.0)
    options = {"input": {"policy": "drop-oldest", "shallow": True, "buffer_seconds": 1.1}}
    settings, run = begin_run(tmp_path, source, **options)
    with RingWriter.create(run.ring, source.stream, 1_100_000, "drop-oldest") as ring:
        write_all(ring, source)
        tail = ring.tail
    assert tail % BLOCK > 0
    with ReducerWorker(FakeIpc(), settings) as worker:
        worker.run()
    lossy_source = LossySource(source, Gap(0, tail, Loss.OVERRUN))
    got = spool_contents(tmp_path)
    assert got == replayed(lossy_source, tmp_path, **options)
    rows = ledger(got, tmp_path)
    assert sum(row["lost_overrun"] for row in rows) == tail
    assert sum(row["samples_received"] for row in rows) == source.samples - tail


def test_a_window_that_is_overwritten_during_its_use_is_read_again(tmp_path, monkeypatch):
    source = sky(2.0)
    settings, run = begin_run(tmp_path, source)
    with RingWriter.create(run.ring, source.stream, 6_000_000) as ring:
        write_all(ring, source)
    refused: set[int] = set()

    def once(self: RingReader, chunk: Chunk) -> bool:
        seen = chunk.start in refused
        refused.add(chunk.start)
        return seen

    monkeypatch.setattr(RingReader, "still_valid", once)
    with ReducerWorker(FakeIpc(), settings) as worker:
        worker.run()
    assert len(refused) == -(-source.samples // BLOCK)
    assert spool_contents(tmp_path) == replayed(source, tmp_path)


def test_the_next_reducer_continues_after_any_block(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks_module, "make_ring", None)  # it would allocate the memory of a second ring
    source = sky(2.2)
    settings, run = begin_run(tmp_path, source)
    with RingWriter.create(run.ring, source.stream, 6_000_000) as ring:
        write_all(ring, source)
    made: list[int] = []

    def crash(kind: str, fields: dict[str, Any]) -> None:
        if kind == "block":
            made.append(fields["block"])
            raise SimulatedCrash

    blocks = -(-source.samples // BLOCK)
    for _ in range(blocks):
        with pytest.raises(SimulatedCrash), ReducerWorker(FakeIpc(crash), settings) as worker:
            worker.run()
    assert made == list(range(blocks))
    last = FakeIpc()
    with ReducerWorker(last, settings) as worker:
        worker.run()
    assert not [fields for kind, fields in last.sent if kind == "block"]
    (finished,) = [fields for kind, fields in last.sent if kind == "finished"]
    assert finished["state"]["tally"]["received"] == source.samples
    assert spool_contents(tmp_path) == replayed(source, tmp_path)


def test_a_run_that_begins_within_an_earlier_one_begins_after_its_blocks(tmp_path):
    source = sky(2.2)
    blocks: list[int] = []

    def record(kind: str, fields: dict[str, Any]) -> None:
        if kind == "block":
            blocks.append(fields["block"])

    for start, stop in ((0, 1_000_000), (600_000, source.samples)):  # the sender repeats its last frames
        settings, run = begin_run(tmp_path, source)
        with RingWriter.create(run.ring, source.stream, 6_000_000) as ring:
            ring.write(start, source.read(start, stop).data.tobytes())
            ring.end(stop)
        with ReducerWorker(FakeIpc(record), settings) as worker:
            assert worker.run() == run
        RunFile(tmp_path, "main").remove(run)
    assert blocks == list(range(-(-source.samples // BLOCK)))


def test_a_ring_too_small_for_a_restart_without_loss_is_refused(tmp_path):
    source = sky(1.0)
    settings, run = begin_run(tmp_path, source, input={"buffer_seconds": 1.2})
    with (
        pytest.raises(ConfigError, match=r"buffer_seconds.*shallow"),
        ReducerWorker(FakeIpc(), settings) as worker,
    ):
        worker.run()
    assert not run.ring.exists()


def test_latency_is_interpolated_between_recorded_instants_only():
    arrivals = ArrivalTimes()
    for head, now in ((100, 1.0), (100, 1.5), (300, 2.0)):
        arrivals.record(head, now)
    assert arrivals.latency(200, 3.0) == pytest.approx(1.5)
    assert arrivals.latency(50, 3.0) is None
    assert arrivals.latency(301, 3.0) is None
