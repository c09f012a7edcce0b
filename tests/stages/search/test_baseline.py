"""The baseline is removed from the rows if there is one, and pulses stay."""

import numpy as np
import pytest

from edgefilter.compute.threads import ThreadBackend
from edgefilter.core.cells import Rows
from edgefilter.stages.search import baseline_fit
from edgefilter.stages.search.baseline import BaselineEstimator
from tests.helpers.pulse_sky import add_pulse, make_plan, noise

SIGMA = 0.05 * np.linspace(50, 150, 128)  # of the noise of each channel
BLOCKS = 9


@pytest.fixture
def plan():
    return make_plan(128, rows=512, rate=1000)


@pytest.fixture
def sky(plan):
    return noise(plan, BLOCKS * plan.rows_per_block, 3)


def remove(plan, sky, block=4, backend=None):
    """Return the rows of a block without the baseline."""
    with ThreadBackend(2) as threads:
        estimator, length = BaselineEstimator(plan, backend or threads), plan.rows_per_block
        parts = [Rows.join([sky], k * length, (k + 1) * length, sky) for k in range(BLOCKS)]
        first, last = block - estimator.blocks_before, block + estimator.blocks_after
        nodes = [estimator.measure(parts[k]) if 0 <= k < BLOCKS else None for k in range(first, last + 1)]
        return estimator.remove(parts[block], nodes, first), parts[block]


def drift_of(sky, kind):
    """Return a drift in sigma ``[time, channel]``."""
    seconds = np.arange(sky.stop) * 1e-3
    drift = np.zeros(sky.stokes.shape[1:])
    if kind == "sine":
        drift[:] = 0.5 * np.sin(2 * np.pi * seconds / 3.3)[:, None]
    elif kind == "half a band":
        drift[:, 64:] = 0.4 * np.sin(2 * np.pi * seconds / 2.1)[:, None]
    elif kind == "not in dead channels":
        drift[:, 32:] = 0.5 * np.sin(2 * np.pi * seconds / 5.1)[:, None]
    return drift


def test_rows_of_white_noise_stay_as_they_are(plan, sky):
    flat, before = remove(plan, sky)
    assert flat is before


@pytest.mark.parametrize("kind", ["sine", "half a band", "not in dead channels"])
def test_a_drift_is_removed(plan, sky, kind):
    clean = sky.stokes[0].copy()
    sky.stokes[0] += (drift_of(sky, kind) * SIGMA).astype(np.float32)
    flat, before = remove(plan, sky)
    here = slice(before.start, before.stop)
    rest = (flat.stokes[0] - clean[here]) / SIGMA
    rest -= rest.mean(axis=0)  # the search normalises each channel
    wander = (before.stokes[0] - clean[here]) / SIGMA
    wander -= wander.mean(axis=0)
    assert rest.std() < 0.15 * wander.std()
    # The sum over the band scatters as white noise does: this is what the search sees.
    band = ((flat.stokes[0] / SIGMA).mean(axis=1) * np.sqrt(128)).reshape(-1, 16).mean(axis=1) * 4
    assert band.std() < 1.5


@pytest.mark.parametrize("at", [2048 + 130, 2048 + 250.5, 2048 + 507])
def test_a_step_of_a_part_of_the_band_is_removed_to_the_row(plan, sky, at):
    clean, row = sky.stokes[0].copy(), np.arange(sky.stop)
    share = np.clip(row + 1 - at, 0, 1)  # a step may lie within a row
    sky.stokes[0][:, :64] += (0.8 * share[:, None] * SIGMA[:64]).astype(np.float32)
    flat, before = remove(plan, sky)
    rest = (flat.stokes[0] - clean[before.start : before.stop])[:, :64] / SIGMA[:64]
    rest -= np.median(rest, axis=0)
    wrong = (np.abs(rest.mean(axis=1)) > 0.25).sum()
    assert wrong <= 3
    assert np.abs(rest).mean() < 0.1


def test_a_transmitter_in_a_few_channels_that_rises_and_falls_is_removed(plan, sky):
    clean, seconds = sky.stokes[0].copy(), np.arange(sky.stop) * 1e-3
    ramp = np.clip(np.minimum(seconds - 2.0, 3.2 - seconds) / 0.3, 0, 1)
    sky.stokes[0][:, 50:60] += (3 * ramp[:, None] * SIGMA[50:60]).astype(np.float32)
    flat, before = remove(plan, sky)
    rest = (flat.stokes[0] - clean[before.start : before.stop]) / SIGMA
    rest -= rest.mean(axis=0)
    assert np.abs(rest[:, 50:60]).mean() < 0.15
    assert np.abs(np.delete(rest, range(50, 60), axis=1)).max() < 0.05


