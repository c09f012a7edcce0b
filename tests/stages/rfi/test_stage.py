import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefilter.compute.threads import ThreadBackend
from edgefilter.core.cells import Cells, Flag
from edgefilter.stages.rfi.stage import FlagStage
from tests.helpers.flag_scenes import (
    add_tone,
    gaussian_voltages,
    noise,
    power_cells,
    power_plan,
    sweep,
    voltage_plan,
)

OFF = {"kurtosis_sigma": 0, "channel_sigma": 0, "zero_dm_sigma": 0, "power_sigma": 0, "carrier_sigma": 0}


def flagged(plan, cells, threads=2):
    cells.start = plan.cells_per_block  # a block without the measurement of signal loss, which flags seven times more
    with ThreadBackend(threads) as backend:
        FlagStage(plan, backend).reduce(cells)
    return cells.flags


@pytest.mark.parametrize("spectra", [1, 16, 128])
def test_noise_of_voltages_is_hardly_flagged(spectra):
    cells = gaussian_voltages(np.random.default_rng(spectra), 256, 256, spectra)
    flags = flagged(voltage_plan(spectra=spectra), cells)
    assert (flags != 0).mean() <= 2e-3
    assert not (flags & Flag.ZERO_DM).any()


@pytest.mark.parametrize("seed", range(4))
def test_noise_of_power_is_hardly_flagged(seed):
    flags = flagged(power_plan(), power_cells(noise(np.random.default_rng(seed), 2048)))
    assert (flags != 0).mean() <= 1e-3
    assert not (flags & Flag.ZERO_DM).any()


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_noise_of_few_bits_is_hardly_flagged(bits):
    rng = np.random.default_rng(bits)
    step = {1: 2.0, 2: 1.0, 4: 0.33}[bits]
    digital = np.clip(np.floor(rng.normal(0, 1, (1024, 256)) / step + 2 ** (bits - 1)), 0, 2**bits - 1)
    assert (flagged(power_plan(), power_cells(digital)) != 0).mean() <= 2e-3


@pytest.mark.parametrize("shape", ["slope", "edges", "ripple", "dome"])
def test_a_bandpass_is_not_flagged(shape):
    x = np.linspace(-1, 1, 256)
    gain = {
        "slope": 1 + 0.8 * x,
        "edges": 1 / (1 + np.exp((np.abs(x) - 0.93) / 0.01)) + 1e-3,
        "ripple": 1 + 0.2 * np.sin(12 * x),
        "dome": np.exp(-2 * x**2),
    }[shape]
    flags = flagged(power_plan(), power_cells(noise(np.random.default_rng(3)) * gain))
    assert (flags != 0).mean() <= 1e-3


def test_a_static_mask_flags_channels_by_their_centre():
    plan = power_plan(mask=((1300.0, 1310.0),), **OFF)
    flags = flagged(plan, power_cells(noise(np.random.default_rng(0), 32)))
    f = plan.frequencies_mhz
    np.testing.assert_array_equal(flags == Flag.MASK, np.tile((f >= 1300) & (f <= 1310), (32, 1)))


def test_pulsed_interference_and_a_tone_are_flagged_by_kurtosis():
    rng = np.random.default_rng(5)
    cells = gaussian_voltages(rng, 256, 64, 64)
    squares = rng.exponential(1.0, 64)
    squares[:4] *= 30
    cells.power[10, 20, 0], cells.moment4[10, 20, 0] = squares.mean(), (squares**2).mean()
    cells.power[30, 40], cells.moment4[30, 40] = 4.0, 16.1  # a carrier's power is constant
    flags = flagged(voltage_plan(fine=64, **(OFF | {"kurtosis_sigma": 5})), cells)
    assert {tuple(at) for at in np.argwhere(flags == Flag.KURTOSIS)} == {(10, 20), (30, 40)}


def test_a_continuous_carrier_is_flagged_and_a_line_is_not():
    cells = gaussian_voltages(np.random.default_rng(6), 1024, 128, 32)
    add_tone(cells, (slice(None), slice(30, 31)), 0.5)
    cells.power[:, 80:84] *= 2  # a line is noise
    cells.moment4[:, 80:84] *= 4
    flags = flagged(voltage_plan(fine=128, spectra=32), cells)
    assert (flags[:, 30] & Flag.CARRIER).all()
    assert (np.delete(flags, 30, axis=1) != 0).mean() < 2e-3


def test_a_carrier_is_told_from_a_line_by_the_scatter_of_its_power():
    cells = gaussian_voltages(np.random.default_rng(6), 1024, 128, 32)
    add_tone(cells, (slice(None), slice(30, 31)), 0.7)
    cells.power[:, 80:84] *= 1.7
    cells.moment4 = None
    flags = flagged(voltage_plan(fine=128, spectra=32), cells)
    assert (flags[:, 30] & Flag.CARRIER).all()
    assert (np.delete(flags, 30, axis=1) != 0).mean() < 2e-3


@pytest.mark.parametrize("duty", [0.5, 0.8])
def test_interference_for_most_of_the_time_is_flagged_while_it_is_on(duty):
    rng = np.random.default_rng(8)
    cells = gaussian_voltages(rng, 1024, 64, 64)
    on = np.repeat(np.arange(16) < 16 * duty, 64)
    gain = np.where(on, 2.0, 1.0)[:, None]
    cells.power[:, 20] *= gain
    cells.moment4[:, 20] *= gain**2
    flags = flagged(voltage_plan(fine=64), cells)
    assert (flags[on, 20] & Flag.POWER != 0).mean() > 0.98
    assert (flags[~on, 20] != 0).mean() < 0.02


