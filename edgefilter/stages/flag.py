"""Interference: each flagger sets a bit of its own, none takes what is lost, none keeps memory from block to block.

In this order: MASK, KURTOSIS, CHANNEL, TIME, CELL. What one has flagged does not enter the statistics of the next.
"""

from fractions import Fraction
from math import comb, factorial, prod

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import cumulative_trapezoid
from scipy.ndimage import median_filter
from scipy.optimize import brentq
from scipy.stats import gamma, norm

from edgefilter.cells import Cells, Flag
from edgefilter.plan import Plan
from edgefilter.workers import Workers
from edgefilter_kernels.flag import GROUP, channel_statistics, kurtosis, outlying_cells, time_statistics

_SIGMA_PER_MAD = 1.4826
_LEAST_TIMES = 16  # fewer say nothing about a channel
_LEAST_CHANNELS = 16  # fewer say nothing about a neighbourhood
_LEAST_BAND = 32  # channels that must be left to speak of the whole band
_LEAST_SPECTRA = 16  # fewer make the kurtosis estimator too wide to tell anything
_NARROW = 8  # channels to each side: what stands out of them is narrow-band interference
_EXCESS = {"level": np.log(1.5), "scatter": np.log(1.1)}  # least excess over a wide neighbourhood, which may be curved
_DIP = 0.5  # sigma of a single channel by which the whole band must fall in a dropout


