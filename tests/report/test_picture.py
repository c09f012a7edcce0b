"""Images show every flagged cell, axes have round ticks."""

import base64
import io
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edgefilter.core.clock import tai_ns_from_iso
from edgefilter.report.picture import axis, dm_axis, heatmap, overlay, percentile_range, svg_path, time_axis


def pixels(url: str) -> np.ndarray:
    head, data = url.split(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA"))


def test_row_0_is_at_the_bottom_and_nan_is_transparent():
    drawn = pixels(heatmap(np.array([[0.0, 1.0], [np.nan, 9.0]]), 0, 1))
    assert drawn.shape == (2, 2, 4)
    assert drawn[:, :, 3].tolist() == [[0, 255], [255, 255]]
    assert (
        drawn[0, 1].tolist() == drawn[1, 1].tolist() != drawn[1, 0].tolist()
    )  # values beyond the range have the colour of its end


def test_every_fraction_above_0_is_visible():
    opacity = pixels(overlay(np.array([[0.0, 1e-9, 0.5, 1.0]]), "#E69F00"))[0, :, 3]
    assert opacity[0] == 0
    assert 0 < opacity[1] < opacity[2] < opacity[3] == 255


@given(low=st.floats(-1e6, 1e6), span=st.floats(1e-6, 1e6))
def test_the_ticks_of_an_axis_are_at_their_values(low, span):
    drawn = axis(low, low + span, "x")
    for tick in drawn.ticks:
        assert -1e-6 <= tick.at <= 100 + 1e-6
        assert float(tick.label.replace("−", "-")) == pytest.approx(low + span * tick.at / 100, abs=1e-3 * span)
    assert len({tick.label for tick in drawn.ticks}) == len(drawn.ticks)


@given(high=st.floats(1, 20000))
def test_the_ticks_of_the_dm_axis_do_not_touch(high):
    ticks = dm_axis(high).ticks
    assert ticks[0].label == "0"
    assert all(after.at - before.at > 9 for before, after in pairwise(ticks))


def test_a_line_has_a_gap_at_a_missing_value():
    assert svg_path([0, 50, 100, 100], [0, np.nan, 100, 50]) == "M0.00 100.00M100.00 0.00L100.00 50.00"


@pytest.mark.parametrize(
    ("seconds", "labels"),
    [
        (60.0, ["0", "20", "40", "60"]),
        (3600.0, ["23:45", "00:00", "00:15", "00:30"]),
        (86400.0, ["02 Jan", "06:00", "12:00", "18:00"]),
        (5 * 86400.0, ["02 Jan", "03 Jan", "04 Jan", "05 Jan", "06 Jan"]),
    ],
)
def test_the_ticks_of_a_long_run_are_utc(seconds, labels):
    drawn = time_axis(tai_ns_from_iso("2026-01-01T23:35:00"), seconds)
    assert [tick.label for tick in drawn.ticks] == labels
    assert all(0 <= tick.at <= 100 for tick in drawn.ticks)
    assert (drawn.name == "UTC, from 2026-01-01") == (seconds > 900)


def test_limits_ignore_values_that_are_not_finite():
    assert percentile_range(np.array([np.nan, np.inf, 1.0, 3.0]), 0) == (1.0, 3.0)
    assert percentile_range(np.array([np.nan])) == (0.0, 1.0)
