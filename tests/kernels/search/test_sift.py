import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefilter_kernels.search.sift import SiftBands, SiftEvents, explains
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
    snr, limit = reference(events, bands)
    if abs(snr - limit) > 0.1:  # the reference samples the band
        assert explains(events, bands, 0, 1) == (snr < limit)


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
    assert explains(events, bands, 0, 1)
    assert not explains(two_events(100.0, -dm, (2.0, 2.0), (200.0, 7.0)), bands, 0, 1)
    assert not explains(events, bands._replace(max_separation=99.0), 0, 1)
