"""Times at which the whole band rises or falls at once: dispersion measure 0, which nothing beyond the Earth has."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgefilter.cells import Flag
from edgefilter.config import FlagSettings
from edgefilter.plan import dispersion_delay
from edgefilter.stages.background import Background, View
from edgefilter.workers import Workers
from edgefilter_kernels.rise import BANDS, LEAST_CHANNELS, rise, sudden

_SHORTLY = 4  # cells, or fewer where the slowest sweep is quick
_SWEEP = 4.0  # times that which the slowest sweep must take over the band: a pulse that rises in many parts at
# once has then risen in more than a few of them shortly before or after
_LEAST_SWEEP = 10.0  # cells that it must take at least: else a pulse may rise everywhere at once


class Moved(NamedTuple):
    """Where the band has risen or fallen.

    Parameters
    ----------
    times
        int64 ``[moved]``.
    bands
        bool ``[moved, 32]``: sub-bands that have.
    """

    times: NDArray[np.int64]
    bands: NDArray[np.bool_]


class ZeroDm:
    """The flagger ZERO_DM.

    Parameters
    ----------
    frequencies_mhz
        float64 ``[channel]``.
    cell_seconds
        Duration of a cell, s.
    settings
        ``zero_dm_sigma``, ``sky_dm``.
    workers
        Threads over times.
    """

    def __init__(
        self, frequencies_mhz: NDArray[np.float64], cell_seconds: float, settings: FlagSettings, workers: Workers
    ) -> None:
        low, high = float(frequencies_mhz.min()), float(frequencies_mhz.max())
        sweep = dispersion_delay(settings.sky_dm[0], low, high) / cell_seconds if low > 0 else np.inf
        self._rises = sweep >= _LEAST_SWEEP
        self._shortly = int(min(_SHORTLY, sweep / _SWEEP)) if self._rises else _SHORTLY
        self._sigma = settings.zero_dm_sigma
        self._workers = workers

    def find(self, view: View, background: Background, lean: float) -> Moved:
        """Find times at which the band has risen or fallen; distances from the background are taken ``lean`` times."""
        times, channels = view.flags.shape
        if not self._sigma or channels < LEAST_CHANNELS:
            return Moved(np.zeros(0, np.int64), np.zeros((0, BANDS), np.bool_))
        put, kernel = self._workers.put, self._workers.kernel(rise)
        found = self._workers.zeros((3, BANDS, times), np.int32)
        reach = self._sigma / lean * background.sigma
        low, high = (put((background.centre + side * reach).astype(np.float32)) for side in (-1, 1))

        def run(start: int, stop: int) -> None:
            kernel(view.power, view.hands, view.flags, low, high, found, start, stop)

        self._workers.over(times, run, pieces=8)
        counts = self._workers.get(found)
        bands = np.zeros((times, BANDS), np.bool_)
        if self._rises:
            sudden(counts, 1, self._shortly, bands)
        sudden(counts, 2, _SHORTLY, bands)
        some = np.flatnonzero(bands.any(axis=1))
        return Moved(some, bands[some])

    def mark(self, flags: NDArray[np.uint16], moved: Moved) -> None:
        """Set ZERO_DM in ``flags``, uint16 ``[time, channel]``, but where they are LOST."""
        if len(moved.times):
            channels = flags.shape[1]
            edges = np.array([band * channels // BANDS for band in range(BANDS + 1)])
            at = self._workers.put(moved.times)
            here = self._workers.put(np.repeat(moved.bands, np.diff(edges), axis=1))
            rows = flags[at]
            lost = rows & np.uint16(Flag.LOST) != 0
            flags[at] = rows | np.where(here & ~lost, np.uint16(Flag.ZERO_DM), np.uint16(0))
