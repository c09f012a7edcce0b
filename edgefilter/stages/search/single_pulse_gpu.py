"""The single-pulse search on a card: hundreds of trials in a few launches, of which only the peaks come back.

Whitened bytes, time resolutions and sums along tracks are those of the CPU, bit for bit. S/N, and what an event leaves
without its strongest part of the band, differ by the rounding of sums in another order: an event within 1e-5 of the
threshold may be found by one of them alone, and of two boxcars of a cell of time as near to each other, each may report
another one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefilter.compute.gpu import Card
from edgefilter.core.plan import Plan
from edgefilter.stages.search import single_pulse as on_cpu
from edgefilter.stages.search.dm_plan import delay_rows, groups
from edgefilter.stages.search.normalise import White
from edgefilter.stages.search.single_pulse import Events, Search
from edgefilter.stages.search.subbands import SHARE_STEPS, Family, Tree
from edgefilter_kernels.cuda.raw import namespace
from edgefilter_kernels.cuda.search.batch import Tables, search_batch
from edgefilter_kernels.cuda.search.dedisperse import add_along, places
from edgefilter_kernels.cuda.search.normalise import halve, widest
from edgefilter_kernels.search.boxcar import Boxcars
from edgefilter_kernels.search.normalise import WHOLE

GUARD = 1e-5
"""Relative to the threshold: a S/N that is no further from it may lie on the other side on the CPU.

So may what an event leaves without its strongest part of the band: near the least that it must leave, a part p of the
band changes it by the relative change of the S/N times ``1 - p`` less that least, here by half as much.
"""

SERIES_BYTES = 1 << 28
"""Of DM-time plane that are in the card's memory at a time."""

_MOST_TRIALS = 65535  # in a launch: CUDA's limit of a grid's third axis


