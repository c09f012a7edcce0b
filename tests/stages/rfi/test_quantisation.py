import numpy as np
import pytest

import edgefilter
from edgefilter.compute.threads import ThreadBackend
from edgefilter.stages.rfi.background import Background
from edgefilter.stages.rfi.block import BlockView
from edgefilter.stages.rfi.quantisation import clip_curve, undo_clipping
from edgefilter.stages.rfi.thresholds import kurtosis_sigma

SPECTRA, TIMES, CHANNELS = 64, 512, 96
FREQUENCIES = np.linspace(1500e6, 1400e6, CHANNELS)


def cells(rms, gain=1.0, n_pols=1, seed=1):
    """Return mean square and fourth power of voltages of 4 bits, with ``gain`` times the power of the noise."""
    rng = np.random.default_rng(seed)
    shape = TIMES, CHANNELS, n_pols
    power, fourth = np.zeros((2, *shape))
    scale = rms * np.sqrt(np.broadcast_to(gain, (TIMES, CHANNELS)))[:, :, None]
    for _ in range(SPECTRA):
        parts = np.clip(np.rint(rng.normal(0, 1, (2, *shape)) * scale), -7, 7)
        square = (parts**2).sum(axis=0)
        power += square / SPECTRA
        fourth += square**2 / SPECTRA
    return power.astype(np.float32), fourth.astype(np.float32)


def corrected_kurtosis(power, fourth, threads=1):
    """Return fourth moments and kurtosis of each cell after the correction."""
    n_pols = power.shape[2]
    centre = np.median(power.sum(axis=2), axis=0).astype(np.float64)
    background = Background(centre, centre / np.sqrt(SPECTRA * n_pols), TIMES)
    given = np.full(TIMES, SPECTRA, np.int32), n_pols, np.zeros(power.shape[:2], np.uint16), SPECTRA
    with ThreadBackend(threads) as backend:
        view, _ = undo_clipping(BlockView(power, fourth, *given), background, backend)
    found = view.moment4
    return found, ((SPECTRA + 1) / (SPECTRA - 1) * (found / power**2 - 1) if found.shape[2] else None)


def test_the_curve_is_that_of_clipped_noise():
    """The curve agrees with simulated noise that is clipped but not rounded."""
    powers, kurtosis = clip_curve(10**9)
    assert (np.diff(powers) > 0).all()
    assert (np.diff(kurtosis) < 1e-9).all()
    assert kurtosis[0] == pytest.approx(1, abs=1e-6)
    rng = np.random.default_rng(1)
    for s in (0.5, 1.5, 3.0):
        square = (np.clip(rng.normal(0, 1, (2, 400_000)), -s, s) ** 2).sum(axis=0)
        assert np.interp(square.mean() / 2 / s**2, powers, kurtosis) == pytest.approx(
            (square**2).mean() / square.mean() ** 2 - 1, abs=0.005
        )


@pytest.mark.parametrize("n_pols", [1, 2])
def test_noise_and_brighter_noise_have_the_kurtosis_of_noise(n_pols):
    gain = np.ones((TIMES, CHANNELS))
    gain[100:140] = 2.5
    gain[:, 40] = 3
    power, fourth = cells(7 / 3, gain, n_pols)
    before = (SPECTRA + 1) / (SPECTRA - 1) * (fourth / power**2 - 1)
    _, kurtosis = corrected_kurtosis(power, fourth)
    for where in (np.s_[:100], np.s_[100:140], np.s_[:, 40]):
        assert abs(before[where].mean() - 1) > 0.03
        # The level of the noise relative to the range is known to a few per cent, and so is the correction.
        assert kurtosis[where].mean() == pytest.approx(1, abs=0.05)
        assert kurtosis[where].std() < kurtosis_sigma(SPECTRA)


def test_the_correction_does_not_depend_on_threads():
    power, fourth = cells(7 / 3, n_pols=2)
    np.testing.assert_array_equal(corrected_kurtosis(power, fourth)[0], corrected_kurtosis(power, fourth, 3)[0])


def test_unclipped_voltages_are_not_changed_and_kurtosis_of_one_bit_is_not_used():
    power, fourth = cells(1.5)
    assert corrected_kurtosis(power, fourth)[0] is fourth
    power, fourth = cells(30.0)
    assert corrected_kurtosis(power, fourth)[0].shape == (TIMES, CHANNELS, 0)


@pytest.mark.parametrize("gain", [1.0, 3.0])
def test_noise_and_lines_of_four_bits_are_hardly_flagged_and_tones_are(gain):
    level = np.ones(CHANNELS)
    level[30:35] = gain
    power, fourth = cells(7 / 3, level)
    given = {"accumulated": SPECTRA, "sample_time": 0.25e-3, "frequencies": FREQUENCIES}
    flags = edgefilter.flag(power, fourth, **given) & ~edgefilter.FLAGS["tagged"]
    assert (flags != 0).mean() < 1e-3
    # A tone as strong as the noise in a few cells: of noise of twice the power, kurtosis would be 0.77 (0.64 here).
    power[200:240, 60] *= 1.92
    fourth[200:240, 60] = 1.64 * power[200:240, 60] ** 2
    flags = edgefilter.flag(power, fourth, **given)
    assert (flags[200:240, 60] & edgefilter.FLAGS["kurtosis"] > 0).all()
