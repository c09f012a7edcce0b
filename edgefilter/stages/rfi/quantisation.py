"""Voltages of few bits: correct the kurtosis for clipping.

Rounding to whole steps does not change the kurtosis, as long as the rms of the noise is a step or more. Clipping lowers
it, the more the brighter the noise is: with 4 bits and an rms of a third of the range to 0.963, and to 0.5 in a pulse
of four times that power, which then looks like a tone. The kurtosis of the noise shows how near the noise is to the
range, and the power of a cell how much brighter the cell is; from both follows the kurtosis that noise has in this
cell. The scatter of the estimator falls in proportion, so that the ratio of measured to expected kurtosis is as good as
the kurtosis of voltages without clipping.
"""

from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from edgefilter.compute.threads import ThreadBackend
from edgefilter.stages.rfi.background import Background
from edgefilter.stages.rfi.block import BlockView
from edgefilter.stages.rfi.channel_health import running_median
from edgefilter.stages.rfi.thresholds import kurtosis_sigma
from edgefilter_kernels.rfi.quantisation import correct_clipping

_MAX_SAMPLED_CELLS = 1 << 17  # of a block, from which the kurtosis of noise is measured
_ROUNDING_LOSS = 0.08  # additional loss of kurtosis by the steps of 4 bits, as a fraction of the loss by clipping
_PROBE_CHANNELS = 128  # channels of the quick test for clipping
_SMOOTHING_CHANNELS = 32  # channels to either side with the same range
_MIN_CELLS = 16  # fewest noise cells of a channel with a known kurtosis
_MAX_NOISE_SIGMA = 1.0  # distance from the background within which a cell is noise
# Loss of kurtosis, in standard deviations of a cell, from which on noise is clipped; interference in 12 % of the cells
# makes 0.01.
_MIN_KURTOSIS_BIAS = 0.03
_CORRECTION_UNCERTAINTY = (
    0.1  # fraction of the loss by which the mean over a block, where a carrier shows, may be wrong
)
_MIN_NOISE_KURTOSIS = 0.5  # kurtosis of noise below which kurtosis is not used: 2 bits have 0.55, 1 bit has 0
_MIN_EXPECTED_KURTOSIS = 0.2  # beyond it, noise and tone are both at the end of the range at all times
_TABLE_STEPS = 4096  # steps of power up to the range, in the table of the expected kurtosis


