"""Residual statistics of channels, and the channels to flag: noisy ones, unstable ones, and continuous carriers."""

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
"""Fewest live channels that are compared with each other."""

_MIN_CELLS = 64  # fewest residual cells of a channel with known statistics
_NEIGHBOUR_CHANNELS = 32  # channels to either side with which a channel is compared
_TONE_NEIGHBOUR_CHANNELS = 8  # the same for the excess of a tone's channel over the level
_MIN_TONE_EXCESS = 0.05  # relative excess over the level from which on a tone is likely
_MIN_LOG_SCATTER_EXCESS = float(np.log(1.4))  # from which on a channel has less than half the weight of its neighbours
_MIN_LOG_REDNESS_EXCESS = float(np.log(2.0))  # the same for sums over 16 cells, which wide pulses depend on
_LIKELY_TONE_SIGMA = 3.0  # deficit of the kurtosis of a likely tone
_PEAK_DISTANCE_CHANNELS = 2  # to either side, where a tone has no excess, wherever it lies between two channels
_MAX_PEAK_WING = 0.25  # largest fraction of the excess there; a line with a full width of three channels has 0.29
_PEAK_SIGMA = 2.0  # deficit of the kurtosis of an isolated peak
_MIN_PEAK_KURTOSIS_FRACTION = 0.5  # the same as a fraction of the deficit of a tone with that excess


@dataclass(frozen=True, slots=True)
class ResidualStats:
    """Statistics of each channel over the cells outside of all runs; arrays are float64 ``[channel]``.

    Parameters
    ----------
    cells
        Cells outside of all runs; 0 where the statistics are not known.
    level
        Logarithm of the background.
    scatter
        Logarithm of standard deviation over mean.
    redness
        Logarithm of the standard deviation of sums over 16 cells, relative to that of independent cells.
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
        """Derive the statistics from the background and from moments.

        Parameters
        ----------
        moments
            float64 ``[2, 4, channel]`` of :class:`edgefilter_kernels.rfi.cell_statistics.CellStatistics`.
        centre, sigma
            float64 ``[channel]``: background.
        spectra
            Voltages of a polarisation in a cell, 0 if not known.

        Returns
        -------
        ResidualStats
            The statistics.
        """
        cells, total, square, groups = moments[0]
        live = (cells >= _MIN_CELLS) & (sigma > 0)
        count = np.where(live, cells, 1.0)
        mean = total / count
        variance = np.where(live, np.maximum(square / count - mean**2, 1e-9), 1.0)
        slow = np.where(live, np.maximum((groups - mean**2 * GROUP_TIMES * count) / count, 1e-9), 1.0)
        # Where the mean is not above zero, the scatter itself is compared instead of its ratio to the mean.
        base = np.where(live & (centre > 0), centre, 1.0)
        # Long interference lifts the background above the mean of the residual cells, whose scatter then seems low.
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

    Parameters
    ----------
    stats
        Residual statistics.
    settings
        Thresholds.
    threshold_scale
        Factor on values that are compared with thresholds; see :mod:`edgefilter.stages.rfi.gpu_tolerance`.

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
    """Find channels with a continuous tone, and those with a faint one."""
    sigma = settings.carrier_sigma / threshold_scale
    likely_sigma = min(_LIKELY_TONE_SIGMA, settings.carrier_sigma) / threshold_scale
    index = np.flatnonzero(live)
    excess = np.zeros(len(live))
    excess[index] = stats.level[index] - running_median(stats.level[index], _TONE_NEIGHBOUR_CHANNELS)
    has_excess, least = threshold_scale * excess > _MIN_TONE_EXCESS, 10 ** (settings.tone_db / 10) / threshold_scale
    if not stats.kurtosis_cells.any():
        # The scatter of a steady tone is low. Only where the number of voltages is known does this exclude other causes
        # of a difference between channels. The reference is the neighbours alone, so that a sigma more is required.
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
    """Find isolated peaks of the level whose kurtosis is nearer to that of a tone than to that of a spectral line."""
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
    """Find channels whose value is high among their neighbours, by inter-quartile range mitigation (IQRM).

    Source: Morello, Rajwade & Stappers (2022, MNRAS 510, 1393). A channel gets a vote from each neighbour that it
    exceeds by an outlying difference, and is bad if a channel that votes against it has fewer votes itself.

    Parameters
    ----------
    values
        float64 ``[channel]``, finite where live.
    live
        bool ``[channel]``: channels to compare with each other.
    radius
        Largest distance of neighbours.
    sigma
        Threshold on differences, in robust standard deviations.
    error
        float64 ``[channel]``: standard deviation of the values by noise alone, the smallest scatter that is assumed.

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
    # Each row is a lag, at which the last channels have no partner.
    first = np.arange(len(index))
    second = np.minimum(first + lags[:, None], len(index) - 1)
    paired = first < len(index) - lags[:, None]
    difference = here[second] - here
    low, middle, high = _quartiles(np.sort(np.where(paired, difference, np.inf), axis=1), len(index) - lags)
    least = sigma * np.maximum((high - low) / _QUARTILES_PER_SIGMA, np.hypot(noise[second], noise))
    above = np.nonzero(paired & (difference - middle > least))
    below = np.nonzero(paired & (middle - difference > least))
    found, voter = np.concatenate([second[above], below[1]]), np.concatenate([above[1], second[below]])
    votes = np.bincount(found, minlength=len(index))
    bad[index[found[votes[voter] < votes[found]]]] = True
    return bad


def _quartiles(ordered: NDArray[np.float64], count: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return quartiles of the first ``count`` values of each ordered row, as :func:`numpy.percentile` defines them."""
    position = np.array([[0.25], [0.5], [0.75]]) * (count - 1)
    low = position.astype(np.int64)
    row = np.arange(len(ordered))
    first, next_ = ordered[row, low], ordered[row, np.minimum(low + 1, count - 1)]
    return (first + (next_ - first) * (position - low))[:, :, None]


def _lags(radius: int) -> list[int]:
    """Return lags up to a radius, each about half as large again as the one before."""
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
        Neighbours to either side.
    sigma
        Threshold, in units of ``error`` or of the robust scatter of all channels, whichever is larger.

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
    """Return the running median over ``half_width`` values to either side.

    Parameters
    ----------
    values
        float64 ``[value]``.
    half_width
        Values to either side.

    Returns
    -------
    ndarray
        float64 ``[value]``; the ends are reflected.
    """
    return np.asarray(median_filter(values, min(2 * half_width + 1, 2 * len(values) - 1), mode="reflect"), np.float64)
