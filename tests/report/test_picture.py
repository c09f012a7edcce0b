"""Pictures hide nothing, axes have round marks."""

import base64
import io
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edgefilter.report.picture import axis, dm_axis, heatmap, overlay, percentile_range, svg_path


def pixels(url: str) -> np.ndarray:
    head, data = url.split(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA"))


def test_row_0_is_at_the_bottom_and_nothing_is_transparent():
    drawn = pixels(heatmap(np.array([[0.0, 1.0], [np.nan, 9.0]]), 0, 1))
    assert drawn.shape == (2, 2, 4)
    assert drawn[:, :, 3].tolist() == [[0, 255], [255, 255]]
    assert drawn[0, 1].tolist() == drawn[1, 1].tolist() != drawn[1, 0].tolist()  # beyond the range is its end


def test_what_was_taken_away_is_seen_however_little_it_is():
    opacity = pixels(overlay(np.array([[0.0, 1e-9, 0.5, 1.0]]), "#E69F00"))[0, :, 3]
    assert opacity[0] == 0
    assert 0 < opacity[1] < opacity[2] < opacity[3] == 255


@given(low=st.floats(-1e6, 1e6), span=st.floats(1e-6, 1e6))
def test_the_marks_of_an_axis_lie_on_it_at_their_numbers(low, span):
    drawn = axis(low, low + span, "x")
    for tick in drawn.ticks:
        assert -1e-6 <= tick.at <= 100 + 1e-6
        assert float(tick.label.replace("−", "-")) == pytest.approx(low + span * tick.at / 100, abs=1e-3 * span)
    assert len({tick.label for tick in drawn.ticks}) == len(drawn.ticks)


@given(high=st.floats(1, 20000))
def test_the_marks_of_the_dm_axis_do_not_touch(high):
    ticks = dm_axis(high).ticks
    assert ticks[0].label == "0"
    assert all(after.at - before.at > 9 for before, after in pairwise(ticks))


def test_a_line_has_a_gap_where_there_is_no_value():
    assert svg_path([0, 50, 100, 100], [0, np.nan, 100, 50]) == "M0.00 100.00M100.00 0.00L100.00 50.00"


def test_limits_pass_over_what_is_not_finite():
    assert percentile_range(np.array([np.nan, np.inf, 1.0, 3.0]), 0) == (1.0, 3.0)
    assert percentile_range(np.array([np.nan])) == (0.0, 1.0)
