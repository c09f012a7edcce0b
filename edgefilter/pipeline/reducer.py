"""The reducer: raw windows of a stream in, pulses and the account of each block out.

::

    raw ─▶ front ─▶ flag ─▶ integrate ─┬─▶ baseline ─▶ normalise ─▶ search ─▶ cluster ─┬─▶ cut-outs, ledger
           (channelise | unpack)       └───────────────────────────────────────────────┘

What a recorder wrote in the place of lost samples is marked before all else. Everything here is counted in blocks. Some
stages need blocks before and after the block that they work on; a
:class:`~edgefilter.pipeline.block_history.BlockHistory` holds them. The products of a block depend on these windows and
on nothing else, so a reducer that starts a few blocks early at any block makes the same products from there on (law 1).
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from edgefilter.compute.gpu import GpuBackend
from edgefilter.compute.threads import ThreadBackend
from edgefilter.core.cells import Rows
from edgefilter.core.chunk import Chunk, Loss, SampleAccount
from edgefilter.core.plan import Plan
from edgefilter.core.reduced_block import IntegratedBlock, ReducedBlock
from edgefilter.pipeline.block_history import BlockHistory
from edgefilter.pipeline.plugin_stages import PluginStages
from edgefilter.stages.filterbank.channelise import input_stage
from edgefilter.stages.filterbank.filled import mark_filled
from edgefilter.stages.filterbank.integrate import Integrator
from edgefilter.stages.rfi.stage import FlagStage
from edgefilter.stages.search.baseline import BaselineEstimator, NodeStatistics
from edgefilter.stages.search.cluster import BlockPulses, EventSifter
from edgefilter.stages.search.cutouts import CutoutPlanner
from edgefilter.stages.search.events import Events
from edgefilter.stages.search.normalise import NormalisedBlock, Normaliser
from edgefilter.stages.search.normalise_gpu import GpuNormaliser
from edgefilter.stages.search.single_pulse import SinglePulseSearch
from edgefilter.stages.search.single_pulse_gpu import GpuSinglePulseSearch


class Reducer:
    """Reduces the blocks of one stream, in order.

    Parameters
    ----------
    plan
        Layout of the reduction.
    compute
        Runs the kernels.
    first_block
        The first block whose products are wanted.
    stream_first_block
        The first block of the stream.
    """

    def __init__(self, plan: Plan, compute: ThreadBackend, first_block: int = 0, stream_first_block: int = 0) -> None:
        self.plan = plan
        self._backend_name = compute.backend
        self._front = input_stage(plan, compute)
        self._flag = FlagStage(plan, compute)
        self._integrate = Integrator(plan, compute)
        gpu = compute if isinstance(compute, GpuBackend) else None
        self._normaliser = GpuNormaliser(plan, gpu) if gpu else Normaliser(plan, compute)
        self._search = GpuSinglePulseSearch(plan, gpu) if gpu else SinglePulseSearch(plan, compute)
        self._cluster = EventSifter(plan)
        self._cutout_planner = CutoutPlanner(plan)
        self._plugin_stages = PluginStages(plan, compute)
        rows = plan.rows_per_block
        self._normalise_history_blocks = -(-self._normaliser.history // rows)
        self._baseline = BaselineEstimator(plan, compute, self._normalise_history_blocks)
        self._search_history_blocks = -(-self._search.history // rows)
        self._search_lookahead_blocks = -(-self._search.lookahead // rows)
        begin = max(stream_first_block, first_block - self.history_blocks)
        self._reduced: BlockHistory[tuple[SampleAccount, IntegratedBlock]] = BlockHistory(begin)
        self._recent_rows: BlockHistory[Rows] = BlockHistory(begin)  # as kernels take them, for normalising
        self._nodes: BlockHistory[NodeStatistics] = BlockHistory(begin)
        self._normalised: BlockHistory[NormalisedBlock] = BlockHistory(begin)
        self._events: BlockHistory[Events] = BlockHistory(begin)
        self._pulses: BlockHistory[BlockPulses] = BlockHistory(begin)
        self._next = max(first_block, stream_first_block)
        self._finished = False

    @property
    def history_blocks(self) -> int:
        """Blocks before the first wanted one that must be read again to make the same products."""
        search = self._baseline.blocks_before + self._search_history_blocks + 1 + self._cutout_planner.blocks_after
        return max(search, self._cutout_planner.blocks_before, self._plugin_stages.blocks_before)

    @property
    def latency_blocks(self) -> int:
        """Blocks that must have arrived after a block before its products are made."""
        return max(
            self._baseline.blocks_after + self._search_lookahead_blocks + 2,
            self._cutout_planner.blocks_after,
            self._plugin_stages.blocks_after,
        )

    @property
    def next_input_block(self) -> int:
        """Number of the block that :meth:`feed` takes next."""
        return self._reduced.next

    def window(self, block: int) -> tuple[int, int]:
        """Return the raw samples that :meth:`feed` needs for a block.

        Parameters
        ----------
        block
            Number of the block.

        Returns
        -------
        tuple of int
            Samples ``[start, stop)``; start is negative for the first block if the filter reaches back.
        """
        length = self.plan.samples_per_block
        return block * length - self._front.history, (block + 1) * length

    def feed(self, raw: Chunk, still_valid: Callable[[], bool] = lambda: True) -> Iterator[ReducedBlock]:
        """Reduce the raw window of block :attr:`next_input_block`.

        Parameters
        ----------
        raw
            The window.
        still_valid
            Called when the samples are no longer needed: False if they changed meanwhile, as in a ring that was
            overrun. The window then counts as not fed, and is to be read and fed again.

        Yields
        ------
        ReducedBlock
            The blocks that this window completes.

        Raises
        ------
        ValueError
            If the chunk is not that window.
        """
        block = self.next_input_block
        if (raw.start, raw.stop) != self.window(block):
            raise ValueError(f"chunk [{raw.start}, {raw.stop}) is not the window {self.window(block)} of block {block}")
        raw = mark_filled(raw, self.plan.stream)
        length = self.plan.samples_per_block
        samples = raw.account(block * length, (block + 1) * length)
        rows, fetch_reduced = self._integrate_block(raw, block)
        if still_valid():
            self._recent_rows.append(rows)
            self._nodes.append(self._baseline.measure(rows))
            self._search_ready_blocks()
            self._reduced.append((samples, fetch_reduced()))  # copied from a GPU meanwhile
            yield from self._advance()

    def finish(self) -> Iterator[ReducedBlock]:
        """Reduce the blocks that wait for a next one, when none follows.

        Yields
        ------
        ReducedBlock
            The remaining blocks.
        """
        self._finished = True
        yield from self._advance()

    def _integrate_block(self, raw: Chunk, block: int) -> tuple[Rows, Callable[[], IntegratedBlock]]:
        cells = self._front.reduce(raw)
        self._flag.reduce(cells)
        return self._integrate.begin(cells, *self._cells_in_stream(raw, block))

    def _cells_in_stream(self, raw: Chunk, block: int) -> tuple[int, int]:
        """Return the range of cells all of whose samples belong to the stream."""
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

    def _search_ready_blocks(self) -> None:
        while self._normalised.next < self._nodes.next and self._is_available(
            self._nodes.next, self._normalised.next + self._baseline.blocks_after
        ):
            self._normalised.append(self._normalise_block(self._normalised.next))
        while self._is_available(self._normalised.next, self._events.next + self._search_lookahead_blocks) and (
            self._events.next < self._normalised.next
        ):
            self._events.append(self._search_block(self._events.next))

    def _advance(self) -> Iterator[ReducedBlock]:
        self._search_ready_blocks()
        while self._is_available(self._events.next, self._pulses.next + 1) and self._pulses.next < self._events.next:
            block = self._pulses.next
            here = self._events.get(block)
            assert here is not None
            self._pulses.append(
                self._cluster.reduce(self._events.get(block - 1), here, self._events.get(block + 1), block)
            )
        while (
            self._next < self._pulses.next
            and self._is_available(self._pulses.next, self._next + self._cutout_planner.blocks_before)
            and self._is_available(self._reduced.next, self._next + self._cutout_planner.blocks_after)
            and self._is_available(self._reduced.next, self._next + self._plugin_stages.blocks_after)
        ):
            yield self._assemble_block(self._next)
            self._next += 1
        self._drop_history()

    def _is_available(self, next_block: int, block: int) -> bool:
        return self._finished or block < next_block

    def _rows(self, start: int, stop: int) -> list[Rows | None]:
        return [item and item[1].rows for item in self._reduced.window(start, stop)]

    def _search_block(self, block: int) -> Events:
        return self._search.reduce(
            self._normalised.window(block - self._search_history_blocks, block + self._search_lookahead_blocks + 1),
            block,
        )

    def _normalise_block(self, block: int) -> NormalisedBlock:
        here, first = self._recent_rows.get(block), block - self._baseline.blocks_before
        assert here is not None
        if self._normalise_history_blocks:
            nearby = self._recent_rows.window(block - self._normalise_history_blocks, block + 1)
            here = Rows.join(nearby, here.start - self._normaliser.history, here.stop, here)
        nodes = self._nodes.window(first, block + self._baseline.blocks_after + 1)
        return self._normaliser.reduce(self._baseline.remove(here, nodes, first))

    def _assemble_block(self, block: int) -> ReducedBlock:
        item, found, events = self._reduced.get(block), self._pulses.get(block), self._events.get(block)
        assert item is not None
        assert found is not None
        samples, reduced = item
        rows = self._rows(block - self._cutout_planner.blocks_before, block + self._cutout_planner.blocks_after + 1)
        nearby_pulses = self._pulses.window(
            block - self._cutout_planner.blocks_after, block + self._cutout_planner.blocks_before + 1
        )
        kept_blocks = [nearby.pulses for nearby in nearby_pulses if nearby is not None]
        stages = self._plugin_stages
        nearby_rows = self._rows(block - stages.blocks_before, block + stages.blocks_after + 1)
        return ReducedBlock(
            block,
            samples,
            reduced,
            self._cutout_planner.cutout_cells(kept_blocks, reduced.rows),
            self._cutout_planner.keep(found.pulses, rows, reduced.rows),
            found.overflow,
            found.rejected,
            self._backend_name,
            replace(reduced.near_threshold, events=events.near_threshold if events is not None else 0),
            stages.reduce(block, nearby_rows, reduced.rows),
        )

    def _drop_history(self) -> None:
        self._events.drop_before(min(self._pulses.next - 1, self._next))
        self._pulses.drop_before(self._next - self._cutout_planner.blocks_after)
        self._normalised.drop_before(self._events.next - self._search_history_blocks)
        self._recent_rows.drop_before(self._normalised.next - self._normalise_history_blocks)
        self._nodes.drop_before(self._normalised.next - self._baseline.blocks_before)
        self._reduced.drop_before(
            self._next - max(self._cutout_planner.blocks_before, self._plugin_stages.blocks_before)
        )


def count_cells(block: ReducedBlock) -> int:
    """Count the cells of a block after detection: the left side of the second balance.

    Parameters
    ----------
    block
        The block.

    Returns
    -------
    int
        Time-channel cells.
    """
    reduced = block.integrated
    return int(np.sum(reduced.good) + np.sum(reduced.occupancy))
