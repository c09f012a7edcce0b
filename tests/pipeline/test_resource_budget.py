"""What a plan is said to cost."""

from collections.abc import Iterator
from fractions import Fraction

import pytest

from edgefilter.core.chunk import Chunk
from edgefilter.core.config import Reduction
from edgefilter.core.plan import Plan, resolve
from edgefilter.core.reduced_block import ReducedBlock
from edgefilter.core.stream import Encoding, SampleKind, Stream
from edgefilter.core.validation import validate
from edgefilter.pipeline import resource_budget
from edgefilter.pipeline.reducer import Reducer


def test_only_blocks_that_leave_as_others_arrive_count(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream("s", SampleKind.VOLTAGE, 0, Fraction(1_000_000), 1, 4e8, 1e6, ("X", "Y"), 8, Encoding.SIGNED, True)
    settings = validate(
        Reduction, {"block": {"rows": 64}, "channelise": {"channels": 32}, "pulses": {"dm": [0, 20], "widths": 3}}
    )
    plan = Plan(stream, resolve(settings, stream))
    clock = 0.0
    feed = Reducer.feed

    def timed(self: Reducer, raw: Chunk) -> Iterator[ReducedBlock]:
        nonlocal clock
        done = list(feed(self, raw))
        # A block that completes one takes three real times, one that only fills the windows takes very long.
        clock += 3 * self.plan.block_seconds if done else 1e6
        yield from done

    monkeypatch.setattr(Reducer, "feed", timed)
    monkeypatch.setattr(resource_budget.time, "process_time", lambda: clock)
    needed, here = resource_budget.measure_cores(plan, threads=1)
    assert needed == pytest.approx(3)
    assert here >= 1
