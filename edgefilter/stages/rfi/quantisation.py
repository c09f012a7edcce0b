"""Voltages of few bits: what clipping does to the kurtosis of noise, and how it is undone.

Rounding to whole steps leaves the kurtosis as it is, as long as the noise is a step or more. Clipping lowers it, the
more the brighter the noise is: with 4 bits and an rms of a third of the range to 0.963, and to 0.5 in a pulse of four
times that power, which then looks like a tone. How much brighter than noise a cell is, is known, and noise itself tells
how near it is to the range, so what kurtosis each cell should have is known too. Scatter falls with it, so that the
ratio of the two is as good as the kurtosis of voltages that were not clipped.
"""

from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from edgefilter.compute.threads import ThreadBackend
from edgefilter.stages.rfi.background import Background, BlockView
from edgefilter.stages.rfi.channel_health import running_median
from edgefilter.stages.rfi.thresholds import kurtosis_sigma
from edgefilter_kernels.rfi.quantisation import correct_clipping

_MAX_SAMPLED_CELLS = 1 << 17  # of a block that tell the kurtosis of noise
_ROUNDING_LOSS = 0.08  # of what clipping takes of the kurtosis, that 4 bits take in addition by their steps
_PROBE_CHANNELS = 128  # channels that tell at a glance whether anything is clipped
_SMOOTHING_CHANNELS = 32  # channels to either side that have the same range
_MIN_CELLS = 16  # cells of a channel that say something about it
_MAX_NOISE_SIGMA = 1.0  # sigma about the background within which a cell is noise: faint interference changes little
_MIN_KURTOSIS_BIAS = (
    0.03  # of a cell's standard deviation, that kurtosis must be low by: interference in 12 % of cells does 0.01
)
_CORRECTION_UNCERTAINTY = (
    0.1  # of what clipping takes, by which it may be wrong: seen in mean over a block, where a carrier is
)
_MIN_NOISE_KURTOSIS = 0.5  # kurtosis of noise below which it says nothing: that of 2 bits is 0.55, that of 1 bit is 0
_MIN_EXPECTED_KURTOSIS = (
    0.2  # of what is expected; from there on noise and tone are both at the range's end at all times
)
_TABLE_STEPS = 4096  # of power up to the range, in which what is expected is looked up


@cache
def clip_curve(spectra: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""Return power and kurtosis of clipped complex Gaussian voltages.

    Moments of a Gaussian clipped at s standard deviations are incomplete gamma functions, and those of
    :math:`y = |v|^2` follow from those of two independent parts. The mean of the estimator of Nita & Gary (2010,
    MNRAS 406, L60) is the kurtosis :math:`\kappa = \langle y^2\rangle / \langle y\rangle^2 - 1` if voltages are
    Gaussian; else they differ by a term in 1/M, which is here to first order.

    Parameters
    ----------
    spectra
        Voltages in a cell, M, at least 2.

    Returns
    -------
    tuple
        float64: ascending power, of which 1 is that of both parts at the range's end, and the falling mean kurtosis.
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
    """Say at a glance, by a few channels, whether noise has a lower kurtosis than noise can have."""
    if not view.moment4.shape[2]:
        return False
    channels = len(background.centre)
    return _finite_median(
        _noise_kurtosis(view, background, slice(None, None, max(channels // _PROBE_CHANNELS, 1)), backend)
    ) <= _clipping_threshold(view)


def undo_clipping(
    view: BlockView, background: Background, backend: ThreadBackend
) -> tuple[BlockView, NDArray[np.float64]]:
    """Return a block as it would be of voltages that were not clipped; itself, if noise shows no clipping.

    Parameters
    ----------
    view
        With ``moment4``.
    background
        Of its intensity.
    backend
        Threads over times, or the card that the arrays are on.

    Returns
    -------
    tuple
        The block, with ``moment4`` of no hand if kurtosis says nothing; and float64 ``[channel]``: by how much too low
        the kurtosis of a channel may then be, since it is not known better what clipping does.
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
    """Kurtosis of noise below which it is clipped."""
    return 1 - _MIN_KURTOSIS_BIAS * kurtosis_sigma(view.spectra)


def _finite_median(noise: NDArray[np.float64]) -> float:
    known = noise[np.isfinite(noise)]
    return float(np.median(known)) if len(known) else 1.0


def _noise_kurtosis(
    view: BlockView, background: Background, channels: slice, backend: ThreadBackend
) -> NDArray[np.float64]:
    """Mean kurtosis of the cells of some channels that are as bright as noise; nan where there are too few."""
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