class FlagStage:
    """Flag the cells of a block, from nothing but these cells. History and lookahead are none.

    Parameters
    ----------
    plan
        The layout and the settings (``flag``).
    workers
        Threads over channels and times.
    """

    def __init__(self, plan: Plan, workers: Workers) -> None:
        self._plan = plan
        self._settings = plan.settings.flag
        self._workers = workers
        self._kurtosis_limits: dict[int, tuple[float, float]] = {}
        self._cell_limits: dict[tuple[int, int], tuple[float, float]] = {}
        self._masked = np.zeros(plan.channels, np.bool_)
        for low, high in self._settings.mask:
            self._masked |= (plan.frequencies_mhz >= low) & (plan.frequencies_mhz <= high)

    def reduce(self, cells: Cells) -> None:
        """Set bits of ``cells.flags`` in place.

        Parameters
        ----------
        cells
            One block. LOST cells stay LOST and nothing else.

        Raises
        ------
        ValueError
            If the cells are not those of the plan.
        """
        if cells.power.shape[1] != self._plan.channels:
            raise ValueError(f"cells {cells.power.shape} have not the {self._plan.channels} channels of the plan")
        _mark(cells.flags, (slice(None), self._masked), Flag.MASK)
        if self._settings.kurtosis_sigma and cells.moment4 is not None:
            self._flag_kurtosis(cells, cells.moment4)
        if not (self._settings.channel_sigma or self._settings.time_sigma or self._settings.cell_sigma):
            return
        statistics = self._statistics(cells)
        if self._settings.channel_sigma:
            bad = self._bad_channels(statistics)
            _mark(cells.flags, (slice(None), bad), Flag.CHANNEL)
        if self._settings.time_sigma:
            bad = self._bad_times(cells, statistics)
            _mark(cells.flags, (bad, slice(None)), Flag.TIME)
            if bad.any():
                statistics = self._statistics(cells)
        if self._settings.cell_sigma:
            self._flag_cells(cells, statistics)

    def _flag_kurtosis(self, cells: Cells, moment4: NDArray[np.float32]) -> None:
        tail = float(norm.sf(self._settings.kurtosis_sigma))
        low, high, gain = np.zeros((3, len(cells.power)))
        for spectra in np.unique(cells.accumulated[cells.accumulated >= _LEAST_SPECTRA]).tolist():
            if spectra not in self._kurtosis_limits:
                self._kurtosis_limits[spectra] = kurtosis_limits(spectra, tail)
            here = cells.accumulated == spectra
            low[here], high[here] = self._kurtosis_limits[spectra]
            gain[here] = (spectra + 1) / (spectra - 1)

        def run(start: int, stop: int) -> None:
            kurtosis(cells.power, moment4, low, high, gain, Flag.KURTOSIS.value, cells.flags, start, stop)

        self._workers.over(len(cells.power), run)

    def _statistics(self, cells: Cells) -> NDArray[np.float64]:
        statistics = np.zeros((6, cells.power.shape[1]))

        def run(start: int, stop: int) -> None:
            channel_statistics(cells.power, _hands(cells), cells.flags, statistics, start, stop)

        self._workers.over(cells.power.shape[1], run)
        return statistics

    def _bad_channels(self, statistics: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Find channels that are dead or stand out of their neighbours in level, scatter or slow scatter."""
        count, _, _, mean, deviation, slow = statistics
        known = count >= _LEAST_TIMES
        bad: NDArray[np.bool_] = known & (deviation <= 0)
        live = known & ~bad
        if live.sum() < _LEAST_CHANNELS:
            return bad
        sigma, n = self._settings.channel_sigma, np.maximum(count, 1)
        unit = float(np.median(deviation[live]))
        spread = np.where(live, deviation, unit)
        if (mean[live] > 0).all():  # a bandpass: what it is multiplied by adds to its logarithm
            height = np.where(live, mean, 1.0)
            level, scatter = np.log(height), np.log(spread / height)
            error = spread / height / np.sqrt(n)
        else:
            level, scatter, error = mean / unit, np.log(spread), spread / unit / np.sqrt(n)
        level = self._without_coarse_shape(level, live)
        bad = bad | standing_out(level, error, live, sigma, _EXCESS["level"], edges=True)
        bad = bad | standing_out(scatter, np.sqrt(0.5 / n), live & ~bad, sigma, _EXCESS["scatter"])
        groups = n / GROUP
        if np.median(groups[live]) >= _LEAST_TIMES:
            redness = np.log(np.maximum(slow, 1e-3 * spread) / spread)
            bad = bad | standing_out(redness, np.sqrt(0.5 / groups), live & ~bad, sigma, _EXCESS["scatter"])
        return bad

    def _without_coarse_shape(self, level: NDArray[np.float64], live: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Take out the shape that each raw channel's own filter gives its fine channels."""
        raw, fine = self._plan.stream.channels, self._plan.fine_channels
        if raw < 4 or fine < 8:
            return level
        tiles = np.where(live, level, np.nan).reshape(raw, fine)
        tiles = tiles[np.isfinite(tiles).any(axis=1)]
        tiles = tiles - np.nanmedian(tiles, axis=1, keepdims=True)
        seen = np.isfinite(tiles).any(axis=0)
        shape = np.zeros(fine)
        shape[seen] = np.nanmedian(tiles[:, seen], axis=0)
        return level - np.tile(shape, raw)

    def _bad_times(self, cells: Cells, statistics: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Find times at which the whole band rises or falls."""
        times = len(cells.power)
        mean, count, raised = np.zeros(times), np.zeros(times, np.int64), np.zeros(times, np.int64)
        centre = statistics[3]
        scale = np.where(statistics[0] >= _LEAST_TIMES, statistics[4], 0.0)

        def run(start: int, stop: int) -> None:
            time_statistics(cells.power, _hands(cells), cells.flags, centre, scale, mean, count, raised, start, stop)

        self._workers.over(times, run)
        known = count >= _LEAST_BAND
        if known.sum() < _LEAST_TIMES:
            return np.zeros(times, np.bool_)
        middle = float(np.median(mean[known]))
        width = _SIGMA_PER_MAD * float(np.median(np.abs(mean[known] - middle)))
        # Never below the noise of the mean of independent channels.
        z = (mean - middle) / np.maximum(width, 1 / np.sqrt(np.maximum(count, 1)))
        rise = (z > self._settings.time_sigma) & (raised >= 5)
        fall = (z < -self._settings.time_sigma) & (mean - middle < -_DIP)
        return np.asarray(known & (rise | fall), np.bool_)

    def _flag_cells(self, cells: Cells, statistics: NDArray[np.float64]) -> None:
        count, median, mad, _, deviation, _ = statistics
        scale = np.where(mad > 0, _SIGMA_PER_MAD * mad, deviation)
        scale[count < _LEAST_TIMES] = 0.0
        sigma = self._settings.cell_sigma
        low, high = np.full(len(cells.power), -sigma), np.full(len(cells.power), sigma)
        known = cells.accumulated > 0
        if known.any():
            typical = int(np.median(cells.accumulated[known]))
            for spectra in np.unique(cells.accumulated[known]).tolist():
                key = (spectra, typical)
                if key not in self._cell_limits:
                    # Two hands of any levels lie between one of them alone and two that are equal.
                    each = [gamma_limits(n * spectra, n * typical, sigma) for n in (1, _hands(cells))]
                    self._cell_limits[key] = min(low for low, _ in each), max(high for _, high in each)
                here = cells.accumulated == spectra
                low[here], high[here] = self._cell_limits[key]

        def run(start: int, stop: int) -> None:
            outlying_cells(
                cells.power, _hands(cells), median, scale, low, high, Flag.CELL.value, cells.flags, start, stop
            )

        self._workers.over(len(cells.power), run)


def standing_out(
    values: NDArray[np.float64],
    error: NDArray[np.float64],
    live: NDArray[np.bool_],
    sigma: float,
    excess: float,
    edges: bool = False,
) -> NDArray[np.bool_]:
    """Find channels whose value stands out of those of neighbouring channels.

    Two neighbourhoods are asked. The narrow one, 8 channels to each side, follows any smooth shape: its running median
    is taken twice, so that what is left of a curved top goes too. Wide interference fills it; the wide one, an eighth
    of the band to each side (8 to 64 channels), sees that, but demands an excess that no bandpass has.

    Parameters
    ----------
    values
        float64 ``[channel]``, finite where live.
    error
        float64 ``[channel]``: standard deviation of the values from noise alone.
    live
        bool ``[channel]``: channels to judge and to judge by.
    sigma
        Threshold, in robust sigma of the differences, never less than ``error``.
    excess
        Least excess over the wide neighbourhood.
    edges
        Whether a fall towards an end of the band is the band's edge, not an outlier.

    Returns
    -------
    ndarray
        bool ``[channel]``; never outside ``live``.
    """
    out = np.zeros(len(values), np.bool_)
    protected = _falling_edges(values, error, live) if edges else out
    wide = int(np.clip(len(values) // 8, _NARROW, 64))
    for _ in range(5):
        good = live & ~out
        if good.sum() < _LEAST_CHANNELS:
            break
        near = values - _running_median(values, good, _NARROW)
        near -= _running_median(near, good, _NARROW // 2)
        far = values - _running_median(values, good, wide)
        found = (np.abs(near) > sigma * _width(near, good, error)) & ~(protected & (near < 0))
        found |= far > np.maximum(sigma * _width(far, good, error), excess)
        found &= good
        if not found.any():
            break
        out |= found
    return out


def _width(residual: NDArray[np.float64], good: NDArray[np.bool_], error: NDArray[np.float64]) -> NDArray[np.float64]:
    spread = _SIGMA_PER_MAD * float(np.median(np.abs(residual[good])))
    return np.maximum(error, spread)


def _running_median(values: NDArray[np.float64], good: NDArray[np.bool_], half: int) -> NDArray[np.float64]:
    """Median over ``2 half + 1`` channels; gaps are bridged and the ends continued by straight lines."""
    channel = np.arange(len(values))
    bridged = np.interp(channel, channel[good], values[good])
    padded = np.concatenate([_continued(bridged, half)[::-1], bridged, _continued(bridged[::-1], half)])
    return np.asarray(median_filter(padded, 2 * half + 1)[half : half + len(values)], np.float64)


def _continued(values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Values before the first, nearest first, on the line through the medians of the two first runs."""
    run = max(1, min(count, len(values) // 2))
    first, second = float(np.median(values[:run])), float(np.median(values[run : 2 * run]))
    slope = (second - first) / run
    return np.asarray(first - slope * (np.arange(1, count + 1) + (run - 1) / 2), np.float64)


def _falling_edges(
    values: NDArray[np.float64], error: NDArray[np.float64], live: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Channels from either end inwards for as long as the level does not fall again."""
    edge = np.zeros(len(values), np.bool_)
    index = np.flatnonzero(live)
    for order in (index, index[::-1]):
        falls = np.diff(values[order]) < -5 * error[order[1:]]
        edge[order[: int(np.argmax(falls)) + 1 if falls.any() else len(order)]] = True
    return edge


def kurtosis_limits(spectra: int, tail: float) -> tuple[float, float]:
    """Find bounds that the spectral kurtosis of Gaussian noise leaves, on either side, with probability ``tail``.

    The estimator's first four moments are exact: powers of noise are exponential and their share in the sum does not
    depend on the sum. As Nita & Gary (2010, MNRAS 406, L60) do, the distribution is taken to be the one of Pearson's
    system with these moments, here integrated from Pearson's differential equation, whatever its type.

    Parameters
    ----------
    spectra
        Spectra accumulated, at least 3.
    tail
        Probability of either tail; infinite bounds where it is too small to be computed.

    Returns
    -------
    tuple
        Lower and upper bound.
    """
    variance, skewness, kurt = _kurtosis_moments(spectra)
    if tail < 1e-250:
        return -np.inf, np.inf
    beta1 = skewness**2
    whole = 10 * kurt - 12 * beta1 - 18
    b0, b1, b2 = 4 * kurt - 3 * beta1, skewness * (kurt + 3), 2 * kurt - 3 * beta1 - 6
    x = np.sinh(np.linspace(-6, 12, 60001))
    below = b0 + b1 * x + b2 * x**2
    ends = np.flatnonzero(below <= 1e-9 * b0)
    origin = int(np.argmin(np.abs(x)))
    first = int(ends[ends < origin].max(initial=-1)) + 1
    last = int(ends[ends > origin].min(initial=len(x)))
    x, below = x[first:last], below[first:last]
    slope = -(whole * x + b1) / below
    log_density = cumulative_trapezoid(slope, x, initial=0.0)
    density = np.exp(log_density - log_density.max())
    left = cumulative_trapezoid(density, x, initial=0.0)
    right = -cumulative_trapezoid(density[::-1], x[::-1], initial=0.0)[::-1]
    low = np.interp(tail * left[-1], left, x)
    high = -np.interp(tail * left[-1], right[::-1], -x[::-1])
    lower, upper = float(1 + low * np.sqrt(variance)), float(1 + high * np.sqrt(variance))
    if first > 0:
        # Below 24 spectra Pearson's curve ends above 0, where the estimator's range ends; a lognormal of the same
        # variance ends there and follows its lower tail better.
        width = np.log1p(variance)
        lower = min(lower, float(np.exp(-width / 2 + norm.ppf(tail) * np.sqrt(width))))
    return lower, upper


def _kurtosis_moments(spectra: int) -> tuple[float, float, float]:
    """Variance, skewness and kurtosis (3 for a Gaussian) of the estimator, whose mean is 1."""
    # Sum of squared exponentials: its moment series is that of one, (2j)!/j! x^j, to the power of M.
    one = [Fraction(factorial(2 * j), factorial(j)) for j in range(5)]
    many = [Fraction(1)]
    for n in range(1, 5):
        many.append(sum(((k * spectra - n + k) * one[k] * many[n - k] for k in range(1, n + 1)), Fraction(0)) / n)
    # Relative to the squared sum, which is independent of it: divide by that one's moments.
    share = [factorial(n) * many[n] / prod(range(spectra, spectra + 2 * n)) for n in range(5)]
    mean = share[1]
    central = [sum((comb(n, k) * share[k] * (-mean) ** (n - k) for k in range(n + 1)), Fraction(0)) for n in range(5)]
    gain = Fraction(spectra * (spectra + 1), spectra - 1)
    variance = float(central[2] * gain**2)
    return variance, float(central[3]) / float(central[2]) ** 1.5, float(central[4] / central[2] ** 2)


def gamma_limits(spectra: int, typical: int, sigma: float) -> tuple[float, float]:
    """Find bounds of a cell of ``spectra`` powers at the false-flag rate of a Gaussian ``sigma``.

    Such a cell is gamma-distributed.

    Parameters
    ----------
    spectra
        Powers in the cell.
    typical
        Powers in most cells of the block, which the channel's scale is measured from.
    sigma
        Threshold.

    Returns
    -------
    tuple
        Lower and upper bound as distance from the median in units of 1.4826 MAD. Without lower bound where no power
        lies so many standard deviations below the mean: the errors of median and MAD would then decide.
    """
    tail = float(norm.sf(sigma))
    usual = gamma(typical, scale=1 / typical)
    median = float(usual.median())

    def inside(reach: float) -> float:
        return float(usual.cdf(median + reach) - usual.cdf(median - reach)) - 0.5

    unit = _SIGMA_PER_MAD * float(brentq(inside, 0.0, 2.0))
    cell = gamma(spectra, scale=1 / spectra)
    low = (float(cell.ppf(tail)) - median) / unit if spectra > sigma**2 else -np.inf
    return low, (float(cell.isf(tail)) - median) / unit


def _hands(cells: Cells) -> int:
    """Products that add up to the intensity."""
    return 2 if cells.products[:2] in (("XX", "YY"), ("AA", "BB")) else 1


def _mark(
    flags: NDArray[np.uint16], where: tuple[slice | NDArray[np.bool_], slice | NDArray[np.bool_]], flag: Flag
) -> None:
    """Set a flag on every cell there that is not lost."""
    found = flags[where]
    flags[where] = np.where(found & Flag.LOST, found, found | flag).astype(np.uint16)
