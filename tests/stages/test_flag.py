from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from edgefilter.cells import Cells, Flag
from edgefilter.config import Block, Detect, FlagSettings, Pulses, Reduction
from edgefilter.plan import DISPERSION_S_MHZ2, Plan, resolve
from edgefilter.stages.flag import FlagStage, kurtosis_limits
from edgefilter.stream import Encoding, Kind, Stream
from edgefilter.workers import Workers

CELL_S = 0.5e-3
OFF = {"kurtosis_sigma": 0, "channel_sigma": 0, "time_sigma": 0, "cell_sigma": 0}


def power_plan(channels=256, **flag):
    """1600 MHz downwards to 1200 MHz, detected power."""
    step = -400e6 / channels
    stream = Stream("p", Kind.POWER, 0, Fraction(2000), channels, 1600e6 + step / 2, step, ("I",), 32, Encoding.FLOAT)
    wanted = Reduction(block=Block(rows=16), flag=FlagSettings(**flag), pulses=Pulses(dm=(0.0, 10.0)))
    return Plan(stream, resolve(wanted, stream))


def voltage_plan(raw=1, fine=256, spectra=64, **flag):
    """Two hands of complex voltages, channelised."""
    stream = Stream("v", Kind.VOLTAGE, 0, Fraction(32_000_000), raw, 1400e6, 32e6, ("X", "Y"), 8, Encoding.SIGNED, True)
    tree = {"channelise": {"channels": fine}, "flag": flag, "block": {"rows": 16}}
    wanted = Reduction.model_validate(tree).model_copy(
        update={"detect": Detect(spectra=spectra), "pulses": Pulses(dm=(0.0, 10.0))}
    )
    return Plan(stream, resolve(wanted, stream))


def power_cells(power):
    power = np.ascontiguousarray(power, np.float32)[:, :, None]
    return Cells(0, power, np.zeros(power.shape[:2], np.uint16), ("I",), np.zeros(len(power), np.int32))


def noise(rng, times=1024, channels=256):
    return rng.normal(100, 10, (times, channels))


def gaussian_voltages(rng, times, channels, spectra, gain=1.0):
    """Cells as detection makes them of Gaussian voltages in two hands of unequal gain."""
    power = np.empty((times, channels, 2), np.float32)
    moment4 = np.empty_like(power)
    for t in range(times):
        squares = rng.exponential(1.0, (spectra, channels, 2)) * np.array([1.0, 1.3]) * np.reshape(gain, (-1, 1))
        power[t], moment4[t] = squares.mean(axis=0), (squares**2).mean(axis=0)
    accumulated = np.full(times, spectra, np.int32)
    return Cells(0, power, np.zeros((times, channels), np.uint16), ("XX", "YY"), accumulated, moment4)


def flagged(plan, cells, threads=2):
    with Workers(threads) as workers:
        FlagStage(plan, workers).reduce(cells)
    return cells.flags


def sweep(plan, dm, start):
    """Cell of arrival at each channel of a pulse that is at the top of the band at ``start``."""
    f = plan.frequencies_mhz
    return start + np.rint(DISPERSION_S_MHZ2 * dm * (f**-2 - f.max() ** -2) / CELL_S).astype(int)


