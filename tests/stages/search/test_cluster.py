import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefilter.core.reduced_block import Rejection
from edgefilter.stages.search.cluster import EventSifter
from edgefilter.stages.search.events import Events
from edgefilter.stages.search.sift import BlockSifter
from tests.helpers.pulse_sky import make_plan
from tests.helpers.search_events import found_events

PLAN = make_plan(rows=1024, dm=(0, 2000), candidates=50)


def events(*rows, block=0):
    """Sifted events from (row, dm, width, snr, band), all of which fill their band."""
    return BlockSifter(PLAN).sift(found_events(*rows), block, lambda event: True)


def test_a_ridge_of_trials_is_one_pulse():
    # With a dispersion measure too high by 1, the best sum is half a row earlier, aligned in the middle of the band.
    ridge = [(500 - step, 300 + step * 2, 2, 20 - abs(step), 0) for step in range(-5, 6)]
    found = EventSifter(PLAN).reduce(None, events(*ridge), None, 0)
    assert len(found.pulses) == 1
    pulse = found.pulses[0]
    assert (pulse.row, pulse.dm, pulse.snr, pulse.width_rows, pulse.members) == (500, 300, 20, 2, 11)
    assert pulse.dm_error == 2
    assert (pulse.freq_low, pulse.freq_high) == pytest.approx((1200, 1500))


def test_the_same_pulse_in_other_bands_is_one_pulse():
    bands = [(500, 300, 2, 20, 0), (500, 302, 2, 14, 1), (499, 299, 2, 13, 2), (500, 310, 4, 9, 3), (501, 295, 4, 9, 6)]
    found = EventSifter(PLAN).reduce(None, events(*bands), None, 0)
    assert [pulse.members for pulse in found.pulses] == [5]


def test_a_burst_in_one_sub_band_has_the_edges_of_that_band():
    found = EventSifter(PLAN).reduce(None, events((500, 300, 2, 20, 6)), None, 0)
    assert (found.pulses[0].freq_low, found.pulses[0].freq_high) == pytest.approx((1200, 1275))


def test_distant_pulses_stay_separate():
    found = EventSifter(PLAN).reduce(
        None, events((500, 300, 2, 20, 0), (520, 300, 2, 15, 0), (500, 900, 2, 12, 0)), None, 0
    )
    assert [pulse.snr for pulse in found.pulses] == [20, 15, 12]


def test_a_crossing_track_of_similar_strength_hides_no_pulse():
    # Broadband interference at DM 0, which is rejected itself, while a pulse of DM 1000 sweeps by.
    found = EventSifter(PLAN).reduce(None, events((500, 1000, 2, 14, 0), (900, 0, 2, 20, 0)), None, 0)
    assert [pulse.dm for pulse in found.pulses] == [1000]
    assert found.rejected[Rejection.ZERO_DM] == 1


def test_an_event_at_a_block_edge_belongs_to_the_strongest_pulse():
    first, second = events((1023.5, 300, 2, 9, 0), (1023, 304, 2, 8, 0)), events((1024, 300, 2, 10, 0), block=1)
    sifter = EventSifter(PLAN)
    assert sifter.reduce(None, first, second, 0).pulses == []
    (pulse,) = sifter.reduce(first, second, None, 1).pulses
    assert (pulse.row, pulse.members) == (1024, 3)


def test_equal_events_at_a_block_edge_are_one_pulse():
    first, second = events((1023, 300, 2, 9, 0)), events((1025, 300, 2, 9, 0), block=1)
    sifter = EventSifter(PLAN)
    total = sifter.reduce(None, first, second, 0).pulses + sifter.reduce(first, second, None, 1).pulses
    assert [pulse.row for pulse in total] == [1023]


