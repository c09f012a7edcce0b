"""Cut-outs: rows along the sweep of pulses, pulses that share them, and pulses measured again in the rows around."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgefilter.core.cells import Rows
from edgefilter.core.reduced_block import PulseCandidate
from edgefilter.stages.search.cutouts import CutoutPlanner
from edgefilter.stages.search.dm_plan import delay_rows
from edgefilter.stages.search.track import Region, boxcar_region, gather
from tests.helpers.pulse_sky import make_plan

ROWS = 1024
PLAN = make_plan(rows=ROWS, dm=(0, 2000))
PLANNER = CutoutPlanner(PLAN)
LOW, HIGH = PLAN.band_mhz
DELAY = delay_rows(PLAN)


def pulse(row: float, dm: float, width: int, snr: float = 10.0) -> PulseCandidate:
    return PulseCandidate(row, dm, 1.0, width, snr, LOW, HIGH, 1)


pulses = st.builds(pulse, st.integers(0, ROWS - 1).map(float), st.floats(0, 2000), st.integers(1, 64))


@given(st.lists(pulses, max_size=8))
def test_the_boxcar_of_every_pulse_is_in_the_cutout_that_it_names(found):
    planned = PLANNER.cutouts(found)
    assert len(planned) == len(found)
    for rank, (one, (number, region)) in enumerate(zip(found, planned, strict=True)):
        assert region.covers(boxcar_region(one, DELAY))
        assert number <= rank
        assert planned[number] == (number, region)


def test_a_cutout_follows_the_sweep_with_a_margin():
    region = PLANNER.region(pulse(500.0, 100.0, 2))
    top, bottom = int(np.argmax(PLAN.frequencies_mhz)), int(np.argmin(PLAN.frequencies_mhz))
    assert region.length == 40
    assert region.first[top] == 500 - 20
    assert region.first[bottom] == round(500 + 100.0 * DELAY[bottom]) - 20
    # 4.149 ms DM (ν₁⁻² - ν₂⁻²), GHz
    assert np.isclose(100 * DELAY[bottom] * PLAN.row_seconds, 0.1028, atol=0.003)


@given(st.lists(pulses, max_size=5), st.lists(pulses, max_size=5))
def test_cells_of_cutouts_are_counted_once(first, second):
    weight = np.random.default_rng(3).integers(0, 3, (ROWS, PLAN.channels)).astype(np.uint16)
    block = Rows(ROWS, np.zeros((1, *weight.shape), np.float32), weight)
    covered = np.zeros(weight.shape, np.bool_)
    for found in (first, second):
        for _, region in PLANNER.cutouts(found):
            since = np.arange(ROWS, 2 * ROWS)[:, None] - region.first
            covered |= (since >= 0) & (since < region.length)
    assert PLANNER.cutout_cells([first, second], block) == weight[covered].sum()


def test_gathered_rows_are_those_of_the_region_and_missing_ones_have_no_weight():
    rng = np.random.default_rng(5)
    stokes = rng.normal(size=(2, 40, 3)).astype(np.float32)
    weight = rng.integers(1, 5, (40, 3)).astype(np.uint16)
    parts = [Rows(10, stokes[:, :16], weight[:16]), None, Rows(42, stokes[:, 32:], weight[32:])]
    region = Region(np.array([8, 20, 38]), 9)
    power, used = gather(region, parts, parts[0])
    for channel, first in enumerate(region.first):
        for row in range(9):
            at = first + row - 10
            there = 0 <= at < 16 or 32 <= at < 40
            assert used[row, channel] == (weight[at, channel] if there else 0)
            assert power[:, row, channel].tolist() == (stokes[:, at, channel].tolist() if there else [0, 0])


def sky(dm: float, width: int, snr: float, row: float, drift: float = 0.0) -> list[Rows]:
    """Noise of four blocks, whose scatter differs over the band, and a pulse whose boxcar has this S/N."""
    rng = np.random.default_rng(11)
    scatter = np.linspace(1, 3, PLAN.channels, dtype=np.float32)
    z = rng.normal(size=(4 * ROWS, PLAN.channels)).astype(np.float32)
    first = boxcar_region(pulse(row, dm, width), DELAY).first
    for step in range(width):
        z[first + step, np.arange(PLAN.channels)] += snr / np.sqrt(width * PLAN.channels)
    z += drift * np.arange(4 * ROWS, dtype=np.float32)[:, None] / ROWS
    power = 100 + scatter * z
    weight = np.full((ROWS, PLAN.channels), PLAN.cells_per_row, np.uint16)
    return [Rows(at * ROWS, power[None, at * ROWS : (at + 1) * ROWS], weight) for at in range(4)]


@pytest.mark.parametrize("snr", [10.0, 30.0, 100.0, 1000.0])
@pytest.mark.parametrize("width", [2, 5, 16])
def test_a_pulse_is_measured_again_within_5_percent(snr, width):
    rows = sky(300.0, width, snr, 1500.0)
    sweep = DELAY.max()
    found = pulse(1500.0 + width / 4, 300.0 + width / 2 / sweep, 1 << int(np.log2(width)), 0.7 * snr)
    (kept,) = PLANNER.keep([found], rows, rows[1])
    again = kept.pulse
    assert again.snr == pytest.approx(snr, abs=0.05 * snr + 1.0)
    assert kept.snr_search == 0.7 * snr
    assert abs(again.dm - 300.0) < max(4 * again.dm_error, 0.5 / sweep)
    assert abs(again.row - 1500.0) <= 1 + width / 4
    assert abs(again.width_rows - width) <= 1 + width // 4
    assert kept.flagged_fraction == 0


@pytest.mark.parametrize("parts", [2, 4])
def test_a_pulse_that_the_search_found_in_a_part_of_the_band_is_measured_in_all_of_it(parts):
    rows = sky(300.0, 8, 200.0, 1500.0)
    sweep = np.ptp(DELAY[PLAN.frequencies_mhz >= HIGH - (HIGH - LOW) / parts])
    dm = 300.0 + 1 / sweep
    found = replace(pulse(1500.0, dm, 8, 80.0), freq_low=HIGH - (HIGH - LOW) / parts)
    (kept,) = PLANNER.keep([found], rows, rows[1])
    assert kept.pulse.snr == pytest.approx(200.0, rel=0.05)
    assert (kept.pulse.freq_low, kept.pulse.freq_high) == (LOW, HIGH)
    assert abs(kept.pulse.dm - 300.0) < 1 / DELAY.max()


def test_a_pulse_in_a_part_of_the_band_stays_there():
    rows = sky(300.0, 8, 50.0, 1500.0)
    middle = (LOW + HIGH) / 2
    lower = PLAN.frequencies_mhz < middle
    for one in rows:
        one.stokes[:, :, lower] = sky(300.0, 8, 0.0, 1500.0)[0].stokes[:, :, lower]
    found = replace(pulse(1500.0, 300.0, 8, 30.0), freq_low=middle)
    (kept,) = PLANNER.keep([found], rows, rows[1])
    assert (kept.pulse.freq_low, kept.pulse.freq_high) == (middle, HIGH)
    assert kept.pulse.snr == pytest.approx(50.0 / np.sqrt(2), rel=0.1)


def test_a_drift_that_all_channels_share_does_not_change_the_measurement():
    found = pulse(1500.0, 300.0, 8)
    still, moving = (sky(300.0, 8, 50.0, 1500.0, drift) for drift in (0.0, 1.0))
    (a,), (b,) = (PLANNER.keep([found], rows, rows[1]) for rows in (still, moving))
    assert b.pulse.snr == pytest.approx(a.pulse.snr, rel=0.02)


def test_a_pulse_in_rows_that_are_lost_stays_as_the_search_found_it():
    rows = sky(300.0, 8, 50.0, 1500.0)
    found = pulse(1500.0, 300.0, 8)
    (kept,) = PLANNER.keep([found], [None] * 4, rows[1])
    assert kept.pulse == found
    assert kept.flagged_fraction == 1
