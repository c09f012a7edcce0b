"""The reducer: raw blocks in, what was found and the account out.

::

    raw ─▶ front ─▶ flag ─▶ integrate ─┬─▶ whiten ─▶ search ─▶ cluster ─┬─▶ cut-outs, ledger
           (channelise | unpack)       └────────────────────────────────┘

Everything here is counted in blocks. A stage asks for blocks before and after the one it works on; :class:`Track` holds
them. What a block's products depend on is the sum of these windows and nothing else, so a reducer that starts at any
block, a few blocks early, yields the same products from there on (law 1).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import zip_longest

import numpy as np

from edgefilter.compute.gpu import Card
from edgefilter.compute.threads import Workers
from edgefilter.core.cells import UNGUARDED, Guarded, Rows
from edgefilter.core.chunk import Chunk, Loss, SampleAccount
from edgefilter.core.plan import Plan
from edgefilter.pipeline.block_history import Track
from edgefilter.stages.filterbank.channelise import front
from edgefilter.stages.filterbank.integrate import Integrate, Reduced
from edgefilter.stages.rfi.stage import FlagStage
from edgefilter.stages.search.cluster import Cluster, Pulse, Pulses
from edgefilter.stages.search.cutouts import Keep
from edgefilter.stages.search.normalise import White, Whiten
from edgefilter.stages.search.normalise_gpu import CardWhiten
from edgefilter.stages.search.single_pulse import Events, Search
from edgefilter.stages.search.single_pulse_gpu import CardSearch


@dataclass(frozen=True, slots=True)
class Kept:
    """A pulse, and the rows of its cut-out if it has one; pulses that share a cut-out have the same.

    ``unused`` is the fraction of the cells under its track that were lost or flagged.
    """

    pulse: Pulse
    unused: float
    rows: Rows | None


@dataclass(frozen=True, slots=True)
class ReducedBlock:
    """All that is left of a block.

    Parameters
    ----------
    block
        Its number.
    samples
        The balance of its samples.
    reduced
        Spectrum, good cells and flag occupancy. Its rows are kept no longer than the windows ask.
    kept_cells
        Good cells that lie in cut-outs, of this block's pulses or another's.
    pulses
        Pulses that arrive at the top of the band in this block, strongest first.
    overflow
        Candidates that the bounded buffers could not take.
    backend
        What reduced it, as :class:`~edgefilter.compute.threads.Workers` calls it.
    guarded
        Decisions that another device may have made otherwise.
    """

    block: int
    samples: SampleAccount
    reduced: Reduced
    kept_cells: int
    pulses: tuple[Kept, ...]
    overflow: int
    backend: str = Workers.backend
    guarded: Guarded = UNGUARDED


class Reducer:
    """Reduces the blocks of one stream, in order.

    Parameters
    ----------
    plan
        Layout of the reduction.
    workers
        Threads for the kernels.
    first_block
        The first block whose products are wanted.
    stream_block
        The first block of the stream; nothing lies before it.
    """

    def __init__(self, plan: Plan, workers: Workers, first_block: int = 0, stream_block: int = 0) -> None:
        self.plan = plan
        self._backend = workers.backend
        self._front = front(plan, workers)
        self._flag = FlagStage(plan, workers)
        self._integrate = Integrate(plan, workers)
        card = workers if isinstance(workers, Card) else None
        self._whiten = CardWhiten(plan, card) if card else Whiten(plan, workers)
        self._search = CardSearch(plan, card) if card else Search(plan, workers)
        self._cluster = Cluster(plan)
        self._keep = Keep(plan)
        rows = plan.rows_per_block
        self._white_before = -(-self._whiten.history // rows)
        self._search_before = -(-self._search.history // rows)
        self._search_after = -(-self._search.lookahead // rows)
        begin = max(stream_block, first_block - self.history_blocks)
        self._reduced: Track[tuple[SampleAccount, Reduced]] = Track(begin)
        self._near: Track[Rows] = Track(begin)  # as kernels take them: what whitening looks back to
        self._white: Track[White] = Track(begin)
        self._events: Track[Events] = Track(begin)
        self._pulses: Track[Pulses] = Track(begin)
        self._next = max(first_block, stream_block)
        self._ended = False

    @property
    def history_blocks(self) -> int:
        """Blocks before the first wanted one that must be read again for the same products."""
        return self._white_before + self._search_before + 1 + self._keep.after

    @property
    def latency_blocks(self) -> int:
        """Blocks after a block that must have come before its products are made."""
        return max(self._search_after + 2, self._keep.after)

    @property
    def next_raw(self) -> int:
        """Number of the block that :meth:`feed` takes next."""
        return self._reduced.next

    def window(self, block: int) -> tuple[int, int]:
        """Raw samples ``[start, stop)`` that :meth:`feed` takes for a block."""
        length = self.plan.samples_per_block
        return block * length - self._front.history, (block + 1) * length

    def feed(self, raw: Chunk, intact: Callable[[], bool] = lambda: True) -> Iterator[ReducedBlock]:
        """Take the raw window of block :attr:`next_raw`, yield the blocks that it completes.

        Parameters
        ----------
        raw
            The window.
        intact
            Asked once the samples are no longer needed: were they the same all the time? If not, as where a ring
            was overrun, nothing has happened: the window is to be read and fed again.

        Raises
        ------
        ValueError
            If the chunk is not that window.
        """
        block = self.next_raw
        if (raw.start, raw.stop) != self.window(block):
            raise ValueError(f"chunk [{raw.start}, {raw.stop}) is not the window {self.window(block)} of block {block}")
        length = self.plan.samples_per_block
        samples = raw.account(block * length, (block + 1) * length)
        rows, rest = self._integrated(raw, block)
        if intact():
            self._near.append(rows)
            self._white.append(self._whitened(block, rows))
            self._search_on()
            self._reduced.append((samples, rest()))  # comes from a card meanwhile
            yield from self._advance()

    def finish(self) -> Iterator[ReducedBlock]:
        """Say that no block follows; yield what is left."""
        self._ended = True
        yield from self._advance()

    def _integrated(self, raw: Chunk, block: int) -> tuple[Rows, Callable[[], Reduced]]:
        cells = self._front.reduce(raw)
        self._flag.reduce(cells)
        return self._integrate.begin(cells, *self._extent(raw, block))

    def _extent(self, raw: Chunk, block: int) -> tuple[int, int]:
        """Cells of the block all of whose samples belong to the stream, as a range."""
        start, stop = self.plan.samples_per_block * block, self.plan.samples_per_block * (block + 1)
        first, last = start, stop
        for gap in raw.gaps:
            if gap.reason is Loss.OUTSIDE:
                if gap.start <= first:
                    first = max(first, gap.stop)
                if gap.stop >= last:
                    last = min(last, gap.start)
        cell = self.plan.samples_per_cell
        first_cell = -((start - first) // cell)
        last_cell = max(first_cell, (last - start) // cell)
        return first_cell, last_cell

    def _search_on(self) -> None:
        while self._has(self._white.next, self._events.next + self._search_after) and (
            self._events.next < self._white.next
        ):
            self._events.append(self._find(self._events.next))

    def _advance(self) -> Iterator[ReducedBlock]:
        self._search_on()
        while self._has(self._events.next, self._pulses.next + 1) and self._pulses.next < self._events.next:
            block = self._pulses.next
            here = self._events.get(block)
            assert here is not None
            self._pulses.append(
                self._cluster.reduce(self._events.get(block - 1), here, self._events.get(block + 1), block)
            )
        while (
            self._next < self._pulses.next
            and self._has(self._pulses.next, self._next + self._keep.before)
            and self._has(self._reduced.next, self._next + self._keep.after)
        ):
            yield self._complete(self._next)
            self._next += 1
        self._forget()

    def _has(self, next_block: int, block: int) -> bool:
        return self._ended or block < next_block

    def _rows(self, start: int, stop: int) -> list[Rows | None]:
        return [item and item[1].rows for item in self._reduced.window(start, stop)]

    def _find(self, block: int) -> Events:
        return self._search.reduce(
            self._white.window(block - self._search_before, block + self._search_after + 1), block
        )

    def _whitened(self, block: int, here: Rows) -> White:
        if not self._white_before:
            return self._whiten.reduce(here)
        near = self._near.window(block - self._white_before, block + 1)
        return self._whiten.reduce(Rows.join(near, here.start - self._whiten.history, here.stop, here))

    def _complete(self, block: int) -> ReducedBlock:
        item, found, events = self._reduced.get(block), self._pulses.get(block), self._events.get(block)
        assert item is not None
        assert found is not None
        samples, reduced = item
        rows = self._rows(block - self._keep.before, block + self._keep.after + 1)
        wanted = self._keep.cutouts(found.pulses[: self.plan.settings.pulses.cutouts])
        cutouts = {region: Rows.join(rows, region.start, region.stop, reduced.rows) for region in set(wanted)}
        kept = [
            Kept(pulse, self._keep.unused_fraction(pulse, rows, reduced.rows), cutouts[region] if region else None)
            for pulse, region in zip_longest(found.pulses, wanted)
        ]
        regions = [
            self._keep.region(pulse)
            for near in self._pulses.window(block - self._keep.after, block + self._keep.before + 1)
            if near is not None
            for pulse in near.pulses[: self.plan.settings.pulses.cutouts]
        ]
        overflow = found.overflow + (events.overflow if events is not None else 0)
        return ReducedBlock(
            block,
            samples,
            reduced,
            self._keep.kept_cells(regions, reduced.rows),
            tuple(kept),
            overflow,
            self._backend,
            replace(reduced.guarded, events=events.guarded if events is not None else 0),
        )

    def _forget(self) -> None:
        self._events.drop_before(min(self._pulses.next - 1, self._next))
        self._pulses.drop_before(self._next - self._keep.after)
        self._white.drop_before(self._events.next - self._search_before)
        self._near.drop_before(self._white.next - self._white_before)
        self._reduced.drop_before(self._next - self._keep.before)


def cells_in(block: ReducedBlock) -> int:
    """Cells of a block after detection: what the second balance adds up to."""
    reduced = block.reduced
    return int(np.sum(reduced.good) + np.sum(reduced.occupancy))
