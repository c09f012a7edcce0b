"""The reducer's process, within this one: what the ring no longer holds is lost exactly, what is cut off goes on."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from edgefilter.core.chunk import Chunk, Gap, Loss, clip_gaps
from edgefilter.core.config import NodeConfig
from edgefilter.core.errors import ConfigError
from edgefilter.core.validation import validate
from edgefilter.node.reducer.blocks import ReducerWorker
from edgefilter.node.reducer.latency import ArrivalTimes
from edgefilter.node.ring import RingReader, RingWriter
from edgefilter.sources.simulated.sky import VoltageSky
from edgefilter.spool import Spool
from tests.helpers.running_node import ledger, replayed, settings_tree, sky

BLOCK = 32 * 32 * 256


class SimulatedCrash(BaseException):
    """Stands for a process that ends here."""


@dataclass
class FakeIpc:
    """The supervisor's part, without one."""

    on_send: Callable[[str, dict[str, Any]], None] = lambda kind, fields: None
    sent: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def mark_progress(self) -> None:
        pass

    def set_state_callback(self, state: Any) -> None:
        self.state = state

    def send(self, kind: str, **fields: Any) -> None:
        self.sent.append((kind, fields))
        self.on_send(kind, fields)

    def receive(self, timeout: float) -> None:
        return None


@dataclass
class LossySource:
    """A sky of which some samples were lost."""

    whole: VoltageSky
    gap: Gap
    warnings: tuple[str, ...] = ()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.whole, name)

    def read(self, start: int, stop: int) -> Chunk:
        chunk = self.whole.read(start, stop)
        return Chunk(chunk.start, chunk.data, (*chunk.gaps, *clip_gaps([self.gap], start, stop)))


def settings(folder: Path, **sections: dict[str, Any]) -> dict[str, Any]:
    config = validate(NodeConfig, settings_tree(folder, **sections))
    return {
        "config": config.model_dump(mode="json"),
        "stream": "main",
        "ring": str(folder / "ring-main-run"),
        "run": "run",
        "header": None,
        "spool": str(folder / "spool"),
        "budget": None,
        "shadow": False,
    }


def fill(ring: RingWriter, source: VoltageSky) -> None:
    step = 50_000
    for start in range(0, source.samples, step):
        stop = min(start + step, source.samples)
        ring.write(start, source.read(start, stop).data.tobytes())
    ring.end(source.samples)


def spool_contents(folder: Path) -> dict[str, bytes | None]:
    with Spool.open(folder / "spool") as spool:
        return {entry.name: spool.read(entry) for entry in spool.unsealed() + spool.next_entries(1_000_000)}


def test_what_was_overwritten_before_it_was_reduced_is_lost_exactly(tmp_path):
    source = sky(3.0)
    options = {"input": {"policy": "drop-oldest", "shallow": True, "buffer_seconds": 1.1}}
    first_message = settings(tmp_path, **options)
    with RingWriter.create(first_message["ring"], source.stream, 1_100_000, "drop-oldest") as ring:
        fill(ring, source)
        tail = ring.tail
    assert tail % BLOCK > 0
    with ReducerWorker(FakeIpc(), first_message) as worker:
        worker.run()
    lossy_source = LossySource(source, Gap(0, tail, Loss.OVERRUN))
    got = spool_contents(tmp_path)
    assert got == replayed(lossy_source, tmp_path, **options)
    rows = ledger(got, tmp_path)
    assert sum(row["lost_overrun"] for row in rows) == tail
    assert sum(row["samples_received"] for row in rows) == source.samples - tail


def test_a_window_that_was_overwritten_while_it_was_used_is_read_again(tmp_path, monkeypatch):
    source = sky(2.0)
    first_message = settings(tmp_path)
    with RingWriter.create(first_message["ring"], source.stream, 5_000_000) as ring:
        fill(ring, source)
    refused: set[int] = set()

    def once(self: RingReader, chunk: Chunk) -> bool:
        seen = chunk.start in refused
        refused.add(chunk.start)
        return seen

    monkeypatch.setattr(RingReader, "still_valid", once)
    with ReducerWorker(FakeIpc(), first_message) as worker:
        worker.run()
    assert len(refused) == -(-source.samples // BLOCK)
    assert spool_contents(tmp_path) == replayed(source, tmp_path)


def test_a_reducer_that_dies_after_any_block_is_followed_by_one_that_goes_on(tmp_path):
    source = sky(2.2)
    first_message = settings(tmp_path)
    with RingWriter.create(first_message["ring"], source.stream, 5_000_000) as ring:
        fill(ring, source)
    made: list[int] = []

    def crash(kind: str, fields: dict[str, Any]) -> None:
        if kind == "block":
            made.append(fields["block"])
            raise SimulatedCrash

    blocks = -(-source.samples // BLOCK)
    for _ in range(blocks):
        with pytest.raises(SimulatedCrash), ReducerWorker(FakeIpc(crash), first_message) as worker:
            worker.run()
    assert made == list(range(blocks))
    last = FakeIpc()
    with ReducerWorker(last, first_message) as worker:
        worker.run()
    assert not [fields for kind, fields in last.sent if kind == "block"]
    (finished,) = [fields for kind, fields in last.sent if kind == "finished"]
    assert finished["state"]["tally"]["received"] == source.samples
    assert spool_contents(tmp_path) == replayed(source, tmp_path)


def test_a_ring_too_shallow_for_a_restart_is_refused_unless_that_is_wanted(tmp_path):
    source = sky(1.0)
    first_message = settings(tmp_path, input={"buffer_seconds": 1.2}) | {"header": source.stream.to_json()}
    with (
        pytest.raises(ConfigError, match=r"buffer_seconds.*shallow"),
        ReducerWorker(FakeIpc(), first_message) as worker,
    ):
        worker.run()
    assert not Path(first_message["ring"]).exists()


def test_arrival_is_told_between_two_looks_and_not_beyond():
    arrivals = ArrivalTimes()
    for head, now in ((100, 1.0), (100, 1.5), (300, 2.0)):
        arrivals.record(head, now)
    assert arrivals.latency(200, 3.0) == pytest.approx(1.5)
    assert arrivals.latency(50, 3.0) is None
    assert arrivals.latency(301, 3.0) is None
