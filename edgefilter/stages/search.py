"""Single-pulse search: rows in, events above the threshold out."""

import threading
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from edgefilter.cells import Rows
from edgefilter.plan import Plan
from edgefilter.stages.trials import LADDER, Band, Group, delay_rows, groups, search_bands, subbands
from edgefilter.workers import Workers
from edgefilter_kernels.boxcar import boxcar_peaks
from edgefilter_kernels.breadth import breadth
from edgefilter_kernels.dedisperse import dedisperse
from edgefilter_kernels.whiten import whiten_channel

EVENTS_PER_CANDIDATE = 20
"""Events kept of a block for each candidate that may be kept: a pulse shows in many trials."""

_LEAST_HISTORY = 2048  # rows that the level and scatter of a channel are learnt from
_SHARE_STEPS = 8  # time steps for which the valid share of a channel is one number
_LEAST_SHARE = 0.1  # of the band's channels, without which a sum says too little about the band …
_LEAST_CHANNELS = 8  # … and the number of valid channels (or half of the band's) that it needs to be Gaussian
_CELL_STEPS = 32  # time steps of which only the best boxcar becomes an event
_PART = 0.25  # of the band: an event must not live on less than about that
_LEAST_LEFT = 0.25  # of an event's signal outside its strongest part of the band
_LIMIT_SIGMA = 10.0  # a single cell counts for no more than this: one bad cell is not a pulse
_GRAIN = LADDER[-1] * _SHARE_STEPS


@dataclass(slots=True)
class Events:
    """Boxcars above the threshold, strongest first; one array entry each.

    Parameters
    ----------
    row
        float64: centre of the boxcar at the centre of the whole band's highest channel, rows since the epoch (row r
        lasts from r to r + 1).
    dm, dm_step
        float64: dispersion measure and the distance to the next trial, pc cm⁻³.
    width_rows
        int32: width of the boxcar.
    snr
        float32.
    band
        int32: index in :func:`edgefilter.stages.trials.search_bands`.
    overflow
        Number of weaker events that were dropped because the bound was reached.
    """

    row: NDArray[np.float64]
    dm: NDArray[np.float64]
    dm_step: NDArray[np.float64]
    width_rows: NDArray[np.int32]
    snr: NDArray[np.float32]
    band: NDArray[np.int32]
    overflow: int = 0

    def __len__(self) -> int:
        return len(self.row)

    @classmethod
    def none(cls) -> Self:
        """No events."""
        return cls.join([])

    @classmethod
    def join(cls, parts: list[Self]) -> Self:
        """All events of several, sorted: by S/N, then by the other fields so that no two orders are possible."""
        row = np.concatenate([np.zeros(0), *(part.row for part in parts)])
        dm = np.concatenate([np.zeros(0), *(part.dm for part in parts)])
        step = np.concatenate([np.zeros(0), *(part.dm_step for part in parts)])
        width = np.concatenate([np.zeros(0, np.int32), *(part.width_rows for part in parts)])
        snr = np.concatenate([np.zeros(0, np.float32), *(part.snr for part in parts)])
        band = np.concatenate([np.zeros(0, np.int32), *(part.band for part in parts)])
        order = np.lexsort((band, width, dm, row, -snr))
        overflow = sum(part.overflow for part in parts)
        return cls(row[order], dm[order], step[order], width[order], snr[order], band[order], overflow)

    def strongest(self, most: int) -> Self:
        """Keep the first ``most`` events and count the others as overflow."""
        dropped = max(len(self) - most, 0)
        return type(self)(
            self.row[:most],
            self.dm[:most],
            self.dm_step[:most],
            self.width_rows[:most],
            self.snr[:most],
            self.band[:most],
            self.overflow + dropped,
        )


