"""Single-pulse search: whitened blocks in, events above the threshold out."""

import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from edgefilter.compute.threads import Workers
from edgefilter.core.plan import Plan
from edgefilter.stages.search.dm_plan import LADDER, Group, delay_rows, groups
from edgefilter.stages.search.normalise import White
from edgefilter.stages.search.subbands import SHARE_STEPS, Delays, Family, Tree
from edgefilter_kernels.search.band_occupancy import breadth
from edgefilter_kernels.search.boxcar import Boxcars, track_peaks
from edgefilter_kernels.search.dedisperse import add_channels, add_subbands
from edgefilter_kernels.search.normalise import COUNTS, WHOLE, halve, widest

EVENTS_PER_CANDIDATE = 20
"""Events kept of a block for each candidate that may be kept: a pulse shows in many trials."""

_LEAST_SHARE = 0.1  # of the band's channels, without which a sum says too little about the band …
_LEAST_CHANNELS = 8  # … and the number of valid channels (or half of the band's) that it needs to be Gaussian
_CELL_STEPS = 32  # time steps of which only the best boxcar becomes an event
_PART = 0.25  # of the band: an event must not live on less than about that
_LEAST_LEFT = 0.25  # of an event's signal outside its strongest part of the band
_GRAIN = LADDER[-1] * SHARE_STEPS


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
        int32: index in :func:`edgefilter.stages.search.dm_plan.search_bands`.
    overflow
        Number of weaker events that were dropped because the bound was reached.
    guarded
        Decisions that another device may have made otherwise; none where they are those to go by.
    """

    row: NDArray[np.float64]
    dm: NDArray[np.float64]
    dm_step: NDArray[np.float64]
    width_rows: NDArray[np.int32]
    snr: NDArray[np.float32]
    band: NDArray[np.int32]
    overflow: int = 0
    guarded: int = 0

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
        overflow, guarded = (sum(getattr(part, name) for part in parts) for name in ("overflow", "guarded"))
        return cls(row[order], dm[order], step[order], width[order], snr[order], band[order], overflow, guarded)

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
            self.guarded,
        )


class Search:
    """Finds dispersed pulses that arrive at the top of the band within a block; one block at a time.

    The events of block k depend on whitened rows ``[k R - history, (k + 1) R + lookahead)``.

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
        self._tree = Tree(plan)
        self._families = self._make_families()
        self._rungs = sorted({family.rows for family in self._families})
        # Room for half of the widest boxcar on both sides, in whole time steps of every resolution.
        widest = self._rungs[-1] << (plan.settings.pulses.widths - 1)
        self._margin = _up(max(widest // 2, 1), _GRAIN)
        self.history = self._margin
        self.lookahead = plan.sweep_rows(plan.dm_range[1]) + self._margin + 1
        self._most = EVENTS_PER_CANDIDATE * plan.settings.pulses.candidates
        self._room = np.empty((2, 0, 0), np.int8)  # of the window: kept, for what is new must be cleared first

    @property
    def trials(self) -> int:
        """Number of dispersion measures that are tried, over all bands."""
        return sum(len(one) for group in self._groups for one in group.chosen)

    @property
    def additions(self) -> float:
        """Additions that dedispersion takes a row of the input."""
        channels, subbands = len(self._tree.subband), len(self._tree.edges) - 1
        return float(sum((channels + len(group.dm) * subbands) / group.rows for group in self._groups))

    @property
    def _groups(self) -> list[Group]:
        return [group for family in self._families for group, _ in family.groups]

    def reduce(self, near: Sequence[White | None], block: int) -> Events:
        """Search one block.

        Parameters
        ----------
        near
            Blocks ``[block - ceil(history / R), block + ceil(lookahead / R)]``; None where there is no data.
        block
            Number of the block.

        Raises
        ------
        ValueError
            If these are not as many blocks as that.
        """
        rows = self._plan.rows_per_block
        before, after = -(-self.history // rows), -(-self.lookahead // rows)
        if len(near) != before + 1 + after:
            raise ValueError(f"block {block} is searched in {before} + 1 + {after} blocks, not in {len(near)}")
        if not any(white is not None and (white.complete or white.share.any()) for white in near):
            return Events.none()
        latest = max(f.rows * (f.latest + _length(rows, self._margin, f.rows)) for f in self._families)
        first = before * rows - self._margin
        kept = _Strongest(self._most)
        self._search(near, (first, first + latest), block, kept)
        return kept.all()

    def _make_families(self) -> list[Family]:
        return self._tree.families(groups(self._plan, self._tree.bands), delay_rows(self._plan))

    def _search(self, near: Sequence[White | None], span: tuple[int, int], block: int, kept: "_Strongest") -> None:
        # The slack at the end takes up the rounding of delays.
        shape = 2, self._plan.channels, _up(span[1] - span[0], _GRAIN) + _GRAIN
        if self._room.shape != shape:
            self._room = np.empty(shape, np.int8)
        window = _Window(near, self._plan.rows_per_block, span[0], self._room, self._rungs, self._workers)
        job = _BlockSearch(self._plan, self._tree, self._margin, block)
        left = iter(self._families)  # whoever is free takes the next one

        def run(_: int, __: int) -> None:
            for family in left:
                for events in job.search(family, window):
                    kept.add(events)

        self._workers.over(self._workers.threads, run)


class _Window:
    """The whitened rows around a block at each time resolution, and what share of them is valid.

    The share is held at a coarser time step, as the largest of its rows, not the mean: at the edge of a gap the mean
    would raise the noise of what is left.
    """

    def __init__(
        self,
        near: Sequence[White | None],
        rows: int,
        first: int,
        room: NDArray[np.int8],
        rungs: Sequence[int],
        workers: Workers,
    ) -> None:
        value, share = room
        channels, length = value.shape
        valid = np.empty((channels, length // SHARE_STEPS), np.int8)
        self.complete = all(white is not None and white.complete for white in near)
        self.rungs = {}

        def join(start: int, stop: int) -> None:
            _join([white.value if white else None for white in near], rows, first, value[start:stop], start)
            if self.complete:
                valid[start:stop] = WHOLE
            else:
                _join([white.share if white else None for white in near], rows, first, share[start:stop], start)
                widest(share[start:stop], SHARE_STEPS, valid[start:stop])

        workers.over(channels, join)
        rung = 1
        while True:
            if rung in rungs:
                self.rungs[rung] = value, valid
            if rung == rungs[-1]:
                return
            value = _halved(value, workers)
            if valid.shape[1] % 2:
                valid = np.pad(valid, ((0, 0), (0, 1)))
            valid = np.maximum(valid[:, ::2], valid[:, 1::2])
            rung *= 2


class _BlockSearch:
    """Searches one block, a family of groups at a time."""

    def __init__(self, plan: Plan, tree: Tree, margin: int, block: int) -> None:
        self._rows = plan.rows_per_block
        self._pulses = plan.settings.pulses
        self._tree = tree
        self._margin = margin
        self._block = block
        self._complete: dict[int, NDArray[np.float32]] = {}

    def length(self, rung: int) -> int:
        """Time steps of dedispersed series."""
        return _length(self._rows, self._margin, rung)

    def search(self, family: Family, window: _Window) -> Iterator[Events]:
        """Yield the events of each group and band."""
        tree = self._tree
        value, _ = window.rungs[family.rows]
        begin = np.stack([track.coarse for _, track in family.groups])
        sums = np.empty((len(begin), len(tree.edges) - 1, self.length(family.rows) + family.spread), np.int16)
        add_channels(value, tree.edges, begin, sums)
        for (group, track), some in zip(family.groups, sums, strict=True):
            yield from self._events(group, track, some, window)

    def _events(self, group: Group, track: Delays, sums: NDArray[np.int16], window: _Window) -> Iterator[Events]:
        tree = self._tree
        scales = self._scales(group, track, window)
        first, count = self._margin // group.rows, -(-self._rows // group.rows)
        boxcars = Boxcars(first, count, self._pulses.widths, self._pulses.snr, _CELL_STEPS)
        found, time, width, snr = track_peaks(
            sums, tree.parts, track.fine, group.tracks, tree.parts_of, scales, boxcars
        )
        if not len(found):
            return
        # A boxcar of one step is centred on the middle of the step, all others between two steps.
        row = (time - first + np.where(width == 1, 0.5, 0.0)) * group.rows
        trial, number = group.tracks[found].T
        mine = row < self._rows
        for band in np.unique(number[mine]).tolist():
            here = np.flatnonzero(mine & (number == band))
            start = time[here] - width[here] // 2
            mine[here] = self._breadth(band, group, track, window, (trial[here], start, width[here], snr[here]))
        yield Events(
            np.float64(self._block * self._rows) + row[mine],
            group.dm[trial[mine]],
            group.apart[found[mine]],
            (width[mine] * group.rows).astype(np.int32),
            snr[mine],
            number[mine].astype(np.int32),
        )

    def _breadth(
        self, number: int, group: Group, track: Delays, window: _Window, boxcars: tuple[NDArray[Any], ...]
    ) -> NDArray[np.bool_]:
        # The track of a bright pulse crosses tracks of wrong dispersion measures in a few channels.
        band = self._tree.bands[number]
        channels = slice(band.start, band.stop)
        value, valid = window.rungs[group.rows]
        delays = track.coarse[channels] + track.fine[:, self._tree.subband[channels]]
        left = breadth(value[channels], valid[channels], SHARE_STEPS, delays, _PART, *boxcars)
        return np.asarray(left >= _LEAST_LEFT)

    def _scales(self, group: Group, track: Delays, window: _Window) -> NDArray[np.float32]:
        # Of each band and time; where no data are missing they are those of the time resolution.
        if window.complete and group.rows in self._complete:
            return self._complete[group.rows]
        tree, steps = self._tree, -(-self.length(group.rows) // SHARE_STEPS)
        # Channels that are summed, [part, time].
        total = np.empty((len(tree.channels), steps), np.float32)
        sums = np.empty((1, len(tree.edges) - 1, steps), np.int16)
        add_channels(window.rungs[group.rows][1], tree.edges, track.whole[None], sums)
        add_subbands(sums[0], tree.parts, np.zeros((1, sums.shape[1]), np.int64), total[None])
        total /= WHOLE
        # Trials are up to half a spread from the middle one: the most of the steps that they may mean, lest noise be
        # taken for less than it is.
        for _ in range(1 + math.ceil(int(track.fine.max()) / 2 / SHARE_STEPS)):
            total[:, 1:-1] = np.maximum(np.maximum(total[:, :-2], total[:, 2:]), total[:, 1:-1])
        shares = [
            _scale(total[slice(*parts)].sum(axis=0), band.stop - band.start)
            for band, parts in zip(tree.bands, tree.parts_of, strict=True)
        ]
        scales = np.ascontiguousarray(np.repeat(shares, SHARE_STEPS, axis=1)[:, : self.length(group.rows)])
        if window.complete:
            self._complete[group.rows] = scales
        return scales


def _halved(value: NDArray[np.int8], workers: Workers) -> NDArray[np.int8]:
    out = np.empty((len(value), value.shape[1] // 2), np.int8)
    workers.over(len(value), lambda start, stop: halve(value[start:stop], out[start:stop]))
    return out


def _join(parts: Sequence[NDArray[np.int8] | None], rows: int, first: int, out: NDArray[np.int8], channel: int) -> None:
    # Rows from the first one on of consecutive blocks, 0 where there is none.
    for number, part in enumerate(parts):
        start, stop = max(number * rows - first, 0), min((number + 1) * rows - first, out.shape[1])
        if start < stop:
            at = first + start - number * rows
            out[:, start:stop] = 0 if part is None else part[channel : channel + len(out), at : at + stop - start]
    out[:, max(len(parts) * rows - first, 0) :] = 0


def _scale(total: NDArray[np.float32], channels: int) -> NDArray[np.float32]:
    enough = total >= max(_LEAST_SHARE * channels, min(_LEAST_CHANNELS, channels / 2))
    return np.where(enough, np.float32(1 / COUNTS) / np.sqrt(np.where(enough, total, 1)), np.float32(0))


class _Strongest:
    """The strongest events that threads find: the same in whatever order they come."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._parts: list[Events] = []
        self._count = 0
        self._lock = threading.Lock()

    def add(self, events: Events) -> None:
        if len(events) or events.guarded:
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


def _length(rows: int, margin: int, rung: int) -> int:
    # Time steps of dedispersed series.
    return 2 * (margin // rung) + -(-rows // rung)
