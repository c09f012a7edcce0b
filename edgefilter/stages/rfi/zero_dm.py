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