def test_nothing_is_left_of_the_ends_of_a_flagged_transmission(plan, sky):
    sky.weight[2048 + 100 : 2048 + 400, 30:40] = 0
    flat, _ = remove(plan, sky)
    lost = ~np.isfinite(flat.stokes[0])  # no data, for the search
    assert lost[50:90, 30:40].all()
    assert lost[410:450, 30:40].all()
    lost[8:496, 30:40] = False
    assert not lost.any()


def test_a_gap_of_the_whole_band_is_no_transmission(plan, sky):
    sky.weight[2048 + 100 : 2048 + 400] = 0
    flat, before = remove(plan, sky)
    assert flat is before


def test_a_change_of_one_scale_reaches_channels_as_far_as_they_have_it(plan, sky):
    share = np.linspace(0, 2, 128)
    drift = 0.8 * np.sin(2 * np.pi * np.arange(sky.stop) / 3000)[:, None] * share
    clean = sky.stokes[0].copy()
    sky.stokes[0] += (drift * SIGMA).astype(np.float32)
    flat, before = remove(plan, sky)
    rest = (flat.stokes[0] - clean[before.start : before.stop]) / SIGMA
    rest -= rest.mean(axis=0)
    assert np.abs(rest).mean() < 0.12


def fraction_kept(plan, sky, pulse):
    """Return how much of a pulse ``[time, channel]`` is left: of its projection on itself, each channel normalised."""
    with_pulse = remove(plan, sky)[0].stokes[0]
    sky.stokes[0] -= pulse
    without = remove(plan, sky)[0].stokes[0]
    here = slice(4 * 512, 5 * 512)
    kept, template = (with_pulse - without) / SIGMA, pulse[here] / SIGMA
    template = template - template.mean(axis=0)
    return (kept * template).sum() / (template**2).sum()


PULSES = [(20, 4, 40), (30, 100, 20), (100, 100, 30), (150, 16, 200), (5, 100, 30)]


@pytest.mark.parametrize(
    ("dm", "width", "snr", "kind"), [(*pulse, kind) for pulse in PULSES for kind in ("none", "sine")][:-1]
)
def test_a_pulse_is_not_taken_for_a_drift(plan, sky, dm, width, snr, kind):
    empty = sky.stokes[0].copy()
    add_pulse(plan, sky, 4 * 512 + 200, dm, width, snr)
    pulse = sky.stokes[0] - empty
    sky.stokes[0] += (drift_of(sky, kind) * SIGMA).astype(np.float32)
    # The last one, which sweeps 5 ms in 100 ms, cannot be told from a drift: it has to survive where there is none.
    assert fraction_kept(plan, sky, pulse) > (0.95 if dm > 5 else 0.92)


def test_lost_rows_and_dead_channels_do_no_harm(plan, sky):
    sky.weight[4 * 512 + 100 : 4 * 512 + 180] = 0
    sky.weight[:, 40:60] = 0
    sky.stokes[0] += (drift_of(sky, "sine") * SIGMA).astype(np.float32)
    sky.stokes[0][:, 100] = 7.0
    sky.stokes[0][sky.weight == 0] = 0
    flat, before = remove(plan, sky)
    good = flat.weight > 0
    assert (flat.stokes[0][good[:, 100], 100] == 7.0).all()
    assert np.isfinite(flat.stokes[0]).all()
    rows = good.any(axis=1)
    values = (flat.stokes[0] / SIGMA)[rows][:, good.any(axis=0)]
    assert len(values) == 512 - 80
    assert (values - values.mean(axis=0)).mean(axis=1).std() * np.sqrt(107) < 1.3
    assert np.array_equal(flat.weight, before.weight)


def test_nothing_is_removed_where_too_little_is_there(plan, sky):
    sky.weight[:] = 0
    flat, before = remove(plan, sky)
    assert flat is before


def test_the_gpu_removes_the_same(plan, sky, gpu_backend):
    sky.stokes[0] += (drift_of(sky, "sine") * SIGMA).astype(np.float32)
    expected, _ = remove(plan, sky)
    flat, _ = remove(plan, sky, backend=gpu_backend)
    np.testing.assert_allclose(gpu_backend.to_host(flat.stokes), expected.stokes, rtol=1e-5)


def test_missing_nodes_are_filled_between_their_neighbours():
    rng = np.random.default_rng(1)
    values, good = rng.normal(size=(40, 5)), rng.random((40, 5)) < 0.6
    good[:, 3], good[:, 4] = True, False
    filled = baseline_fit._fill(values, good)
    for column in range(4):
        has = np.flatnonzero(good[:, column])
        np.testing.assert_allclose(filled[:, column], np.interp(np.arange(40), has, values[has, column]))
    assert not filled[:, 4].any()