@pytest.mark.parametrize("spectra", [16, 64, 512])
def test_kurtosis_limits_let_noise_leave_at_the_rate_asked_for(spectra):
    rng = np.random.default_rng(spectra)
    tail = norm.sf(3)
    low, high = kurtosis_limits(spectra, tail)
    estimates = []
    for _ in range(20):
        squares = rng.exponential(size=(500_000 // spectra, spectra))
        ratio = spectra * (squares**2).sum(axis=1) / squares.sum(axis=1) ** 2
        estimates.append((spectra + 1) / (spectra - 1) * (ratio - 1))
    estimate = np.concatenate(estimates)
    rate = ((estimate < low) | (estimate > high)).mean() / (2 * tail)
    assert 0.5 < rate < 2


def test_kurtosis_limits_of_an_impossible_rate_are_infinite():
    assert kurtosis_limits(64, norm.sf(100)) == (-np.inf, np.inf)


@pytest.mark.parametrize("spectra", [1, 16, 128])
def test_noise_of_voltages_is_hardly_flagged(spectra):
    cells = gaussian_voltages(np.random.default_rng(spectra), 256, 256, spectra)
    flags = flagged(voltage_plan(spectra=spectra), cells)
    assert (flags != 0).mean() <= 2e-3
    assert not (flags & Flag.TIME).any()


@pytest.mark.parametrize("seed", range(4))
def test_noise_of_power_is_hardly_flagged(seed):
    flags = flagged(power_plan(), power_cells(noise(np.random.default_rng(seed), 2048)))
    assert (flags != 0).mean() <= 2e-3
    assert not (flags & Flag.TIME).any()


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_noise_of_few_bits_is_hardly_flagged(bits):
    rng = np.random.default_rng(bits)
    step = {1: 2.0, 2: 1.0, 4: 0.33}[bits]
    digital = np.clip(np.floor(rng.normal(0, 1, (1024, 256)) / step + 2 ** (bits - 1)), 0, 2**bits - 1)
    assert (flagged(power_plan(), power_cells(digital)) != 0).mean() <= 2e-3


def test_a_bandpass_is_not_interference():
    rng = np.random.default_rng(3)
    x = np.linspace(-1, 1, 256)
    shapes = {
        "slope": 1 + 0.8 * x,
        "edges": 1 / (1 + np.exp((np.abs(x) - 0.93) / 0.01)) + 1e-3,
        "ripple": 1 + 0.2 * np.sin(12 * x),
        "dome": np.exp(-2 * x**2),
    }
    for name, shape in shapes.items():
        flags = flagged(power_plan(), power_cells(noise(rng) * shape))
        assert (flags != 0).mean() <= 4e-3, name


def test_edges_of_every_raw_channel_are_not_interference():
    shape = np.tile(1 - 0.5 * np.abs(np.linspace(-1, 1, 32)) ** 12, 8)
    cells = gaussian_voltages(np.random.default_rng(4), 256, 256, 32, shape)
    flags = flagged(voltage_plan(raw=8, fine=32, spectra=32), cells)
    assert (flags != 0).mean() <= 4e-3


def test_a_static_mask_takes_channels_by_their_centre():
    plan = power_plan(mask=((1300.0, 1310.0),), **OFF)
    flags = flagged(plan, power_cells(noise(np.random.default_rng(0), 32)))
    f = plan.frequencies_mhz
    np.testing.assert_array_equal(flags == Flag.MASK, np.tile((f >= 1300) & (f <= 1310), (32, 1)))


def test_pulsed_interference_in_voltages_has_kurtosis():
    rng = np.random.default_rng(5)
    cells = gaussian_voltages(rng, 64, 64, 64)
    squares = rng.exponential(1.0, 64)
    squares[:4] *= 30
    cells.power[10, 20, 0], cells.moment4[10, 20, 0] = squares.mean(), (squares**2).mean()
    cells.power[30, 40, 1], cells.moment4[30, 40, 1] = 4.0, 16.1  # a carrier's power is constant
    flags = flagged(voltage_plan(fine=64, **(OFF | {"kurtosis_sigma": 5})), cells)
    assert {tuple(at) for at in np.argwhere(flags == Flag.KURTOSIS)} == {(10, 20), (30, 40)}


def test_carriers_and_dead_channels_are_flagged():
    rng = np.random.default_rng(6)
    power = noise(rng) * np.linspace(0.5, 1.5, 256)
    power[:, 50] += 30  # a carrier
    power[:, 0] *= 3  # and one at the very edge
    power[:, 100] += rng.normal(0, 20, 1024)  # scatter
    power[:, 120:125] = 0  # dead
    power[:, 160:185] *= 2  # wider than the narrow neighbourhood
    power[:, 200] += 25 * np.repeat(rng.normal(0, 1, 32), 32)  # slow
    bad = [0, 50, 100, *range(120, 125), *range(160, 185), 200]
    occupied = (flagged(power_plan(), power_cells(power)) & Flag.CHANNEL > 0).mean(axis=0)
    assert (occupied[bad] == 1).all()
    assert np.delete(occupied, bad).mean() < 0.01


def test_an_impulse_of_the_whole_band_and_a_dropout_are_flagged():
    power = noise(np.random.default_rng(7))
    power[300] += 20
    power[301] += 15
    power[700] -= 30
    flags = flagged(power_plan(), power_cells(power))
    assert set(np.flatnonzero((flags & Flag.TIME).all(axis=1))) == {300, 301, 700}
    assert not (np.delete(flags, [300, 301, 700], axis=0) & Flag.TIME).any()


def test_single_outlying_cells_are_flagged():
    power = noise(np.random.default_rng(8))
    power[10, 30] += 120
    power[20, 40] -= 110
    flags = flagged(power_plan(), power_cells(power))
    assert {tuple(at) for at in np.argwhere(flags & Flag.CELL)} == {(10, 30), (20, 40)}


@pytest.mark.parametrize("width", [1, 8, 32])
@pytest.mark.parametrize("dm", [20, 50, 300, 1000])
def test_dispersed_pulses_keep_their_cells(dm, width):
    rng = np.random.default_rng(dm + width)
    plan = power_plan()
    lost = total = 0
    for snr in (10, 25, 50):
        power = noise(rng, 4096)
        first = sweep(plan, dm, 200)
        at = (first[:, None] + np.arange(width)).T
        power[at, np.arange(256)] += 10 * snr / np.sqrt(256 * width)
        flags = flagged(plan, power_cells(power))
        lost += (flags[at, np.arange(256)] != 0).sum()
        total += at.size
    assert lost < 0.02 * total


def test_too_few_times_or_channels_are_let_be():
    rng = np.random.default_rng(9)
    short = noise(rng, 12)
    short[:, 5] += 1000
    assert not flagged(power_plan(), power_cells(short)).any()
    narrow = noise(rng, 200, 4)
    narrow[:, 2] += 1000
    assert not flagged(power_plan(4), power_cells(narrow)).any()


@settings(deadline=None, max_examples=25)
@given(
    times=st.integers(1, 60),
    channels=st.sampled_from([1, 2, 17, 64]),
    lost=st.sampled_from([0.0, 0.4, 1.0]),
    seed=st.integers(0, 1000),
)
def test_lost_cells_stay_lost_and_tell_nothing(times, channels, lost, seed):
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
    with Workers(1) as workers:
        stage = FlagStage(plan, workers)
        for block, expected in zip(blocks, fresh, strict=True):
            stage.reduce(block)
            np.testing.assert_array_equal(block.flags, expected)


def test_cells_of_another_plan_are_refused():
    with pytest.raises(ValueError, match="channels of the plan"):
        flagged(power_plan(16), power_cells(np.ones((20, 8))))