class CardSearch(Search):
    """As :class:`~edgefilter.stages.search.single_pulse.Search`, of whitened blocks that are on a card.

    Parameters
    ----------
    plan
        Layout.
    card
        The card.
    """

    def __init__(self, plan: Plan, card: Card) -> None:
        super().__init__(plan, card)
        self._card = card
        self._on_card: list[FamilyOnCard] = []

    def _make_families(self) -> list[Family]:
        # As many groups together as fit into memory.
        found = groups(self._plan, self._tree.bands)
        trial = 4 * self._plan.rows_per_block * (len(self._tree.parts) - 1)
        most = max(len(group.dm) for group in found)
        together = min(SERIES_BYTES // trial, _MOST_TRIALS)
        return self._tree.families(found, delay_rows(self._plan), max(together // most, 1))

    def _search(self, near: Sequence[White | None], span: tuple[int, int], block: int, kept: on_cpu._Strongest) -> None:
        pulses, rows = self._plan.settings.pulses, self._plan.rows_per_block
        complete = all(white is not None and white.complete for white in near)
        rungs = self._window(near, span, complete)
        if not self._on_card:
            self._on_card = [self._laid_out(family, rungs[family.rows][0].shape[1]) for family in self._families]
        for family, on_card in zip(self._families, self._on_card, strict=True):
            rung = family.rows
            first = self._margin // rung
            least = pulses.snr * (1 - GUARD)
            boxcars = Boxcars(first, -(-rows // rung), pulses.widths, least, on_cpu._CELL_STEPS)
            peaks = on_card.search(*rungs[rung], complete, boxcars, on_cpu._PART)
            # A boxcar of one step is centred on the middle of the step, all others between two steps.
            row = (peaks.time - first + np.where(peaks.width == 1, 0.5, 0.0)) * rung
            mine = (row < rows) & (peaks.left >= on_cpu._LEAST_LEFT - GUARD)
            close = (abs(peaks.snr / pulses.snr - 1) <= GUARD) | (peaks.left <= on_cpu._LEAST_LEFT + GUARD)
            guarded = int(np.count_nonzero(mine & close))
            mine &= (peaks.left >= on_cpu._LEAST_LEFT) & (peaks.snr >= pulses.snr)
            item = peaks.item[mine]
            kept.add(
                Events(
                    np.float64(block * rows) + row[mine],
                    on_card.dm[item],
                    on_card.step[item],
                    peaks.width[mine] * rung,
                    peaks.snr[mine],
                    on_card.band[item],
                    guarded=guarded,
                )
            )

    def _laid_out(self, family: Family, times: int) -> "FamilyOnCard":
        length = on_cpu._length(self._plan.rows_per_block, self._margin, family.rows)
        return FamilyOnCard(family, self._tree, times, length, self._card)

    def _window(
        self, near: Sequence[White | None], span: tuple[int, int], complete: bool
    ) -> dict[int, tuple[Any, Any]]:
        # Values and shares of the rows around the block at each time resolution, as in the search on the CPU.
        rows, length = self._plan.rows_per_block, on_cpu._up(span[1] - span[0], on_cpu._GRAIN) + on_cpu._GRAIN
        value = self._card.empty((self._plan.channels, length), np.int8)
        valid = self._card.empty((self._plan.channels, length // SHARE_STEPS), np.int8)
        on_cpu._join([white.value if white else None for white in near], rows, span[0], value, 0)
        if complete:
            valid[:] = WHOLE
        else:
            share = self._card.empty(value.shape, np.int8)
            on_cpu._join([white.share if white else None for white in near], rows, span[0], share, 0)
            widest(share, SHARE_STEPS, valid)
        rungs = {1: (value, valid)}
        for rung in range(1, self._rungs[-1]):
            if rung in rungs:
                value, valid = rungs[rung]
                coarse = self._card.empty((len(value), value.shape[1] // 2), np.int8)
                halve(value, coarse)
                rungs[2 * rung] = coarse, np.maximum(valid[:, ::2], valid[:, 1::2])
        return rungs


@dataclass(frozen=True, slots=True)
class Peaks:
    """What was found in the series of a family, ``[peak]``, in no order.

    Parameters
    ----------
    item
        int32: which trial in which band, see :class:`FamilyOnCard`.
    time, width
        int32, time steps.
    snr
        float32.
    left
        float64: fraction of the signal outside its strongest part of the band.
    """

    item: NDArray[np.int32]
    time: NDArray[np.int32]
    width: NDArray[np.int32]
    snr: NDArray[np.float32]
    left: NDArray[np.float64]


class FamilyOnCard:
    """A family with its tables on a card: searches the window there, and brings back the peaks.

    Parameters
    ----------
    family, tree
        What is searched. The larger the family, the fewer launches.
    times
        Time steps of the window.
    length
        Time steps of the dedispersed series.
    card
        The card.

    Attributes
    ----------
    dm, step, band
        float64, float64 and int32 ``[item]``: a trial, the distance to the next one, and a band that it is searched in.

    Raises
    ------
    ValueError
        If a track leaves the window.
    """

    def __init__(self, family: Family, tree: Tree, times: int, length: int, card: Card) -> None:
        self._card, self._tree = card, tree
        self._size = length, family.spread
        subbands, steps = len(tree.edges) - 1, -(-length // SHARE_STEPS)
        tracks = [track for _, track in family.groups]
        coarse, whole = (np.stack([getattr(track, name) for track in tracks]) for name in ("coarse", "whole"))
        latest = int(coarse.max()) + sum(self._size), int(whole.max()) + steps
        if latest[0] > times or latest[1] > times // SHARE_STEPS or min(coarse.min(), whole.min()) < 0:
            raise ValueError(f"tracks reach times {latest}, the window has {times}")
        fine = [track.fine + number * subbands * sum(self._size) for number, track in enumerate(tracks)]
        rows, self.dm, self.step, self.band = _items(family, tree)
        delays = np.concatenate([track.coarse + track.fine[:, tree.subband] for track in tracks])
        begin = places(coarse, times), places(np.concatenate(fine), sum(self._size))
        tables = tree.edges, tree.parts, *begin, delays, rows
        self._tables = Tables(*(card.put(table) for table in tables))
        # Of the shares: a track a group, in steps that have one share, and sub-bands that follow it.
        self._whole = card.put(places(whole, times // SHARE_STEPS))
        self._flat = card.put(np.arange(len(tracks) * subbands).reshape(len(tracks), subbands) * steps)
        # Trials are up to half a spread from the middle one.
        turns = [1 + math.ceil(int(track.fine.max()) / 2 / SHARE_STEPS) for track in tracks]
        self._turns, self._most = card.put(np.array(turns)[:, None, None]), max(turns)
        self._complete: Any = None

    def search(self, value: Any, valid: Any, complete: bool, boxcars: Boxcars, part: float) -> Peaks:
        """Search a window.

        Parameters
        ----------
        value, valid
            int8 ``[channel, time]`` and ``[channel, time // SHARE_STEPS]`` on the card: whitened power and its share.
        complete
            Whether all shares are whole.
        boxcars, part
            As the kernels take them.
        """
        scales = self._complete if complete and self._complete is not None else self._scales(valid)
        if complete:
            self._complete = scales
        found, left = search_batch(value, valid, scales, SHARE_STEPS, self._tables, self._size, boxcars, part)
        count = int(found.filled[0])
        item, time, width, bits = self._card.get(found.table[:, :count])
        return Peaks(item, time, width, bits.view(np.float32), self._card.get(left[:count]))

    def _scales(self, valid: Any) -> Any:
        # Factors [group and band, step] that give the sum of the valid channels unit variance.
        xp, tree, tables = namespace(valid), self._tree, self._tables
        groups, subbands = self._flat.shape
        steps = -(-self._size[0] // SHARE_STEPS)
        sums = xp.empty((groups, subbands, steps), np.int16)
        add_along("add_channels", valid, tables.edges, self._whole, sums)
        total = xp.empty((groups, len(tree.channels), steps), np.float32)
        add_along("add_subbands", sums, tables.parts, self._flat, total)
        total /= WHOLE
        for turn in range(self._most):
            inner = total[..., 1:-1]
            most = xp.maximum(xp.maximum(total[..., :-2], total[..., 2:]), inner)
            inner[:] = xp.where(turn < self._turns, most, inner)
        scales = [
            on_cpu._scale(total[:, slice(*parts)].sum(axis=1), band.stop - band.start)
            for band, parts in zip(tree.bands, tree.parts_of, strict=True)
        ]
        return xp.stack(scales, axis=1).reshape(-1, steps)


def _items(
    family: Family, tree: Tree
) -> tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.float64], NDArray[np.int32]]:
    # Items of all trials in all bands, as the kernels take them; dispersion measure, step and band of each.
    rows, known, first = [], [], 0
    for number, (group, _) in enumerate(family.groups):
        for b, (band, parts, chosen) in enumerate(zip(tree.bands, tree.parts_of, group.chosen, strict=True)):
            same = (*parts, number * len(tree.bands) + b, band.start, band.stop)
            rows.append(np.column_stack([first + chosen, np.tile(same, (len(chosen), 1))]))
            known.append(np.stack([group.dm[chosen], group.step[b], np.full(len(chosen), float(b))]))
        first += len(group.dm)
    dm, step, of = np.concatenate(known, axis=1)
    return np.concatenate(rows).astype(np.int32), dm, step, of.astype(np.int32)
