"""Single-pulse search: whitened blocks in, events above the threshold out."""

import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from edgefilter.compute.threads import ThreadBackend
from edgefilter.core.plan import Plan
from edgefilter.stages.search.dm_plan import TSCRUNCH_FACTORS, TrialGroup, delay_rows, plan_trial_groups
from edgefilter.stages.search.normalise import NormalisedBlock
from edgefilter.stages.search.subbands import WEIGHT_STEPS, GroupBatch, GroupDelays, SubbandTree
from edgefilter_kernels.search.band_occupancy import band_occupancy
from edgefilter_kernels.search.boxcar import Boxcars, dedispersed_peaks
from edgefilter_kernels.search.dedisperse import add_channels, add_subbands
from edgefilter_kernels.search.normalise import COUNTS_PER_SIGMA, FULL_WEIGHT, max_pool, tscrunch2

EVENTS_PER_CANDIDATE = 20
"""Events kept of a block for each candidate that may be kept: a pulse shows in many trials."""

_MIN_VALID_FRACTION = 0.1  # of the band's channels, without which a sum says too little about the band …
_MIN_VALID_CHANNELS = 8  # … and the number of valid channels (or half of the band's) that it needs to be Gaussian
_PEAK_CELL_STEPS = 32  # time steps of which only the best boxcar becomes an event
_BAND_FRACTION = 0.25  # of the band: an event must not live on less than about that
_MIN_REMAINING_FRACTION = 0.25  # of an event's signal outside its strongest part of the band
_ALIGNMENT = TSCRUNCH_FACTORS[-1] * WEIGHT_STEPS


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
    near_threshold
        Decisions that another device may have made otherwise; none where they are those to go by.
    """

    row: NDArray[np.float64]
    dm: NDArray[np.float64]
    dm_step: NDArray[np.float64]
    width_rows: NDArray[np.int32]
    snr: NDArray[np.float32]
    band: NDArray[np.int32]
    overflow: int = 0
    near_threshold: int = 0

    def __len__(self) -> int:
        return len(self.row)

    @classmethod
    def empty(cls) -> Self:
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
        overflow, near_threshold = (
            sum(getattr(part, name) for part in parts) for name in ("overflow", "near_threshold")
        )
        return cls(row[order], dm[order], step[order], width[order], snr[order], band[order], overflow, near_threshold)

    def strongest(self, max_events: int) -> Self:
        """Keep the first ``max_events`` events and count the others as overflow."""
        dropped = max(len(self) - max_events, 0)
        return type(self)(
            self.row[:max_events],
            self.dm[:max_events],
            self.dm_step[:max_events],
            self.width_rows[:max_events],
            self.snr[:max_events],
            self.band[:max_events],
            self.overflow + dropped,
            self.near_threshold,
        )


class SinglePulseSearch:
    """Finds dispersed pulses that arrive at the top of the band within a block; one block at a time.

    The events of block k depend on whitened rows ``[k R - history, (k + 1) R + lookahead)``.

    Parameters
    ----------
    plan
        Layout; ``plan.settings.pulses`` rules the search.
    backend
        Threads; they do not change the result.
    """

    def __init__(self, plan: Plan, backend: ThreadBackend) -> None:
        self._plan = plan
        self._backend = backend
        self._tree = SubbandTree(plan)
        self._batches = self._make_batches()
        self._tscrunch_factors = sorted({batch.rows for batch in self._batches})
        # Room for half of the widest boxcar on both sides, in whole time steps of every resolution.
        max_width_rows = self._tscrunch_factors[-1] << (plan.settings.pulses.widths - 1)
        self._margin = _round_up(max(max_width_rows // 2, 1), _ALIGNMENT)
        self.history = self._margin
        self.lookahead = plan.sweep_rows(plan.dm_range[1]) + self._margin + 1
        self._max_events = EVENTS_PER_CANDIDATE * plan.settings.pulses.candidates
        self._window_buffer = np.empty((2, 0, 0), np.int8)  # of the window: kept, for what is new must be cleared first

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
    def _groups(self) -> list[TrialGroup]:
        return [group for batch in self._batches for group, _ in batch.groups]

    def reduce(self, blocks: Sequence[NormalisedBlock | None], block: int) -> Events:
        """Search one block.

        Parameters
        ----------
        blocks
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
        if len(blocks) != before + 1 + after:
            raise ValueError(f"block {block} is searched in {before} + 1 + {after} blocks, not in {len(blocks)}")
        if not any(
            normalised is not None and (normalised.complete or normalised.weight.any()) for normalised in blocks
        ):
            return Events.empty()
        latest = max(f.rows * (f.latest + _series_length(rows, self._margin, f.rows)) for f in self._batches)
        first = before * rows - self._margin
        strongest_events = _StrongestEvents(self._max_events)
        self._search(blocks, (first, first + latest), block, strongest_events)
        return strongest_events.all()

    def _make_batches(self) -> list[GroupBatch]:
        return self._tree.batches(plan_trial_groups(self._plan, self._tree.bands), delay_rows(self._plan))

    def _search(
        self,
        blocks: Sequence[NormalisedBlock | None],
        span: tuple[int, int],
        block: int,
        strongest_events: "_StrongestEvents",
    ) -> None:
        # The slack at the end takes up the rounding of delays.
        shape = 2, self._plan.channels, _round_up(span[1] - span[0], _ALIGNMENT) + _ALIGNMENT
        if self._window_buffer.shape != shape:
            self._window_buffer = np.empty(shape, np.int8)
        window = _SearchWindow(
            blocks, self._plan.rows_per_block, span[0], self._window_buffer, self._tscrunch_factors, self._backend
        )
        job = _BlockSearch(self._plan, self._tree, self._margin, block)
        remaining = iter(self._batches)  # whoever is free takes the next one

        def run(_: int, __: int) -> None:
            for batch in remaining:
                for events in job.search(batch, window):
                    strongest_events.add(events)

        self._backend.parallel_for(self._backend.threads, run)


