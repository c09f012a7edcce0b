"""Cut-outs: rows around pulses, and pulses that share them."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgefilter.core.reduced_block import PulseCandidate
from edgefilter.stages.search.cutouts import CutoutPlanner
from tests.helpers.pulse_sky import make_plan

PLAN = make_plan(rows=1024, dm=(0, 2000))
PLANNER = CutoutPlanner(PLAN)

pulses = st.builds(
    lambda row, dm, width: PulseCandidate(float(row), dm, 1.0, width, 10.0, 1200.0, 1500.0, 1),
    st.integers(0, 1023),
    st.floats(0, 2000),
    st.integers(1, 64),
)


@given(st.lists(pulses, max_size=8))
def test_every_row_of_a_pulse_is_in_exactly_one_cutout(found):
    row_ranges = PLANNER.cutouts(found)
    assert len(row_ranges) == len(found)
    distinct = sorted(set(row_ranges), key=lambda row_range: row_range.start)
    assert all(a.stop <= b.start for a, b in pairwise(distinct))
    for pulse, shared in zip(found, row_ranges, strict=True):
        own = PLANNER.row_range(pulse)
        assert shared.start <= own.start <= own.stop <= shared.stop
    rows = [set(range(row_range.start, row_range.stop)) for row_range in distinct]
    assert set().union(*rows) == set().union(*(range(r.start, r.stop) for r in map(PLANNER.row_range, found)))


def test_a_cutout_holds_the_sweep_and_a_margin():
    row_range = PLANNER.row_range(PulseCandidate(500.0, 100.0, 1.0, 2, 10.0, 1200.0, 1500.0, 1))
    assert row_range.start == 500 - 32
    assert row_range.stop == 500 + PLAN.sweep_rows(100.0) + 32
    assert np.isclose(PLAN.sweep_rows(100.0) * PLAN.row_seconds, 0.1028, atol=0.003)  # 4.149 ms DM (ν₁⁻² - ν₂⁻²), GHz
