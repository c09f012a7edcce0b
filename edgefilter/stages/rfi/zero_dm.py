"""What the whole band does at once, dispersion measure 0, which nothing beyond the Earth has.

Where it rises or falls and is back shortly after, that is interference or a dropout. Where it goes up and down slowly,
it is the receiver's gain, and no channel is to be flagged for it.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter
from scipy.special import ndtr, ndtri

from edgefilter.compute.threads import Workers
from edgefilter.core.cells import Flag
from edgefilter.core.config import FlagSettings
from edgefilter.core.plan import dispersion_delay
from edgefilter.stages.rfi.background import QUANTILE, Background, View
from edgefilter_kernels.rfi.broadband_steps import LEAST_CHANNELS, sudden
from edgefilter_kernels.rfi.zero_dm import BANDS, rise

_USUAL_SIGMA = 1.0  # where cells are counted if nothing is flagged
_SHORTLY = 4  # cells, or fewer where the slowest sweep is quick
_SWEEP = 4.0  # times that which the slowest sweep must take over the band: a pulse that rises in many parts at
# once has then risen in more than a few of them shortly before or after
_LEAST_SWEEP = 10.0  # cells that it must take at least: else a pulse may rise everywhere at once

_SLOW = 64  # cells that are looked at together for the gain: as many as the longest window of the evidence
_LONG = 5  # of them, of which the median is taken: pulses and bursts are shorter than half of it
_WANDERED = 0.4  # sigma by which the gain is off, from which on noise itself is nearly enough for a rise
_TELLING = 0.02  # of the cells that must lie below: fewer say little about the gain


class Moved(NamedTuple):
    """Where the band has risen or fallen.

    Parameters
    ----------
    times
        int64 ``[moved]``: where it did at once.
    bands
        bool ``[moved, 32]``: sub-bands that did.
    slowly
        float64 ``[time]``: by how much it is up, in standard deviations of a cell, leaving out what is over quickly.
    """

    times: NDArray[np.int64]
    bands: NDArray[np.bool_]
    slowly: NDArray[np.float64]


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
        """Find where the band has risen or fallen; distances from the background are taken ``lean`` times."""
        times, channels = view.flags.shape
        if channels < LEAST_CHANNELS:
            return Moved(np.zeros(0, np.int64), np.zeros((0, BANDS), np.bool_), np.zeros(times))
        put, kernel = self._workers.put, self._workers.kernel(rise)
        found = self._workers.zeros((3, BANDS, times), np.int32)
        reach = (self._sigma or _USUAL_SIGMA) / lean * background.sigma
        low, high = (put((background.centre + side * reach).astype(np.float32)) for side in (-1, 1))

        def run(start: int, stop: int) -> None:
            kernel(view.power, view.hands, view.flags, low, high, found, start, stop)

        self._workers.over(times, run, pieces=8)
        counts = self._workers.get(found)
        bands = np.zeros((times, BANDS), np.bool_)
        if self._sigma and self._rises:
            sudden(counts, 1, self._shortly, bands)
        if self._sigma:
            sudden(counts, 2, _SHORTLY, bands)
        slowly = _slowly(counts[0], counts[2])
        bands[np.abs(slowly) > _WANDERED] = False
        some = np.flatnonzero(bands.any(axis=1))
        return Moved(some, bands[some], slowly)

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


def _slowly(used: NDArray[np.int32], below: NDArray[np.int32]) -> NDArray[np.float64]:
    """Say by how much the band is up at each time from how many cells lie below a level, ``[band, time]``.

    Interference adds power, so that it changes the number below a level less than that above one; the median over the
    sub-bands leaves out what a part of the band does.
    """
    times = used.shape[1]
    groups = times // _SLOW
    if groups < _LONG:
        return np.zeros(times)
    number, low = (counts[:, : groups * _SLOW].reshape(BANDS, groups, _SLOW).sum(axis=2) for counts in (used, below))
    some = number.min(axis=1) > 0
    if not some.any():
        return np.zeros(times)
    share = np.median(low[some] / number[some], axis=0)
    if not _TELLING < np.median(share) < 1 - _TELLING:
        return np.zeros(times)
    # Within half a cell of none and all, so that it is finite.
    edge = 0.5 / number[some].sum(axis=0)
    down = ndtri(np.clip(share, edge, 1 - edge))
    up = median_filter(np.median(down) - down, _LONG, mode="nearest")
    # The background comes from a quantile of all times, which lies deeper in noise that goes up and down.
    steps = np.linspace(-5.0, 5.0, 101)
    up -= np.interp(QUANTILE, ndtr(steps[:, None] - up).mean(axis=1), steps) - ndtri(QUANTILE)
    return np.asarray(np.interp(np.arange(times), (np.arange(groups) + 0.5) * _SLOW, up))
