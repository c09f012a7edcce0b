"""Channels that behave unlike the others: dead, restless, or carrying a tone that never goes off."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from edgefilter.core.cells import Flag
from edgefilter.core.config import FlagSettings
from edgefilter.stages.rfi.thresholds import kurtosis_sigma
from edgefilter_kernels.rfi.cell_statistics import GROUP_TIMES

_QUARTILES_PER_SIGMA = 1.349
_SIGMA_PER_MAD = 1.4826
MIN_CHANNELS = 16
"""Fewer say nothing about each other."""

_MIN_CELLS = 64  # fewer say nothing about a channel
_NEIGHBOUR_CHANNELS = 32  # channels to either side that a channel is compared with
_TONE_NEIGHBOUR_CHANNELS = 8  # channels to either side from whose level a tone's channel stands out
_MIN_TONE_EXCESS = 0.05  # excess over them, of the level, that makes a tone likelier
_MIN_LOG_SCATTER_EXCESS = float(
    np.log(1.4)
)  # scatter of a channel that is worth less than half as much as its neighbours
_MIN_LOG_REDNESS_EXCESS = float(np.log(2.0))  # the same of sums over 16 cells, which is what wider pulses see
_LIKELY_TONE_SIGMA = 3.0  # sigma that kurtosis must then be low by
_PEAK_DISTANCE_CHANNELS = (
    2  # channels to either side at which a tone's excess is gone, however it lies between two channels
)
_MAX_PEAK_WING = 0.25  # of the excess, that may be left there: of a line three channels wide at half maximum, 0.29 is
_PEAK_SIGMA = 2.0  # sigma that kurtosis must be low by in a channel that stands out like that
_MIN_PEAK_KURTOSIS_FRACTION = 0.5  # of what the kurtosis of a tone of that excess is low by, that it must be low by


@dataclass(frozen=True, slots=True)
class ResidualStats:
    """What is left of each channel when all that stood out is taken away; all are float64 ``[channel]``.

    Parameters
    ----------
    cells
        Cells that are left.
    level
        Logarithm of the background.
    scatter
        Logarithm of standard deviation over mean.
    redness
        Logarithm of the standard deviation of sums over 16 cells, over that which independent cells would have.
    kurtosis_deviation
        Mean deviation of the kurtosis from that of noise, in standard deviations of a cell; 0 if not known.
    kurtosis_cells
        Cells that ``kurtosis_deviation`` is the mean of; 0 if not known.
    kurtosis_sigma_per_cell
        Standard deviation of the kurtosis of a cell.
    voltages_known
        Whether it is known how many voltages a cell is made of.
    """

    cells: NDArray[np.float64]
    level: NDArray[np.float64]
    scatter: NDArray[np.float64]
    redness: NDArray[np.float64]
    kurtosis_deviation: NDArray[np.float64]
    kurtosis_cells: NDArray[np.float64]
    kurtosis_sigma_per_cell: float
    voltages_known: bool

    @classmethod
    def from_moments(
        cls, moments: NDArray[np.float64], centre: NDArray[np.float64], sigma: NDArray[np.float64], spectra: int
    ) -> "ResidualStats":
        """Derive it from the background and from moments.

        These are those of :func:`edgefilter_kernels.rfi.cell_statistics.cell_statistics`.
        """
        cells, total, square, groups = moments[0]
        live = (cells >= _MIN_CELLS) & (sigma > 0)
        count = np.where(live, cells, 1.0)
        mean = total / count
        variance = np.where(live, np.maximum(square / count - mean**2, 1e-9), 1.0)
        slow = np.where(live, np.maximum((groups - mean**2 * GROUP_TIMES * count) / count, 1e-9), 1.0)
        # Without a mean above zero there is no ratio to it; then the scatter itself is compared.
        base = np.where(live & (centre > 0), centre, 1.0)
        # Interference that is on for a while lifts the background above what is left, which then seems to scatter less.
        found = np.where(live & (centre > 0), centre + mean * sigma, 1.0)
        found = np.where(found > 0, found, base)
        return cls(
            np.where(live, cells, 0.0),
            np.log(base),
            0.5 * np.log(variance) + np.log(np.where(live, sigma, 1.0) / found),
            0.5 * np.log(slow / variance),
            moments[1, 1] / np.maximum(moments[1, 0], 1),
            moments[1, 0],
            kurtosis_sigma(max(spectra, 2)),
            spectra > 0,
        )


def flag_channels(stats: ResidualStats, settings: FlagSettings, threshold_scale: float = 1.0) -> NDArray[np.uint16]:
    """Find whole channels to flag.

    - CARRIER: a tone's kurtosis, or, without kurtosis, its scatter, is lower than that of noise. Fainter ones than
      ``settings.tone_db`` are TAGGED.
    - CHANNEL: scatter or redness is higher than in the neighbouring channels, by IQRM.

    What is compared with a threshold is taken ``threshold_scale`` times; see
    :mod:`edgefilter.stages.rfi.gpu_tolerance`.

    Returns
    -------
    ndarray
        uint16 ``[channel]`` of :class:`~edgefilter.core.cells.Flag`.
    """
    flags = np.zeros(len(stats.cells), np.uint16)
    live = stats.cells >= _MIN_CELLS
    if np.count_nonzero(live) < MIN_CHANNELS:
        return flags
    error = np.sqrt(0.5 / np.maximum(stats.cells, 1))
    if settings.channel_sigma:
        sigma = settings.channel_sigma / threshold_scale
        noisy = iqrm(stats.scatter, live, _NEIGHBOUR_CHANNELS, sigma, error)
        noisy &= threshold_scale * (stats.scatter - _median(stats.scatter, live)) > _MIN_LOG_SCATTER_EXCESS
        slow = iqrm(stats.redness, live, _NEIGHBOUR_CHANNELS, sigma, error * np.sqrt(GROUP_TIMES))
        slow &= threshold_scale * (stats.redness - _median(stats.redness, live)) > _MIN_LOG_REDNESS_EXCESS
        flags[noisy | slow] |= np.uint16(Flag.CHANNEL)
    if settings.carrier_sigma:
        tone, faint = _find_tones(stats, live, settings, error, threshold_scale)
        flags[tone] |= np.uint16(Flag.CARRIER)
        flags[faint & (flags == 0)] = np.uint16(Flag.TAGGED)
    return flags


def _median(values: NDArray[np.float64], live: NDArray[np.bool_]) -> float:
    return float(np.median(values[live]))


def _find_tones(
    stats: ResidualStats,
    live: NDArray[np.bool_],
    settings: FlagSettings,
    error: NDArray[np.float64],
    threshold_scale: float,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    sigma, likely_sigma = (
        settings.carrier_sigma / threshold_scale,
        min(_LIKELY_TONE_SIGMA, settings.carrier_sigma) / threshold_scale,
    )
    index = np.flatnonzero(live)
    excess = np.zeros(len(live))
    excess[index] = stats.level[index] - running_median(stats.level[index], _TONE_NEIGHBOUR_CHANNELS)
    has_excess, least = threshold_scale * excess > _MIN_TONE_EXCESS, 10 ** (settings.tone_db / 10) / threshold_scale
    if not stats.kurtosis_cells.any():
        # The scatter of a steady tone is low. Only where the number of voltages is known, this tells it from any other
        # reason for which channels may differ; and as only neighbours say how low, it takes a sigma more.
        low = low_among_neighbours(stats.scatter, live, _NEIGHBOUR_CHANNELS, sigma + 1 / threshold_scale, error)
        if not stats.voltages_known:
            return np.zeros_like(low), low
        likely = has_excess & low_among_neighbours(stats.scatter, live, _NEIGHBOUR_CHANNELS, likely_sigma, error)
        found = low | (likely & (excess >= np.log1p(least)))
        return found, likely & ~found
    has_kurtosis = live & (stats.kurtosis_cells >= _MIN_CELLS)
    error = 1 / np.sqrt(np.maximum(stats.kurtosis_cells, 1))
    clear = low_among_neighbours(stats.kurtosis_deviation, has_kurtosis, _NEIGHBOUR_CHANNELS, sigma, error)
    likely = low_among_neighbours(stats.kurtosis_deviation, has_kurtosis, _NEIGHBOUR_CHANNELS, likely_sigma, error)
    # A tone of r times the noise lowers the kurtosis by (r / (1 + r))² (Nita & Gary 2010).
    root = np.sqrt(np.clip(-stats.kurtosis_deviation * stats.kurtosis_sigma_per_cell, 0.0, 0.999))
    strong = root / (1 - root) >= least
    found = clear | (likely & has_excess)
    peak = _find_tone_peaks(stats, excess, has_kurtosis, threshold_scale)
    return (found & strong) | (peak & (np.expm1(excess) >= least)), found | likely | peak


def _find_tone_peaks(
    stats: ResidualStats, excess: NDArray[np.float64], has_kurtosis: NDArray[np.bool_], threshold_scale: float
) -> NDArray[np.bool_]:
    """Find channels that stand out by themselves, with a kurtosis that is nearer to a tone's than to a line's."""
    padded = np.pad(excess, _PEAK_DISTANCE_CHANNELS)
    isolated = (
        np.maximum(padded[: -2 * _PEAK_DISTANCE_CHANNELS], padded[2 * _PEAK_DISTANCE_CHANNELS :])
        < _MAX_PEAK_WING * excess
    )
    gain = np.expm1(np.maximum(excess, 0.0))
    expected = _MIN_PEAK_KURTOSIS_FRACTION * (gain / (1 + gain)) ** 2 / stats.kurtosis_sigma_per_cell
    low = np.maximum(_PEAK_SIGMA / np.sqrt(np.maximum(stats.kurtosis_cells, 1)), expected)
    return np.asarray(
        has_kurtosis
        & isolated
        & (threshold_scale * excess > _MIN_TONE_EXCESS)
        & (-threshold_scale * stats.kurtosis_deviation > low)
    )


def iqrm(
    values: NDArray[np.float64], live: NDArray[np.bool_], radius: int, sigma: float, error: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Find channels whose value is high among their neighbours: inter-quartile range mitigation.

    Morello, Rajwade & Stappers (2022, MNRAS 510, 1393): a channel gets a vote from each neighbour that it exceeds by
    an outlying difference, and is bad if one of those who vote against it has fewer votes itself.

    Parameters
    ----------
    values
        float64 ``[channel]``, finite where live.
    live
        bool ``[channel]``: channels to judge and to judge by.
    radius
        Largest distance of neighbours.
    sigma
        Threshold on differences, in robust standard deviations.
    error
        float64 ``[channel]``: standard deviation that noise alone gives the values; differences are never taken to
        scatter less.

    Returns
    -------
    ndarray
        bool ``[channel]``; never outside ``live``.
    """
    count = len(values)
    index = np.flatnonzero(live)
    bad = np.zeros(count, np.bool_)
    if len(index) < MIN_CHANNELS:
        return bad
    here, noise = values[index], error[index]
    lags = np.array(_lags(min(radius, len(index) // 2)))
    # Each lag is a row; its last few channels have no partner.
    first = np.arange(len(index))
    second = np.minimum(first + lags[:, None], len(index) - 1)
    paired = first < len(index) - lags[:, None]
    difference = here[second] - here
    low, middle, high = _quartiles(np.sort(np.where(paired, difference, np.inf), axis=1), len(index) - lags)
    least = sigma * np.maximum((high - low) / _QUARTILES_PER_SIGMA, np.hypot(noise[second], noise))
    above, below = (
        np.nonzero(paired & (difference - middle > least)),
        np.nonzero(paired & (middle - difference > least)),
    )
    found, voter = np.concatenate([second[above], below[1]]), np.concatenate([above[1], second[below]])
    votes = np.bincount(found, minlength=len(index))
    bad[index[found[votes[voter] < votes[found]]]] = True
    return bad


def _quartiles(ordered: NDArray[np.float64], count: NDArray[np.int64]) -> NDArray[np.float64]:
    """Quartiles of the first ``count`` values in each ordered row, as :func:`numpy.percentile` has them."""
    position = np.array([[0.25], [0.5], [0.75]]) * (count - 1)
    low = position.astype(np.int64)
    row = np.arange(len(ordered))
    first, next_ = ordered[row, low], ordered[row, np.minimum(low + 1, count - 1)]
    return (first + (next_ - first) * (position - low))[:, :, None]


def _lags(radius: int) -> list[int]:
    """Lags in steps that grow by half."""
    lags, lag = [], 1
    while lag <= radius:
        lags.append(lag)
        lag = max(lag + 1, 3 * lag // 2)
    return lags


def low_among_neighbours(
    values: NDArray[np.float64], live: NDArray[np.bool_], half_width: int, sigma: float, error: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Find channels whose value lies below the median of ``half_width`` live channels to either side.

    Parameters
    ----------
    values, live, error
        As for :func:`iqrm`.
    half_width
        Neighbours.
    sigma
        Threshold, in ``error`` or the robust scatter of all, whichever is larger.

    Returns
    -------
    ndarray
        bool ``[channel]``; never outside ``live``.
    """
    found = np.zeros(len(values), np.bool_)
    index = np.flatnonzero(live)
    if len(index) < MIN_CHANNELS:
        return found
    residual = values[index] - running_median(values[index], half_width)
    scatter = _SIGMA_PER_MAD * float(np.median(np.abs(residual)))
    found[index] = residual < -sigma * np.maximum(error[index], scatter)
    return found


def running_median(values: NDArray[np.float64], half_width: int) -> NDArray[np.float64]:
    """Return the running median over ``half_width`` values to either side."""
    return np.asarray(median_filter(values, min(2 * half_width + 1, 2 * len(values) - 1), mode="reflect"), np.float64)