def test_candidates_beyond_the_bound_are_counted():
    separate = [(10 + 16 * i, 300, 1, 10 + i / 100, 0) for i in range(60)]
    here = events(*separate)
    here.overflow = 5
    found = EventSifter(PLAN).reduce(None, here, None, 0)
    assert len(found.pulses) == 50
    assert found.overflow == 15
    assert found.pulses[0].snr == pytest.approx(10.59)


def test_a_block_without_events_has_no_pulses():
    assert EventSifter(PLAN).reduce(events((3, 5, 1, 9, 0)), Events.join([]), None, 1).pulses == []


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 200))
def test_order_does_not_matter_and_every_event_is_explained(seed, count):
    rng = np.random.default_rng(seed)
    rows = np.column_stack(
        [
            rng.integers(0, 1024, count),
            400 + rng.integers(0, 4, count) * 3,
            2 ** rng.integers(0, 5, count),
            rng.integers(7, 12, count),
            rng.integers(0, 7, count),
        ]
    )
    sifter = EventSifter(PLAN)
    once = sifter.reduce(None, events(*rows), None, 0)
    assert sifter.reduce(None, events(*rng.permutation(rows)), None, 0) == once
    assert 1 <= len(once.pulses) <= count
    assert once.pulses[0].snr == rows[:, 3].max()
    assert [pulse.snr for pulse in once.pulses] == sorted((pulse.snr for pulse in once.pulses), reverse=True)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 10**9))
def test_blocks_far_from_the_epoch_give_the_same_pulses(seed, block):
    rng = np.random.default_rng(seed)
    rows = np.column_stack(
        [rng.integers(0, 1024, 80), rng.integers(5, 50, 80), np.ones(80), rng.integers(7, 12, 80), np.zeros(80)]
    )
    far = rows + np.array([1024 * block, 0, 0, 0, 0])
    sifter = EventSifter(PLAN)
    near_pulses = sifter.reduce(None, events(*rows), None, 0).pulses
    far_pulses = sifter.reduce(None, events(*far, block=block), None, block).pulses
    assert [(p.row + 1024 * block, p.dm, p.members) for p in near_pulses] == [
        (p.row, p.dm, p.members) for p in far_pulses
    ]


def test_what_cannot_be_told_from_dm_0_is_rejected_and_counted():
    # DM 4 sweeps 1200 to 1500 MHz in 4.1 rows, and the upper quarter of it in 0.8 rows.
    wide, narrow = (100, 4, 8, 12, 0), (500, 4, 2, 12, 0)
    quarter, zero = (700, 4, 2, 12, 3), (900, 0, 1, 30, 0)
    found = EventSifter(PLAN).reduce(None, events(wide, narrow, quarter, zero), None, 0)
    assert [pulse.row for pulse in found.pulses] == [500]
    assert found.rejected == {Rejection.DOUBLE: 0, Rejection.ZERO_DM: 3, Rejection.NARROW_BAND: 0}


@pytest.mark.parametrize("changes", [{"dm": (0, 20)}, {"low": -16.0, "high": 16.0}])
def test_a_search_that_tells_no_dm_from_0_rejects_none(changes):
    # DM 20 sweeps the band in 21 rows, the widest boxcar has 32; or the frequencies are unknown.
    sifter = EventSifter(make_plan(rows=1024, **changes))
    assert len(sifter.reduce(None, events((500, 0, 1, 12, 0)), None, 0).pulses) == 1


def test_every_event_is_a_candidate_or_counted():
    rng = np.random.default_rng(1)
    rows = np.column_stack(
        [rng.uniform(0, 1024, 300), rng.uniform(0, 60, 300), np.full(300, 4), rng.uniform(7, 40, 300), np.zeros(300)]
    )
    sifted = BlockSifter(PLAN).sift(found_events(*rows), 0, lambda event: event["dm"] < 40)
    found = EventSifter(PLAN).reduce(None, sifted, None, 0)
    assert len(found.pulses) + found.overflow + sum(found.rejected.values()) == 300
    assert min(found.rejected.values()) > 0