class _SearchWindow:
    """The whitened rows around a block at each time resolution, and their weights.

    The weight is held at a coarser time step, as the largest of its rows, not the mean: at the edge of a gap the mean
    would raise the noise of what is left.
    """

    def __init__(
        self,
        blocks: Sequence[NormalisedBlock | None],
        rows: int,
        first: int,
        window_buffer: NDArray[np.int8],
        tscrunch_factors: Sequence[int],
        backend: ThreadBackend,
    ) -> None:
        value, weight = window_buffer
        channels, length = value.shape
        valid = np.empty((channels, length // WEIGHT_STEPS), np.int8)
        self.complete = all(normalised is not None and normalised.complete for normalised in blocks)
        self.tscrunched = {}

        def join(start: int, stop: int) -> None:
            _copy_rows(
                [normalised.value if normalised else None for normalised in blocks],
                rows,
                first,
                value[start:stop],
                start,
            )
            if self.complete:
                valid[start:stop] = FULL_WEIGHT
            else:
                _copy_rows(
                    [normalised.weight if normalised else None for normalised in blocks],
                    rows,
                    first,
                    weight[start:stop],
                    start,
                )
                max_pool(weight[start:stop], WEIGHT_STEPS, valid[start:stop])

        backend.parallel_for(channels, join)
        tscrunch = 1
        while True:
            if tscrunch in tscrunch_factors:
                self.tscrunched[tscrunch] = value, valid
            if tscrunch == tscrunch_factors[-1]:
                return
            value = _tscrunch2(value, backend)
            if valid.shape[1] % 2:
                valid = np.pad(valid, ((0, 0), (0, 1)))
            valid = np.maximum(valid[:, ::2], valid[:, 1::2])
            tscrunch *= 2


class _BlockSearch:
    """Searches one block, a batch of groups at a time."""

    def __init__(self, plan: Plan, tree: SubbandTree, margin: int, block: int) -> None:
        self._rows = plan.rows_per_block
        self._pulses = plan.settings.pulses
        self._tree = tree
        self._margin = margin
        self._block = block
        self._full_scales: dict[int, NDArray[np.float32]] = {}

    def length(self, tscrunch: int) -> int:
        """Time steps of dedispersed series."""
        return _series_length(self._rows, self._margin, tscrunch)

    def search(self, batch: GroupBatch, window: _SearchWindow) -> Iterator[Events]:
        """Yield the events of each group and band."""
        tree = self._tree
        value, _ = window.tscrunched[batch.rows]
        begin = np.stack([group_delays.coarse for _, group_delays in batch.groups])
        sums = np.empty((len(begin), len(tree.edges) - 1, self.length(batch.rows) + batch.spread), np.int16)
        add_channels(value, tree.edges, begin, sums)
        for (group, group_delays), some in zip(batch.groups, sums, strict=True):
            yield from self._events(group, group_delays, some, window)

    def _events(
        self, group: TrialGroup, group_delays: GroupDelays, sums: NDArray[np.int16], window: _SearchWindow
    ) -> Iterator[Events]:
        tree = self._tree
        scales = self._scales(group, group_delays, window)
        first, count = self._margin // group.rows, -(-self._rows // group.rows)
        boxcars = Boxcars(first, count, self._pulses.widths, self._pulses.snr, _PEAK_CELL_STEPS)
        found, time, width, snr = dedispersed_peaks(
            sums, tree.parts, group_delays.fine, group.trial_bands, tree.band_parts, scales, boxcars
        )
        if not len(found):
            return
        # A boxcar of one step is centred on the middle of the step, all others between two steps.
        row = (time - first + np.where(width == 1, 0.5, 0.0)) * group.rows
        trial, number = group.trial_bands[found].T
        in_block = row < self._rows
        for band in np.unique(number[in_block]).tolist():
            here = np.flatnonzero(in_block & (number == band))
            start = time[here] - width[here] // 2
            in_block[here] = self._occupies_band(
                band, group, group_delays, window, (trial[here], start, width[here], snr[here])
            )
        yield Events(
            np.float64(self._block * self._rows) + row[in_block],
            group.dm[trial[in_block]],
            group.dm_steps[found[in_block]],
            (width[in_block] * group.rows).astype(np.int32),
            snr[in_block],
            number[in_block].astype(np.int32),
        )

    def _occupies_band(
        self,
        number: int,
        group: TrialGroup,
        group_delays: GroupDelays,
        window: _SearchWindow,
        boxcars: tuple[NDArray[Any], ...],
    ) -> NDArray[np.bool_]:
        # The track of a bright pulse crosses tracks of wrong dispersion measures in a few channels.
        band = self._tree.bands[number]
        channels = slice(band.start, band.stop)
        value, valid = window.tscrunched[group.rows]
        delays = group_delays.coarse[channels] + group_delays.fine[:, self._tree.subband[channels]]
        remaining_fraction = band_occupancy(
            value[channels], valid[channels], WEIGHT_STEPS, delays, _BAND_FRACTION, *boxcars
        )
        return np.asarray(remaining_fraction >= _MIN_REMAINING_FRACTION)

    def _scales(self, group: TrialGroup, group_delays: GroupDelays, window: _SearchWindow) -> NDArray[np.float32]:
        # Of each band and time; where no data are missing they are those of the time resolution.
        if window.complete and group.rows in self._full_scales:
            return self._full_scales[group.rows]
        tree, steps = self._tree, -(-self.length(group.rows) // WEIGHT_STEPS)
        # Channels that are summed, [part, time].
        total = np.empty((len(tree.channels), steps), np.float32)
        sums = np.empty((1, len(tree.edges) - 1, steps), np.int16)
        add_channels(window.tscrunched[group.rows][1], tree.edges, group_delays.weight_delays[None], sums)
        add_subbands(sums[0], tree.parts, np.zeros((1, sums.shape[1]), np.int64), total[None])
        total /= FULL_WEIGHT
        # Trials are up to half a spread from the middle one: the most of the steps that they may mean, lest noise be
        # taken for less than it is.
        for _ in range(1 + math.ceil(int(group_delays.fine.max()) / 2 / WEIGHT_STEPS)):
            total[:, 1:-1] = np.maximum(np.maximum(total[:, :-2], total[:, 2:]), total[:, 1:-1])
        shares = [
            _noise_scale(total[slice(*parts)].sum(axis=0), band.stop - band.start)
            for band, parts in zip(tree.bands, tree.band_parts, strict=True)
        ]
        scales = np.ascontiguousarray(np.repeat(shares, WEIGHT_STEPS, axis=1)[:, : self.length(group.rows)])
        if window.complete:
            self._full_scales[group.rows] = scales
        return scales


def _tscrunch2(value: NDArray[np.int8], backend: ThreadBackend) -> NDArray[np.int8]:
    out = np.empty((len(value), value.shape[1] // 2), np.int8)
    backend.parallel_for(len(value), lambda start, stop: tscrunch2(value[start:stop], out[start:stop]))
    return out


def _copy_rows(
    parts: Sequence[NDArray[np.int8] | None], rows: int, first: int, out: NDArray[np.int8], channel: int
) -> None:
    # Rows from the first one on of consecutive blocks, 0 where there is none.
    for number, part in enumerate(parts):
        start, stop = max(number * rows - first, 0), min((number + 1) * rows - first, out.shape[1])
        if start < stop:
            at = first + start - number * rows
            out[:, start:stop] = 0 if part is None else part[channel : channel + len(out), at : at + stop - start]
    out[:, max(len(parts) * rows - first, 0) :] = 0


def _noise_scale(total: NDArray[np.float32], channels: int) -> NDArray[np.float32]:
    enough = total >= max(_MIN_VALID_FRACTION * channels, min(_MIN_VALID_CHANNELS, channels / 2))
    return np.where(enough, np.float32(1 / COUNTS_PER_SIGMA) / np.sqrt(np.where(enough, total, 1)), np.float32(0))


class _StrongestEvents:
    """The strongest events that threads find: the same in whatever order they come."""

    def __init__(self, max_events: int) -> None:
        self._max_events = max_events
        self._parts: list[Events] = []
        self._count = 0
        self._lock = threading.Lock()

    def add(self, events: Events) -> None:
        if len(events) or events.near_threshold:
            with self._lock:
                self._parts.append(events)
                self._count += len(events)
                if self._count > 4 * self._max_events:
                    self._parts = [self.all()]
                    self._count = len(self._parts[0])

    def all(self) -> Events:
        return Events.join(self._parts).strongest(self._max_events)


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def _series_length(rows: int, margin: int, tscrunch: int) -> int:
    # Time steps of dedispersed series.
    return 2 * (margin // tscrunch) + -(-rows // tscrunch)
