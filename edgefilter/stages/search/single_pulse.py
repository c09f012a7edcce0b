"""Single-pulse search: from normalised blocks to events above the threshold."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefilter.compute.threads import ThreadBackend
from edgefilter.core.plan import Plan
from edgefilter.stages.search.dm_plan import TSCRUNCH_FACTORS, TrialGroup, delay_rows, plan_trial_groups
from edgefilter.stages.search.events import Events, StrongestEvents
from edgefilter.stages.search.normalise import NormalisedBlock
from edgefilter.stages.search.occupancy import EventOccupancy
from edgefilter.stages.search.sift import BlockSifter
from edgefilter.stages.search.subbands import WEIGHT_STEPS, GroupBatch, GroupDelays, SubbandTree
from edgefilter.stages.search.window import BlockRows, SearchWindow, Window
from edgefilter_kernels.search.band_occupancy import band_occupancy
from edgefilter_kernels.search.boxcar import Boxcars, dedispersed_peaks
from edgefilter_kernels.search.dedisperse import add_channels, add_subbands
from edgefilter_kernels.search.normalise import COUNTS_PER_SIGMA, FULL_WEIGHT

EVENTS_PER_CANDIDATE = 100
"""Events of a block that are kept for each candidate that may be kept: a pulse shows in many trials."""

_MIN_VALID_FRACTION = 0.1  # of the band's channels: a sum over fewer does not represent the band …
_MIN_VALID_CHANNELS = 8  # … and over fewer (or fewer than half of the band) it is not Gaussian
_PEAK_CELL_STEPS = 32  # time steps of which only the best boxcar becomes an event
# At least a quarter of a pulse's signal must come from outside the strongest quarter of the band. Otherwise it is
# narrow-band interference, or a wrong dispersion measure at which a bright pulse crosses the track in a few channels.
_MIN_REMAINING_FRACTION = 0.25
_ALIGNMENT = TSCRUNCH_FACTORS[-1] * WEIGHT_STEPS


class SinglePulseSearch:
    """Finds dispersed pulses that arrive at the top of the band within a block, one block at a time.

    The events of block k depend on the normalised rows ``[k R - history, (k + 1) R + lookahead)``.

    Parameters
    ----------
    plan
        Layout of the reduction; ``plan.settings.pulses`` configures the search.
    backend
        Threads; their number does not change the result.
    """

    def __init__(self, plan: Plan, backend: ThreadBackend) -> None:
        self._plan = plan
        self._backend = backend
        self._tree = SubbandTree(plan)
        self._batches = self._make_batches()
        self._tscrunch_factors = sorted({batch.rows for batch in self._batches})
        # Half of the widest boxcar on both sides, in whole time steps of every resolution.
        max_width_rows = self._tscrunch_factors[-1] << (plan.settings.pulses.widths - 1)
        self._margin = _round_up(max(max_width_rows // 2, 1), _ALIGNMENT)
        self.history = self._margin
        self.lookahead = plan.sweep_rows(plan.dm_range[1]) + self._margin + 1
        self._max_events = EVENTS_PER_CANDIDATE * plan.settings.pulses.candidates
        self._sifter = BlockSifter(plan)
        self._occupancy = EventOccupancy(plan, self._tree, self._batches, self._margin, self._band_occupancy)
        self._window_buffer = np.empty((2, 0, 0), np.int8)  # kept, because the system clears new memory first

    @property
    def trials(self) -> int:
        """Number of trial dispersion measures, over all bands."""
        return sum(len(one) for group in self._groups for one in group.chosen)

    @property
    def additions(self) -> float:
        """Additions of dedispersion per input row."""
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

        Returns
        -------
        events
            The strongest events of the block, sorted and sifted.

        Raises
        ------
        ValueError
            If the number of blocks is wrong.
        """
        rows = self._plan.rows_per_block
        before, after = -(-self.history // rows), -(-self.lookahead // rows)
        if len(blocks) != before + 1 + after:
            raise ValueError(f"block {block} is searched in {before} + 1 + {after} blocks, got {len(blocks)}")
        if not any(one is not None and (one.complete or one.weight.any()) for one in blocks):
            return Events.join([])
        latest = max(f.rows * (f.latest + _series_length(rows, self._margin, f.rows)) for f in self._batches)
        # One more multiple covers the rounding of delays to time steps.
        length = _round_up(latest, _ALIGNMENT) + _ALIGNMENT
        strongest_events = StrongestEvents(self._max_events)
        block_rows = BlockRows(blocks, rows, before * rows - self._margin)
        tscrunched = self._search(block_rows, length, block, strongest_events)
        events = strongest_events.all()
        near_limit = 0

        def fills_band(event: np.void) -> bool:
            nonlocal near_limit
            excess = self._occupancy.remaining_fraction(event, block, tscrunched) - _MIN_REMAINING_FRACTION
            near_limit += abs(excess) <= self._tolerance
            return excess >= 0.0

        sifted = self._sifter.sift(events, block, fills_band)
        sifted.near_threshold += near_limit
        return sifted

    _tolerance = -1.0  # of the fraction that an event fills: a GPU rounds differently

    def _band_occupancy(self, *arguments: Any) -> NDArray[np.float64]:
        fraction: NDArray[np.float64] = band_occupancy(*arguments)
        return fraction

    def _make_batches(self) -> list[GroupBatch]:
        return self._tree.batches(plan_trial_groups(self._plan, self._tree.bands), delay_rows(self._plan))

    def _search(self, rows: BlockRows, length: int, block: int, strongest_events: StrongestEvents) -> Window:
        shape = 2, self._plan.channels, length
        if self._window_buffer.shape != shape:
            self._window_buffer = np.empty(shape, np.int8)
        window = SearchWindow(rows, self._window_buffer, self._tscrunch_factors, self._backend)
        block_search = _BlockSearch(self._plan, self._tree, self._margin, block)
        remaining = iter(self._batches)  # idle threads take the next one

        def run(_: int, __: int) -> None:
            for batch in remaining:
                for events in block_search.search(batch, window):
                    strongest_events.add(events)

        self._backend.parallel_for(self._backend.threads, run)
        return window.tscrunched


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
        """Return the number of time steps of dedispersed series."""
        return _series_length(self._rows, self._margin, tscrunch)

    def search(self, batch: GroupBatch, window: SearchWindow) -> Iterator[Events]:
        """Yield the events of each group and band."""
        tree = self._tree
        value, _ = window.tscrunched[batch.rows]
        begin = np.stack([group_delays.coarse for _, group_delays in batch.groups])
        sums = np.empty((len(begin), len(tree.edges) - 1, self.length(batch.rows) + batch.spread), np.int16)
        add_channels(value, tree.edges, begin, sums)
        for (group, group_delays), some in zip(batch.groups, sums, strict=True):
            yield from self._events(group, group_delays, some, window)

    def _events(
        self, group: TrialGroup, group_delays: GroupDelays, sums: NDArray[np.int16], window: SearchWindow
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
        row = boxcar_centres(time - first, width) * group.rows
        trial, number = group.trial_bands[found].T
        in_block = row < self._rows
        yield Events.from_columns(
            np.float64(self._block * self._rows) + row[in_block],
            group.dm[trial[in_block]],
            group.dm_steps[found[in_block]],
            width[in_block] * group.rows,
            snr[in_block],
            number[in_block],
        )

    def _scales(self, group: TrialGroup, group_delays: GroupDelays, window: SearchWindow) -> NDArray[np.float32]:
        # Factors [band, time]; without missing data they depend on the time resolution only.
        if window.complete and group.rows in self._full_scales:
            return self._full_scales[group.rows]
        tree, steps = self._tree, -(-self.length(group.rows) // WEIGHT_STEPS)
        # Number of channels in each sum, [part, time].
        total = np.empty((len(tree.channels), steps), np.float32)
        sums = np.empty((1, len(tree.edges) - 1, steps), np.int16)
        add_channels(window.tscrunched[group.rows][1], tree.edges, group_delays.weight_delays[None], sums)
        add_subbands(sums[0], tree.parts, np.zeros((1, sums.shape[1]), np.int64), total[None])
        total /= FULL_WEIGHT
        # The delays of a trial differ from those of the middle one by up to half a spread: take the maximum over the
        # steps that they may cover, so that the noise is not underestimated.
        for _ in range(1 + math.ceil(int(group_delays.fine.max()) / 2 / WEIGHT_STEPS)):
            total[:, 1:-1] = np.maximum(np.maximum(total[:, :-2], total[:, 2:]), total[:, 1:-1])
        # Sums over the parts of each band, as differences of running sums, which are exact: all are multiples of 1/64.
        running = np.zeros((len(total) + 1, steps), np.float64)
        np.cumsum(total, axis=0, out=running[1:])
        first, last = np.asarray(tree.band_parts).T
        channels = np.array([[band.stop - band.start] for band in tree.bands])
        band_scales = noise_scale((running[last] - running[first]).astype(np.float32), channels)
        scales = np.ascontiguousarray(np.repeat(band_scales, WEIGHT_STEPS, axis=1)[:, : self.length(group.rows)])
        if window.complete:
            self._full_scales[group.rows] = scales
        return scales


def boxcar_centres(time: NDArray[Any], width: NDArray[Any]) -> NDArray[np.float64]:
    """Return the centres of boxcars.

    Parameters
    ----------
    time
        Integers ``[boxcar]``: time steps; a boxcar of width w starts ``w // 2`` before.
    width
        Integers ``[boxcar]``: time steps.

    Returns
    -------
    centre
        float64 ``[boxcar]``, time steps: the middle of a step for a boxcar of one step, otherwise between two steps.
    """
    return np.asarray(time + np.where(width == 1, 0.5, 0.0))


def noise_scale(total: NDArray[np.float32], channels: int | NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the factors that give a sum of normalised channels unit variance.

    Parameters
    ----------
    total
        float32 ``[…]``: number of valid channels in the sum.
    channels
        Channels of the band; for several bands an array that broadcasts to ``total``.

    Returns
    -------
    scale
        float32 ``[…]``; 0 where too few channels are valid.
    """
    enough = total >= np.maximum(_MIN_VALID_FRACTION * channels, np.minimum(_MIN_VALID_CHANNELS, channels / 2))
    return np.where(enough, np.float32(1 / COUNTS_PER_SIGMA) / np.sqrt(np.where(enough, total, 1)), np.float32(0))


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def _series_length(rows: int, margin: int, tscrunch: int) -> int:
    # Time steps of dedispersed series: a block and its margins.
    return 2 * (margin // tscrunch) + -(-rows // tscrunch)
