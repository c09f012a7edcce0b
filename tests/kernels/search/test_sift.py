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
    event = (row, dm, *map(float, widths + snrs), 128.0, 64.0, low, 1500.0)
    snr, limit = reference(*event, SLOPE, OFFSET)
    if abs(snr - limit) > 0.1:  # the reference samples the band
        assert second_is_explained(*event) == (snr < limit)


def second_is_explained(row, dm, width_p, width_e, snr_p, snr_e, channels_p, channels_e, low, high, max_separation=1e6):
    pairs = ([500.0 + row, 500.0], [700.0 + dm, 700.0], [width_p, width_e], [snr_p, snr_e])
    events = SiftEvents(*(np.array(pair, float) for pair in pairs), np.array([0, 1], np.int32))
    bands = SiftBands(np.array([[low, high]] * 2), np.array([channels_p, channels_e]), SLOPE, OFFSET, max_separation)
    return bool(explains(events, bands, 0, 1))


def test_signs_of_row_and_dm_go_together():
    dm = -100.0 / (SLOPE * (1350.0**-2 - OFFSET))
    rest = (2.0, 2.0, 200.0, 7.0, 10.0, 10.0, 1200.0, 1500.0)
    assert second_is_explained(100.0, dm, *rest)
    assert not second_is_explained(100.0, -dm, *rest)
    assert not second_is_explained(100.0, dm, *rest, max_separation=99.0)