@cache
def clip_curve(spectra: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""Return power and kurtosis of clipped complex Gaussian voltages.

    Moments of a Gaussian clipped at s standard deviations are incomplete gamma functions, and those of
    :math:`y = |v|^2` follow from those of two independent parts. The mean of the estimator of Nita & Gary (2010,
    MNRAS 406, L60) is the kurtosis :math:`\kappa = \langle y^2\rangle / \langle y\rangle^2 - 1` if voltages are
    Gaussian; otherwise they differ by a term in 1/M, included here to first order.

    Parameters
    ----------
    spectra
        Voltages in a cell, M, at least 2.

    Returns
    -------
    tuple
        float64: ascending power, 1 for both parts at the end of the range, and the falling mean kurtosis.
    """
    s = np.geomspace(8.0, 0.05, 400)
    inside, density = 2 * ndtr(s) - 1, 2 * np.exp(-(s**2) / 2) / np.sqrt(2 * np.pi)
    second = inside - density * s + (1 - inside) * s**2
    fourth = 3 * inside - density * (s**3 + 3 * s) + (1 - inside) * s**4
    sixth = 15 * inside - density * (s**5 + 5 * s**3 + 15 * s) + (1 - inside) * s**6
    square = 2 * fourth + 2 * second**2
    kurtosis = square / (2 * second) ** 2 - 1
    covariance = (2 * sixth + 6 * fourth * second) / (square * 2 * second) - 1
    bias = (1 + kurtosis) * (3 * kurtosis - 2 * covariance) / spectra
    return second / s**2, (spectra + 1) / (spectra - 1) * (kurtosis + bias)


def is_clipped(view: BlockView, background: Background, backend: ThreadBackend) -> bool:
    """Test in a few channels whether the kurtosis of noise is lower than without clipping.

    Parameters
    ----------
    view
        The block.
    background
        Of its channels.
    backend
        Threads, or the GPU that the arrays are on.

    Returns
    -------
    bool
        False also without ``moment4``.
    """
    if not view.moment4.shape[2]:
        return False
    probes = slice(None, None, max(len(background.centre) // _PROBE_CHANNELS, 1))
    return _finite_median(_noise_kurtosis(view, background, probes, backend)) <= _clipping_threshold(view)


def undo_clipping(
    view: BlockView, background: Background, backend: ThreadBackend
) -> tuple[BlockView, NDArray[np.float64]]:
    """Correct the fourth moments of a block for clipping.

    Parameters
    ----------
    view
        The block, with ``moment4``.
    background
        Of its channels.
    backend
        Threads over times, or the GPU that the arrays are on.

    Returns
    -------
    tuple
        The corrected block, the same if noise shows no clipping, with ``moment4`` of no polarisation if the kurtosis
        cannot be used; and float64 ``[channel]``: by how much the corrected kurtosis of a channel may be too low.
    """
    centre, n_pols = background.centre, view.moment4.shape[2]
    noise = _noise_kurtosis(view, background, slice(None), backend)
    known, middle = np.isfinite(noise), _finite_median(noise)
    if middle > _clipping_threshold(view):
        return view, np.zeros(len(centre))
    if middle < _MIN_NOISE_KURTOSIS:
        return replace(view, moment4=backend.empty((*view.flags.shape, 0), np.float32)), np.zeros(len(centre))
    powers, kurtosis = clip_curve(view.spectra)
    expected = np.maximum(kurtosis * (1 - _ROUNDING_LOSS * (1 - kurtosis)), _MIN_EXPECTED_KURTOSIS)
    range_scale = np.zeros(len(centre))
    level = running_median(centre[known], _SMOOTHING_CHANNELS)
    range_scale[known] = (
        np.interp(running_median(noise[known], _SMOOTHING_CHANNELS), kurtosis[::-1], powers[::-1]) / level * n_pols
    )
    table = 1 / np.interp((np.arange(_TABLE_STEPS) + 0.5) / _TABLE_STEPS, powers, expected)
    kurtosis_uncertainty = _CORRECTION_UNCERTAINTY * (1 - np.interp(range_scale * centre / n_pols, powers, expected))
    found, kernel = backend.empty(view.moment4.shape, np.float32), backend.kernel(correct_clipping)
    tables = (
        backend.to_device((_TABLE_STEPS * range_scale).astype(np.float32)),
        backend.to_device(table.astype(np.float32)),
    )

    def run(start: int, stop: int) -> None:
        kernel(view.power, view.moment4, *tables, found, start, stop)

    backend.parallel_for(len(found), run, ranges_per_thread=4)
    return replace(view, moment4=found), kurtosis_uncertainty


def _clipping_threshold(view: BlockView) -> float:
    """Return the kurtosis of noise below which voltages are clipped."""
    return 1 - _MIN_KURTOSIS_BIAS * kurtosis_sigma(view.spectra)


def _finite_median(noise: NDArray[np.float64]) -> float:
    known = noise[np.isfinite(noise)]
    return float(np.median(known)) if len(known) else 1.0


def _noise_kurtosis(
    view: BlockView, background: Background, channels: slice, backend: ThreadBackend
) -> NDArray[np.float64]:
    """Return the mean kurtosis of the noise cells of some channels; NaN where there are too few."""
    rows, n_pols = slice(None, None, max(view.flags.size // _MAX_SAMPLED_CELLS, 1)), view.moment4.shape[2]
    cells = view.power[rows, channels, :n_pols], view.moment4[rows, channels], view.flags[rows, channels]
    power, moment4, flags = (np.asarray(backend.to_host(array)) for array in cells)
    centre, sigma = background.centre[channels], background.sigma[channels]
    several = view.accumulated[rows] > 1
    good = (flags == 0) & several[:, None] & (abs(power.sum(axis=2) - centre) < _MAX_NOISE_SIGMA * sigma)
    number = np.where(several, view.accumulated[rows], 2)[:, None]
    square = np.maximum(power.astype(np.float64) ** 2, 1e-30)
    kurtosis = (number + 1) / (number - 1) * (moment4 / square - 1).mean(axis=2)
    count = np.count_nonzero(good, axis=0)
    mean = np.sum(kurtosis, axis=0, where=good) / np.maximum(count, 1)
    return np.where(count >= _MIN_CELLS, mean, np.nan)