class Search:
    """Finds dispersed pulses that arrive at the top of the band within a block.

    The products of block k depend on rows ``[k R - history, (k + 1) R + lookahead)``.

    Parameters
    ----------
    plan
        Layout; ``plan.settings.pulses`` rules the search.
    workers
        Threads; they do not change the result.
    """

    def __init__(self, plan: Plan, workers: Workers) -> None:
        self._plan = plan
        self._workers = workers
        self._delays = delay_rows(plan)
        self._bands = [(band, list(groups(plan, band))) for band in search_bands(plan)]
        self._rungs = sorted({group.rows for _, found in self._bands for group in found})
        self._octaves = plan.settings.pulses.widths
        # Room for half of the widest boxcar on both sides, in whole time steps of every resolution.
        widest = self._rungs[-1] << (self._octaves - 1)
        self._margin = _up(max(widest // 2, 1), _GRAIN)
        rows = plan.rows_per_block
        self.history = _up(max(_LEAST_HISTORY, rows), rows) + self._margin
        self.lookahead = plan.sweep_rows(plan.dm_range[1]) + self._margin + 1
        self._most = EVENTS_PER_CANDIDATE * plan.settings.pulses.candidates

    @property
    def trials(self) -> int:
        """Number of dispersion measures that are tried, over all bands."""
        return sum(len(group.dm) for _, found in self._bands for group in found)

    def reduce(self, window: Rows, block: int) -> Events:
        """Search one block.

        Parameters
        ----------
        window
            Rows ``[block R - history, (block + 1) R + lookahead)``; weight 0 where there is no data.
        block
            Number of the block.

        Raises
        ------
        ValueError
            If the window is not the one of the block.
        """
        rows = self._plan.rows_per_block
        if (window.start, window.stop) != (block * rows - self.history, (block + 1) * rows + self.lookahead):
            raise ValueError(f"block {block} cannot be searched in rows [{window.start}, {window.stop})")
        if not window.weight.any():
            return Events.none()
        ladder = self._ladder(*self._whiten(window))
        kept = _Strongest(self._most)
        for number, (band, found) in enumerate(self._bands):
            job = _BandSearch(self._plan, band, number, self._delays, self._margin, ladder)

            def run(start: int, stop: int, job: _BandSearch = job, found: list[Group] = found) -> None:
                for group in found[start:stop]:
                    kept.add(job.search(group, block))

            self._workers.over(len(found), run)
        return kept.all()

    def _whiten(self, window: Rows) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        # Channel-major, because sums run along time. The slack at the end takes up the rounding of delays.
        first = self.history - self._margin
        length = _up(len(window.weight) - first, _GRAIN) + _GRAIN
        channels = window.weight.shape[1]
        value = np.empty((channels, length), np.float32)
        share = np.empty((channels, length), np.float32)
        learn = self.history + self._plan.rows_per_block

        def run(start: int, stop: int) -> None:
            # A few channels at a time: the transposed copy stays in the cache.
            for at in range(start, stop, 16):
                some = slice(at, min(at + 16, stop))
                power = np.ascontiguousarray(window.stokes[0][:, some].T)
                weight = np.ascontiguousarray(window.weight[:, some].T)
                for i, c in enumerate(range(some.start, some.stop)):
                    full = self._plan.cells_per_row
                    whiten_channel(power[i], weight[i], full, learn, _LIMIT_SIGMA, first, value[c], share[c])

        self._workers.over(channels, run, align=16)
        return value, share

    def _ladder(
        self, value: NDArray[np.float32], share: NDArray[np.float32]
    ) -> dict[int, tuple[NDArray[np.float32], NDArray[np.float32]]]:
        # Each time resolution with the valid share at a coarser one still. The share is the largest of its steps, not
        # the mean: at the edge of a gap the mean would raise the noise of what is left.
        ladder = {}
        share = share.reshape(len(share), -1, _SHARE_STEPS).max(axis=2)
        rung = 1
        while True:
            if rung in self._rungs:
                ladder[rung] = value, share
            if rung == self._rungs[-1]:
                return ladder
            value = (value[:, ::2] + value[:, 1::2]) * np.float32(np.sqrt(0.5))
            if share.shape[1] % 2:
                share = np.pad(share, ((0, 0), (0, 1)))
            share = np.maximum(share[:, ::2], share[:, 1::2])
            rung *= 2


class _BandSearch:
    """What the groups of one band share."""

    def __init__(
        self,
        plan: Plan,
        band: Band,
        number: int,
        delays: NDArray[np.float64],
        margin: int,
        ladder: dict[int, tuple[NDArray[np.float32], NDArray[np.float32]]],
    ) -> None:
        self._rows = plan.rows_per_block
        self._pulses = plan.settings.pulses
        self._band = band
        self._number = number
        self._delays = delays[band.start : band.stop]
        self._edges = subbands(self._delays)
        # The highest frequency of a sub-band: channels then never lead.
        tops = [
            start + int(np.argmin(self._delays[start:stop]))
            for start, stop in zip(self._edges, self._edges[1:], strict=False)
        ]
        self._tops = np.array(tops)
        self._margin = margin
        self._ladder = ladder

    def search(self, group: Group, block: int) -> Events:
        value, share = self._ladder[group.rows]
        channels = slice(self._band.start, self._band.stop)
        first, count = self._margin // group.rows, -(-self._rows // group.rows)
        length = 2 * first + count
        series = np.empty((len(group.dm), length), np.float32)
        middle = np.rint(self._delays * (group.middle / group.rows)).astype(np.int64)
        # Rounded so that the trial in the middle follows its own track exactly.
        coarse = middle - np.repeat(middle[self._tops], np.diff(self._edges))
        fine = np.rint(np.outer(group.dm, self._delays[self._tops]) / group.rows).astype(np.int64)
        dedisperse(value[channels], 0, self._edges, coarse, fine, series)
        trial, time, width, snr = boxcar_peaks(
            series,
            self._scale(share[channels], group, -(-length // _SHARE_STEPS)),
            _SHARE_STEPS,
            first,
            count,
            self._pulses.widths,
            self._pulses.snr,
            _CELL_STEPS,
        )
        # A boxcar of one step is centred on the middle of the step, all others between two steps.
        row = (time - first + np.where(width == 1, 0.5, 0.0)) * group.rows
        mine = row < self._rows
        if not mine.any():
            return Events.none()
        # The track of a bright pulse crosses tracks of wrong dispersion measures in a few channels.
        left = breadth(
            value[channels],
            share[channels],
            _SHARE_STEPS,
            coarse + np.repeat(fine, np.diff(self._edges), axis=1),
            _PART,
            trial,
            time - width // 2,
            width,
            snr,
        )
        mine &= left >= _LEAST_LEFT
        return Events(
            np.float64(block * self._rows) + row[mine],
            group.dm[trial[mine]],
            group.step[trial[mine]],
            (width[mine] * group.rows).astype(np.int32),
            snr[mine],
            np.full(int(mine.sum()), self._number, np.int32),
        )

    def _scale(self, share: NDArray[np.float32], group: Group, length: int) -> NDArray[np.float32]:
        # The trials of a group differ by less than one step of the share.
        delay = np.rint(self._delays * (group.middle / group.rows / _SHARE_STEPS)).astype(np.int64)
        total = np.empty((1, length), np.float32)
        whole = np.array([0, len(share)])
        dedisperse(share, 0, whole, delay, np.zeros((1, 1), np.int64), total)
        enough = total[0] >= max(_LEAST_SHARE * len(share), min(_LEAST_CHANNELS, len(share) / 2))
        return np.where(enough, 1 / np.sqrt(np.where(enough, total[0], 1)), 0).astype(np.float32)


class _Strongest:
    """The strongest events that threads find: the same in whatever order they come."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._parts: list[Events] = []
        self._count = 0
        self._lock = threading.Lock()

    def add(self, events: Events) -> None:
        if len(events):
            with self._lock:
                self._parts.append(events)
                self._count += len(events)
                if self._count > 4 * self._most:
                    self._parts = [self.all()]
                    self._count = len(self._parts[0])

    def all(self) -> Events:
        return Events.join(self._parts).strongest(self._most)


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