def test_noisy_and_slowly_varying_channels_are_flagged_and_dead_ones_are_not():
    rng = np.random.default_rng(6)
    power = noise(rng)
    power[:, 100] += rng.normal(0, 20, 1024)
    power[:, 200] += 25 * np.repeat(rng.normal(0, 1, 32), 32)
    power[:, 120:125] = 0
    flags = flagged(power_plan(), power_cells(power))
    assert (flags[:, [100, 200]] & Flag.CHANNEL).all()
    assert (np.delete(flags, [100, 200], axis=1) != 0).mean() < 1e-3


def test_an_impulse_of_the_whole_band_and_a_dropout_are_flagged():
    power = noise(np.random.default_rng(7))
    power[300] += 20
    power[301] += 15
    power[700] -= 30
    flags = flagged(power_plan(), power_cells(power))
    hit = (flags & Flag.ZERO_DM > 0).mean(axis=1)
    assert set(np.flatnonzero(hit > 0.9)) == {300, 301, 700}
    assert not np.delete(hit, [300, 301, 700]).any()


def test_runs_of_power_are_flagged_where_they_are():
    power = noise(np.random.default_rng(8))
    truth = np.zeros(power.shape, bool)
    truth[10, 30] = truth[100:140, 40] = truth[500:900, 60:75] = True
    power[10, 30] += 80
    power[truth] += 30
    found = flagged(power_plan(), power_cells(power)) & Flag.POWER > 0
    assert found[truth].mean() > 0.98
    assert (found & ~truth).sum() < 0.05 * truth.sum()


@pytest.mark.parametrize("width", [1, 8, 32])
@pytest.mark.parametrize("dm", [20, 50, 300, 1000])
def test_dispersed_pulses_keep_their_cells(dm, width):
    rng = np.random.default_rng(dm + width)
    plan = power_plan()
    lost = total = 0
    for sigma in (0.5, 3, 30):
        power = noise(rng, 4096)
        first = sweep(plan, dm, 200)
        smear = int(np.diff(first[-2:])[0])  # within a channel: no pulse is shorter
        at = (first[:, None] + np.arange(max(width, smear))).T
        power[at, np.arange(256)] += 10 * sigma
        flags = flagged(plan, power_cells(power))
        lost += (flags[at, np.arange(256)] != 0).sum()
        total += at.size
    assert lost < 0.02 * total


def test_a_protected_band_is_tagged_and_stays_in_use():
    power = noise(np.random.default_rng(8))
    power[100:140, 40] += 100
    plan = power_plan()
    f = float(plan.frequencies_mhz[40])
    cells = power_cells(power)
    flags = flagged(power_plan(protect=((f - 1, f + 1),)), cells)
    assert not flags[:, 40].any()
    assert 38 <= cells.tagged[40] <= 42


def test_a_faint_tone_is_tagged_and_stays_in_use():
    cells = gaussian_voltages(np.random.default_rng(6), 1024, 128, 32)
    add_tone(cells, (slice(None), slice(30, 31)), 0.5)
    flags = flagged(voltage_plan(fine=128, spectra=32, tone_db=0.0), cells)
    assert not (flags[:, 30] & Flag.CARRIER).any()
    assert cells.tagged[30] == 1024


def test_a_block_of_too_few_times_is_not_flagged():
    rng = np.random.default_rng(9)
    short = noise(rng, 12)
    short[:, 5] += 1000
    assert not flagged(power_plan(), power_cells(short)).any()


@settings(deadline=None, max_examples=25)
@given(
    times=st.integers(1, 200),
    channels=st.sampled_from([1, 2, 17, 64, 200]),
    lost=st.sampled_from([0.0, 0.4, 1.0]),
    seed=st.integers(0, 1000),
)
def test_lost_cells_stay_lost_and_do_not_change_other_flags(times, channels, lost, seed):
    rng = np.random.default_rng(seed)
    spectra = int(rng.choice([1, 16, 40]))
    plan = voltage_plan(fine=64, spectra=spectra) if channels == 64 else power_plan(channels)
    cells = gaussian_voltages(rng, times, channels, spectra)
    if channels != 64:
        cells = power_cells(cells.power[:, :, 0])
    gone = rng.random(times) < lost
    cells.flags[gone] = Flag.LOST
    cells.accumulated[gone] = 0
    cells.power[gone] = 0
    other = Cells(
        0,
        cells.power.copy(),
        cells.flags.copy(),
        cells.products,
        cells.accumulated,
        None if cells.moment4 is None else cells.moment4.copy(),
    )
    other.power[gone] = 1e6
    one, two = flagged(plan, cells, threads=1), flagged(plan, other, threads=3)
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one & Flag.LOST > 0, np.broadcast_to(gone[:, None], one.shape))
    assert (one[gone] == Flag.LOST).all()


def test_flags_follow_from_the_block_alone():
    plan = voltage_plan(fine=64)
    rng = np.random.default_rng(11)
    blocks = [gaussian_voltages(rng, 64, 64, spectra) for spectra in (64, 32, 64)]
    fresh = [flagged(plan, Cells(0, b.power, b.flags.copy(), b.products, b.accumulated, b.moment4)) for b in blocks]
    with ThreadBackend(1) as backend:
        stage = FlagStage(plan, backend)
        for block, expected in zip(blocks, fresh, strict=True):
            stage.reduce(block)
            np.testing.assert_array_equal(block.flags, expected)


def test_cells_of_another_plan_are_refused():
    with pytest.raises(ValueError, match="channels of the plan"):
        flagged(power_plan(16), power_cells(np.ones((20, 8))))
