"""Times at which the whole band rises or falls at once: dispersion measure 0, which nothing beyond the Earth has."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

from edgefilter.cells import Flag
from edgefilter.config import FlagSettings
from edgefilter.plan import dispersion_delay
from edgefilter.workers import Workers
from edgefilter_kernels.rise import BANDS, rise

_PARTS = 8  # parts of the band that are asked
_MANY = 5  # of them must have risen
_FEW = 2  # of them may have risen shortly before and after: it must come and go at once
_SHORTLY = 4  # cells, or fewer where the slowest sweep is quick
_RAISED = 0.4  # of a part's channels that must exceed the level; 0.16 of noise do
_PARTLY = 0.4, 0.3  # of a thirty-second's channels, with its neighbours and by itself, that make it worth flagging
_LEAST_CHANNELS = 32
_SWEEP = 4.0  # times that which the slowest sweep must take over the band: a pulse that rises in many parts at
# once has then risen in more than a few of them shortly before or after
_LEAST_SWEEP = 10.0  # cells that it must take at least: else a pulse may rise everywhere at once


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
        self._rise = workers.kernel(rise)

    def flag(
        self,
        power: NDArray[np.float32],
        hands: int,
        centre: NDArray[np.float64],
        sigma: NDArray[np.float64],
        flags: NDArray[np.uint16],
    ) -> None:
        """Set ZERO_DM where the band has risen or fallen; arrays as :class:`~edgefilter.stages.flag.Flagger` has."""
        times, channels = flags.shape
        if not self._sigma or channels < _LEAST_CHANNELS:
            return
        found = self._workers.zeros((3, times, BANDS), np.int32)
        low = self._workers.put((centre - self._sigma * sigma).astype(np.float32))
        high = self._workers.put((centre + self._sigma * sigma).astype(np.float32))

        def run(start: int, stop: int) -> None:
            self._rise(power, hands, flags, low, high, found, start, stop)

        self._workers.over(times, run, pieces=4)
        counts = self._workers.get(found)
        parts = _parts(counts[0])
        used = parts.sum(axis=0)
        for side, wanted, shortly in ((1, self._rises, self._shortly), (2, True, _SHORTLY)):
            if wanted:
                at = np.flatnonzero(_sudden(parts, _parts(counts[side]), shortly) & (used >= _LEAST_CHANNELS))
                _mark_parts(flags, self._workers, at, counts[side, at] / np.maximum(counts[0, at], 1))


def _parts(counts: NDArray[np.int32]) -> NDArray[np.int32]:
    """Add up sub-bands to parts of the band, int32 ``[part, time]``: whole rows are added, never neighbours."""
    bands = np.ascontiguousarray(counts.T).reshape(_PARTS, BANDS // _PARTS, -1)
    return np.asarray(bands.sum(axis=1, dtype=np.int32))


def _sudden(used: NDArray[np.int32], moved: NDArray[np.int32], shortly: int) -> NDArray[np.bool_]:
    """Find times at which many parts have moved, and shortly before and after few have; both are ``[part, time]``."""
    number = np.count_nonzero(moved > _RAISED * used, axis=0)
    many = number >= _MANY
    times = len(many)
    first, stop = np.flatnonzero(np.diff(np.concatenate([[False], many, [False]]).astype(np.int8))).reshape(-1, 2).T
    quiet = np.concatenate([[0], np.cumsum(number <= _FEW)])
    before = (quiet[first] > quiet[np.maximum(first - shortly, 0)]) | (first == 0)
    after = (quiet[np.minimum(stop + shortly, times)] > quiet[stop]) | (stop == times)
    turn = np.zeros(times + 1, np.int8)
    turn[first[before & after]], turn[stop[before & after]] = 1, -1
    return np.cumsum(turn[:times]) > 0


def _mark_parts(
    flags: NDArray[np.uint16], workers: Workers, times: NDArray[np.int64], share: NDArray[np.float64]
) -> None:
    """Flag the parts of the band that have moved."""
    channels = flags.shape[1]
    bad = (uniform_filter1d(share, 3, axis=1, mode="nearest") > _PARTLY[0]) & (share > _PARTLY[1])
    some = bad.any(axis=1)
    if some.any():
        edges = np.array([band * channels // BANDS for band in range(BANDS + 1)])
        at, here = workers.put(times[some]), workers.put(np.repeat(bad[some], np.diff(edges), axis=1))
        rows = flags[at]
        lost = rows & np.uint16(Flag.LOST) != 0
        flags[at] = rows | np.where(here & ~lost, np.uint16(Flag.ZERO_DM), np.uint16(0))
