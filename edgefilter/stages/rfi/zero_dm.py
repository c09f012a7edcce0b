"""What the whole band does at once, dispersion measure 0, which nothing beyond the Earth has.

Where it rises or falls and is back shortly after, that is interference or a dropout. Where it goes up and down slowly,
it is the receiver's gain, and no channel is to be flagged for it.
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
from edgefilter.stages.rfi.background import QUANTILE, Background, BlockView
from edgefilter_kernels.rfi.broadband_steps import MIN_CHANNELS, find_broadband_steps
from edgefilter_kernels.rfi.zero_dm import ZERO_DM_BANDS, zero_dm_counts

_DEFAULT_SIGMA = 1.0  # where cells are counted if nothing is flagged
_MAX_STEP_CELLS = 4  # cells, or fewer where the slowest sweep is quick
_MIN_SWEEP_RATIO = (
    4.0  # times that which the slowest sweep must take over the band: a pulse that rises in many parts at
)
# once has then risen in more than a few of them shortly before or after
_MIN_SWEEP_CELLS = 10.0  # cells that it must take at least: else a pulse may rise everywhere at once

_GAIN_GROUP_CELLS = 64  # cells that are looked at together for the gain: as many as the longest window of the evidence
_GAIN_MEDIAN_GROUPS = 5  # of them, of which the median is taken: pulses and bursts are shorter than half of it
_MAX_GAIN_DRIFT_SIGMA = 0.4  # sigma by which the gain is off, from which on noise itself is nearly enough for a rise
_MIN_INFORMATIVE_FRACTION = 0.02  # of the cells that must lie below: fewer say little about the gain


class BroadbandSteps(NamedTuple):
    """Where the band has risen or fallen.

    Parameters
    ----------
    times
        int64 ``[broadband_steps]``: where it did at once.
    bands
        bool ``[broadband_steps, 32]``: sub-bands that did.
    gain_drift
        float64 ``[time]``: by how much it is up, in standard deviations of a cell, leaving out what is over quickly.
    """

    times: NDArray[np.int64]
    bands: NDArray[np.bool_]
    gain_drift: NDArray[np.float64]


class ZeroDmFlagger:
    """The flagger ZERO_DM.

    Parameters
    ----------
    frequencies_mhz
        float64 ``[channel]``.
    cell_seconds
        Duration of a cell, s.
    settings
        ``zero_dm_sigma``, ``sky_dm``.
    backend
        Threads over times.
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
        """Find where the band has risen or fallen; distances from the background are scaled by ``threshold_scale``."""
        times, channels = view.flags.shape
        if channels < MIN_CHANNELS:
            return BroadbandSteps(np.zeros(0, np.int64), np.zeros((0, ZERO_DM_BANDS), np.bool_), np.zeros(times))
        to_device, kernel = self._backend.to_device, self._backend.kernel(zero_dm_counts)
        found = self._backend.zeros((3, ZERO_DM_BANDS, times), np.int32)
        reach = (self._sigma or _DEFAULT_SIGMA) / threshold_scale * background.sigma
        low, high = (to_device((background.centre + side * reach).astype(np.float32)) for side in (-1, 1))

        def run(start: int, stop: int) -> None:
            kernel(view.power, view.n_pols, view.flags, low, high, found, start, stop)

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
        """Set ZERO_DM in ``flags``, uint16 ``[time, channel]``, but where they are LOST."""
        if len(broadband_steps.times):
            channels = flags.shape[1]
            edges = np.array([band * channels // ZERO_DM_BANDS for band in range(ZERO_DM_BANDS + 1)])
            at = self._backend.to_device(broadband_steps.times)
            here = self._backend.to_device(np.repeat(broadband_steps.bands, np.diff(edges), axis=1))
            rows = flags[at]
            lost = rows & np.uint16(Flag.LOST) != 0
            flags[at] = rows | np.where(here & ~lost, np.uint16(Flag.ZERO_DM), np.uint16(0))


def _gain_drift(used: NDArray[np.int32], below: NDArray[np.int32]) -> NDArray[np.float64]:
    """Say by how much the band is up at each time from how many cells lie below a level, ``[band, time]``.

    Interference adds power, so that it changes the number below a level less than that above one; the median over the
    sub-bands leaves out what a part of the band does.
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
    # Within half a cell of none and all, so that it is finite.
    edge = 0.5 / number[some].sum(axis=0)
    down = ndtri(np.clip(fraction_below, edge, 1 - edge))
    gain_offset = median_filter(np.median(down) - down, _GAIN_MEDIAN_GROUPS, mode="nearest")
    # The background comes from a quantile of all times, which lies deeper in noise that goes up and down.
    steps = np.linspace(-5.0, 5.0, 101)
    gain_offset -= np.interp(QUANTILE, ndtr(steps[:, None] - gain_offset).mean(axis=1), steps) - ndtri(QUANTILE)
    return np.asarray(np.interp(np.arange(times), (np.arange(groups) + 0.5) * _GAIN_GROUP_CELLS, gain_offset))
