import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefilter_kernels.shadow import explains
from tests.reference.shadow import explains as reference

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
    arguments = (row, dm, *map(float, widths + snrs), 128.0, 64.0, low, 1500.0, SLOPE, OFFSET)
    snr, limit = reference(*arguments)
    if abs(snr - limit) > 0.1:  # the reference samples the band
        assert bool(explains(*arguments)) == (snr < limit)


def test_signs_of_row_and_dm_go_together():
    near = (
        100.0,
        -100.0 / (SLOPE * (1350.0**-2 - OFFSET)),
        2.0,
        2.0,
        200.0,
        7.0,
        10.0,
        10.0,
        1200.0,
        1500.0,
        SLOPE,
        OFFSET,
    )
    assert explains(*near)
    assert not explains(100.0, -near[1], *near[2:])
    assert np.isfinite(near).all()
