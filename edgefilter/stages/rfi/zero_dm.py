"""Zero-DM test: steps of the whole band at once, which no source beyond the Earth has, and drift of the gain.

A band that rises or falls and returns shortly after has interference or a dropout. A band that rises and falls slowly
shows the gain of the receiver, for which no cell is flagged.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter
from scipy.special import ndtr, ndtri

from edgefilter.compute.threads import ThreadBackend
from edgefilter.core.cells import Flag
from edgefilter.core.config import FlagSettings
from edgefilter.core.plan import dispersion_delay
from edgefilter.stages.rfi.background import QUANTILE, Background
from edgefilter.stages.rfi.block import BlockView
from edgefilter.stages.rfi.sumthreshold import POWER_WINDOWS
from edgefilter_kernels.rfi.broadband_steps import MIN_CHANNELS, find_broadband_steps
from edgefilter_kernels.rfi.zero_dm import ZERO_DM_BANDS, zero_dm_counts

_DEFAULT_SIGMA = 1.0  # level at which cells are counted for the gain if the flagger is off
_MAX_STEP_CELLS = 4  # longest step, in cells; shorter where the slowest sweep takes few
# Ratio of the slowest sweep over the band to a step: a pulse that rises in many parts of the band at once has then
# risen in more than a few of them shortly before or after.
_MIN_SWEEP_RATIO = 4.0
_MIN_SWEEP_CELLS = 10.0  # shortest sweep for which rises are tested: a faster pulse may rise everywhere at once

_GAIN_GROUP_CELLS = max(POWER_WINDOWS)  # cells in which the gain is measured
_GAIN_MEDIAN_GROUPS = 5  # groups of the running median: pulses and bursts are shorter than half of it
_MAX_GAIN_DRIFT_SIGMA = 0.4  # above it, noise alone is nearly enough for a step
_MIN_INFORMATIVE_FRACTION = 0.02  # fraction of cells below (and above) the level without which the gain is not known

_MAX_BURST_CELLS = 16  # longest burst that is found by its significance, in cells
_BURST_SIGMA = 6.0  # significance of the whole band for a burst
_BURST_PARTS = 8  # parts of the band, …
_WEAKER_HALF_SIGMA = 2.5  # … whose weaker half must rise so much: a dispersed pulse is in less than half of the band
_PART_SIGMA = 1.0  # significance of a part that is flagged; in a burst of six sigma, parts have two
_SIDE_CELLS = 32  # cells before and after a burst that it is compared with
_MIN_MOVED_FRACTION = 0.02  # fraction of the cells beyond the levels without which the data are too coarse


class BroadbandSteps(NamedTuple):
    """Steps and drift of the whole band.

    Parameters
    ----------
    times
        int64 ``[step]``: times at which the band rises or falls at once.
    bands
        bool ``[step, 32]``: sub-bands that do.
    gain_drift
        float64 ``[time]``: slow rise of the band, in standard deviations of a cell.
    """

    times: NDArray[np.int64]
    bands: NDArray[np.bool_]
    gain_drift: NDArray[np.float64]


class ZeroDmFlagger:
    """Flagger of steps of the whole band.

    Parameters
    ----------
    frequencies_mhz
        float64 ``[channel]``: centres, MHz.
    cell_seconds
        Duration of a cell, s.
    settings
        ``zero_dm_sigma``, ``sky_dm``.
    backend
        Threads over times, or a GPU.
    """

    def __init__(
        self, frequencies_mhz: NDArray[np.float64], cell_seconds: float, settings: FlagSettings, backend: ThreadBackend
    ) -> None:
        low, high = float(frequencies_mhz.min()), float(frequencies_mhz.max())
        sweep = dispersion_delay(settings.sky_dm[0], low, high) / cell_seconds if low > 0 else np.inf
        self._tests_rises = sweep >= _MIN_SWEEP_CELLS
        self._max_rise_cells = (
            int(min(_MAX_STEP_CELLS, sweep / _MIN_SWEEP_RATIO)) if self._tests_rises else _MAX_STEP_CELLS
        )
        self._max_burst_cells = int(min(_MAX_BURST_CELLS, sweep / _MIN_SWEEP_RATIO)) if self._tests_rises else 0
        self._sigma = settings.zero_dm_sigma
        self._backend = backend

    def find(self, view: BlockView, background: Background, threshold_scale: float) -> BroadbandSteps:
        """Find steps and drift of the whole band.

        Parameters
        ----------
        view
            The block.
        background
            Of its channels.
        threshold_scale
            Factor on distances from the background.

        Returns
        -------
        BroadbandSteps
            The steps to flag, and the drift.
        """
        times, channels = view.flags.shape
        if channels < MIN_CHANNELS:
            return BroadbandSteps(np.zeros(0, np.int64), np.zeros((0, ZERO_DM_BANDS), np.bool_), np.zeros(times))
        to_device, kernel = self._backend.to_device, self._backend.kernel(zero_dm_counts)
        found = self._backend.zeros((3, ZERO_DM_BANDS, times), np.int32)
        reach = (self._sigma or _DEFAULT_SIGMA) / threshold_scale * background.sigma
        low, high = (to_device((background.centre + side * reach).astype(np.float32)) for side in (-1, 1))

        def run(start: int, stop: int) -> None:
            kernel(view.cells, low, high, found, start, stop)

        self._backend.parallel_for(times, run, ranges_per_thread=8)
        counts = self._backend.to_host(found)
        bands = np.zeros((times, ZERO_DM_BANDS), np.bool_)
        if self._sigma and self._tests_rises:
            find_broadband_steps(counts, 1, self._max_rise_cells, bands)
        if self._sigma:
            find_broadband_steps(counts, 2, _MAX_STEP_CELLS, bands)
        gain_drift = _gain_drift(counts[0], counts[2])
        bands[np.abs(gain_drift) > _MAX_GAIN_DRIFT_SIGMA] = False
        if self._sigma and self._tests_rises:
            strong = np.logical_or.reduce(bands, axis=1)
            bands |= find_weak_bursts(counts, strong, self._max_burst_cells)
        some = np.flatnonzero(bands.any(axis=1))
        return BroadbandSteps(some, bands[some], gain_drift)

    def mark(self, flags: NDArray[np.uint16], broadband_steps: BroadbandSteps) -> None:
        """Set ZERO_DM in the flags of cells that are not LOST.

        Parameters
        ----------
        flags
            uint16 ``[time, channel]``, changed in place.
        broadband_steps
            Of :meth:`find`.
        """
        if len(broadband_steps.times):
            channels = flags.shape[1]
            edges = np.array([band * channels // ZERO_DM_BANDS for band in range(ZERO_DM_BANDS + 1)])
            at = self._backend.to_device(broadband_steps.times)
            here = self._backend.to_device(np.repeat(broadband_steps.bands, np.diff(edges), axis=1))
            rows = flags[at]
            lost = rows & np.uint16(Flag.LOST) != 0
            flags[at] = rows | np.where(here & ~lost, np.uint16(Flag.ZERO_DM), np.uint16(0))


def _gain_drift(used: NDArray[np.int32], below: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return the gain drift, float64 ``[time]``, from the numbers of used cells and of cells below a level.

    Both are int32 ``[band, time]``. Interference adds power, so that it changes the number of cells below a level less
    than the number above it. The median over the sub-bands excludes changes in a part of the band.
    """
    times = used.shape[1]
    groups = times // _GAIN_GROUP_CELLS
    if groups < _GAIN_MEDIAN_GROUPS:
        return np.zeros(times)
    number, low = (
        counts[:, : groups * _GAIN_GROUP_CELLS].reshape(ZERO_DM_BANDS, groups, _GAIN_GROUP_CELLS).sum(axis=2)
        for counts in (used, below)
    )
    some = number.min(axis=1) > 0
    if not some.any():
        return np.zeros(times)
    fraction_below = np.median(low[some] / number[some], axis=0)
    if not _MIN_INFORMATIVE_FRACTION < np.median(fraction_below) < 1 - _MIN_INFORMATIVE_FRACTION:
        return np.zeros(times)
    # Half a cell from none and all keeps the quantile finite.
    edge = 0.5 / number[some].sum(axis=0)
    down = ndtri(np.clip(fraction_below, edge, 1 - edge))
    gain_offset = median_filter(np.median(down) - down, _GAIN_MEDIAN_GROUPS, mode="nearest")
    # The background comes from a quantile of all times, which is lower in noise that drifts.
    steps = np.linspace(-5.0, 5.0, 101)
    gain_offset -= np.interp(QUANTILE, ndtr(steps[:, None] - gain_offset).mean(axis=1), steps) - ndtri(QUANTILE)
    return np.asarray(np.interp(np.arange(times), (np.arange(groups) + 0.5) * _GAIN_GROUP_CELLS, gain_offset))


