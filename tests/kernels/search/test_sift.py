import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefilter_kernels.search.sift import (
    SiftBands,
    SiftEvents,
    count_members,
    explained_fraction,
    find_explanation,
    next_unexplained,
)
from tests.reference.search.sift import explains as reference

SLOPE, OFFSET = 4.149e6, 1500.0**-2  # rows of 1 ms


@settings(max_examples=60, deadline=None)
@given(
    row=st.integers(-800, 800),
    dm=st.one_of(st.just(0), st.integers(-600, 600)),
    widths=st.tuples(st.sampled_from([1, 4, 32]), st.sampled_from([1, 4, 32])),
    snrs=st.tuples(st.integers(20, 200), st.integers(7, 20)),
    low=st.sampled_from([1200.0, 1350.0, 1425.0]),
)
def test_agrees_with_the_reference(row, dm, widths, snrs, low):
    events = two_events(row, dm, widths, snrs)
    bands = two_bands(low, (128.0, 64.0))
    snr, limit, overlap = reference(events, bands)
    if abs(snr - limit) > 0.1:  # the reference samples the band
        assert explained_fraction(events, bands, 0, 1) == pytest.approx(overlap if snr < limit else -1, abs=2e-4)


def two_events(row, dm, widths, snrs):
    """The first is ``row`` later and has ``dm`` more than the second."""
    pairs = ([500.0 + row, 500.0], [700.0 + dm, 700.0], widths, snrs)
    return SiftEvents(*(np.array(pair, float) for pair in pairs), np.array([0, 1], np.int32))


def two_bands(low, channels, max_separation=1e6):
    return SiftBands(np.array([[low, 1500.0]] * 2), np.array(channels), SLOPE, OFFSET, max_separation)


def test_a_later_event_of_lower_dm_crosses_the_track():
    dm = -100.0 / (SLOPE * (1350.0**-2 - OFFSET))
    events = two_events(100.0, dm, (2.0, 2.0), (200.0, 7.0))
    bands = two_bands(1200.0, (10.0, 10.0))
    assert explained_fraction(events, bands, 0, 1) > 0
    assert explained_fraction(two_events(100.0, -dm, (2.0, 2.0), (200.0, 7.0)), bands, 0, 1) == -1
    assert explained_fraction(events, bands._replace(max_separation=99.0), 0, 1) == -1


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(4, 60))
def test_searches_among_many_events_agree_with_those_among_two(seed, count):
    rng = np.random.default_rng(seed)
    events = SiftEvents(
        rng.integers(0, 60, count).astype(float),
        rng.integers(300, 330, count).astype(float),
        2.0 ** rng.integers(0, 5, count),
        -np.sort(-rng.uniform(7, 60, count)),
        rng.integers(0, 2, count).astype(np.int32),
    )
    bands = two_bands(1200.0, (128.0, 64.0))
    fractions = np.array([[explained_fraction(events, bands, p, e) for e in range(count)] for p in range(count)])
    explaining = rng.random(count) < 0.3
    for e in range(count):
        stronger = np.flatnonzero(explaining[:e] & (fractions[:e, e] >= 0))
        assert find_explanation(explaining, events, bands, e) == (stronger[0] if len(stronger) else -1)
    peaks = np.arange(rng.integers(1, 4))
    start = int(rng.integers(len(peaks), count + 1))
    most = fractions[peaks].max(axis=0)
    unexplained = np.flatnonzero((most < 0) & (np.arange(count) >= start))
    found = np.full(count, -2.0)
    event = next_unexplained(start, peaks, found, events, bands)
    assert event == (unexplained[0] if len(unexplained) else count)
    np.testing.assert_array_equal(found[start:event], most[start:event])
    assert (found[:start] == -2).all()
    members, _, _ = count_members(peaks, events, bands)
    assert members.tolist() == [1 + np.count_nonzero(fractions[p, p + 1 :] >= 0) for p in peaks]