def find_weak_bursts(counts: NDArray[np.int32], known: NDArray[np.bool_], max_cells: int) -> NDArray[np.bool_]:
    """Find bursts of the whole band that are weak in each channel, by the significance of the sum over the band.

    The number of channels above their level less that of channels below is 0 in noise; a burst of s sigma a channel
    moves it by 0.86 s standard deviations of the number, times the root of the number of channels. It is compared with
    the times shortly before and after, so that the edge of a longer change is no burst.

    Parameters
    ----------
    counts
        Of :func:`edgefilter_kernels.rfi.zero_dm.zero_dm_counts`, int32 ``[3, band, time]``.
    known
        bool ``[time]``: times of steps that are strong in each channel, whose sub-bands are known; they count as 0.
    max_cells
        Longest burst, cells.

    Returns
    -------
    ndarray
        bool ``[time, band]``: sub-bands of bursts at other times. A boxcar over these times exceeds six sigma in the
        whole band, 2.5 sigma in its weaker half, and one sigma in the eighth of the band that the sub-band is in.
    """
    used, above, below = (part.reshape(_BURST_PARTS, -1, part.shape[1]).sum(axis=1) for part in counts)
    found, parts = known.copy(), np.zeros(used.shape, np.bool_)
    moved = float((above + below).sum() / max(used.sum(), 1))
    if moved >= _MIN_MOVED_FRACTION:
        # In standard deviations of one part at one time.
        rise = np.divide(above - below, np.sqrt(moved * used), out=np.zeros(used.shape), where=used > 0)
        width = 1
        while width <= min(max_cells, len(found) // 4):
            excess = _boxcar_excess(np.where(found, 0.0, rise), width)
            weaker = np.sort(excess, axis=0)[: _BURST_PARTS // 2]
            whole, half = (part.sum(axis=0) / np.sqrt(len(part)) for part in (excess, weaker))
            for start in np.flatnonzero((whole > _BURST_SIGMA) & (half > _WEAKER_HALF_SIGMA)).tolist():
                found[start : start + width] = True
                parts[:, start : start + width] |= excess[:, start, None] > _PART_SIGMA
            width *= 2
    return np.repeat(parts & ~known, ZERO_DM_BANDS // _BURST_PARTS, axis=0).T


def _boxcar_excess(rise: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Return the S/N of the boxcar that starts at each time above the higher of the means before and after it."""
    total = np.cumsum(np.pad(rise, ((0, 0), (1, 0))), axis=1)
    start = np.arange(rise.shape[1] - width + 1)
    band = total.mean(axis=0)  # sides are compared in the sum over the band: what is higher there is the baseline

    def side(first: NDArray[np.int64], stop: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        length = stop - first
        known = length > 0
        per_part = np.where(known, (total[:, stop] - total[:, first]) / np.maximum(length, 1), 0.0)
        return per_part, np.where(known, (band[stop] - band[first]) / np.maximum(length, 1), -np.inf)

    before, level_before = side(np.maximum(start - width - _SIDE_CELLS, 0), np.maximum(start - width, 0))
    last = rise.shape[1]
    after, level_after = side(np.minimum(start + 2 * width, last), np.minimum(start + 2 * width + _SIDE_CELLS, last))
    baseline = np.where(level_before > level_after, before, after)
    excess = (total[:, start + width] - total[:, start] - width * baseline) / np.sqrt(width + width**2 / _SIDE_CELLS)
    return np.pad(excess, ((0, 0), (0, width - 1)))
