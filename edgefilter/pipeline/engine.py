"""The one engine behind all doors: raw windows in, products kept."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from edgefilter.core.chunk import Chunk
from edgefilter.core.errors import EdgefilterError, GpuError
from edgefilter.core.plan import Plan
from edgefilter.core.reduced_block import ReducedBlock
from edgefilter.core.version import __version__
from edgefilter.pipeline.backend import BackendSelector
from edgefilter.pipeline.product_builder import ProductBuilder
from edgefilter.pipeline.reducer import Reducer
from edgefilter.products.base import Product
from edgefilter.products.naming import config_product, stream_product
from edgefilter.products.tables import PulseRow
from edgefilter.products.totals import RunTotals

StoreProducts = Callable[[Sequence[Product], int, RunTotals], None]
"""Keeps products durably: those of a block, the first block whose products are not kept then, and the block's sums."""


ReadSamples = Callable[[int, int], Chunk | None]
"""Reads raw samples ``[start, stop)`` without waiting; None where they are not there, or nothing is."""


@dataclass(frozen=True, slots=True)
class BlockSummary:
    """What a run tells about a block whose products are kept."""

    block: int
    expected: int
    received: int
    flagged_fraction: float
    pulses: tuple[PulseRow, ...]


class Engine:
    """Reduces windows of a stream and has their products kept.

    Parameters
    ----------
    plan
        Layout of the reduction.
    store_products
        Where products go, block by block; the stream's header and the settings go there first.
    node
        Name of the node.
    backend_selector
        What reduces.
    first_block, stream_first_block
        As :class:`~edgefilter.pipeline.reducer.Reducer` takes them.
    totals
        Sums to go on with.

    Attributes
    ----------
    reducer
        Says which window is fed next: after a card has failed, one that was fed before.
    finished
        Whether all is reduced and kept: once :meth:`finish` has been called and no card failed on the way.
    """

    def __init__(
        self,
        plan: Plan,
        store_products: StoreProducts,
        node: str,
        backend_selector: BackendSelector = BackendSelector(),  # noqa: B008 - frozen
        first_block: int = 0,
        stream_first_block: int = 0,
        totals: RunTotals | None = None,
    ) -> None:
        self._plan = plan
        notices: list[tuple[str, str]] = []
        self._backend_selector = replace(backend_selector, on_change=lambda *notice: notices.append(notice))
        self._store_products = store_products
        self._product_builder = ProductBuilder(plan, node, __version__)
        self._next = max(first_block, stream_first_block)
        self._stream_first_block = stream_first_block
        self._prefetched: Chunk | None = None
        self.finished = False
        self._backend = self._backend_selector.create_backend(plan)
        with self._fall_back_on_error():
            self.reducer = Reducer(plan, self._backend, first_block, stream_first_block)
        self.totals = RunTotals() if totals is None else totals
        store_products(
            (stream_product(plan.stream), config_product(plan.settings)),
            max(first_block, stream_first_block),
            RunTotals(),
        )
        # Told when there is where to keep products: who cannot begin says why, and nothing else.
        self._backend_selector = backend_selector
        for notice in notices:
            backend_selector.on_change(*notice)

    def window(self, read: ReadSamples) -> Chunk | None:
        """Read the window that is to be fed next; the one that was read ahead, if it is that."""
        prefetched, self._prefetched = self._prefetched, None
        bounds = self.reducer.window(self.reducer.next_input_block)
        return prefetched if prefetched is not None and (prefetched.start, prefetched.stop) == bounds else read(*bounds)

    def feed(
        self,
        raw: Chunk,
        still_valid: Callable[[], bool] = lambda: True,
        read_ahead: ReadSamples = lambda _start, _stop: None,
    ) -> list[BlockSummary]:
        """Reduce the next window; return the blocks whose products are kept thereafter.

        Parameters
        ----------
        raw, still_valid
            As :meth:`~edgefilter.pipeline.reducer.Reducer.feed` takes them.
        read_ahead
            Reads the window after this one, if it is there: a card takes it while it reduces this one.
        """
        return self._store_blocks(self._reduce_block(raw, still_valid, read_ahead))

    def _reduce_block(
        self, raw: Chunk, still_valid: Callable[[], bool], read_ahead: ReadSamples
    ) -> Iterator[ReducedBlock]:
        if self._backend.overlaps_transfers:
            self._backend.start_upload(raw.data)
            with suppress(EdgefilterError):  # will come again when it is that window's turn
                self._prefetched = read_ahead(*self.reducer.window(self.reducer.next_input_block + 1))
            if self._prefetched is not None:
                self._backend.start_upload(self._prefetched.data)
        yield from self.reducer.feed(raw, still_valid)

    def finish(self) -> list[BlockSummary]:
        """Reduce what is left when no window follows; if :attr:`finished` is not set then, some do."""
        self.finished = True
        return self._store_blocks(self.reducer.finish())

    def _store_blocks(self, blocks: Iterable[ReducedBlock]) -> list[BlockSummary]:
        summaries: list[BlockSummary] = []
        with self._fall_back_on_error():
            for reduced_block in blocks:
                summaries.append(self._store_block(reduced_block))
                self._next = reduced_block.block + 1
        return summaries

    @contextmanager
    def _fall_back_on_error(self) -> Iterator[None]:
        """Where a card fails, have the processor begin at the first block whose products are not kept (law 1).

        Raises
        ------
        GpuError
            If nothing is to take the card's place.
        """
        try:
            yield
        except self._backend.device_errors as error:
            reason = f"the card has failed: {type(error).__name__}: {' '.join(str(error).split())}"
            if self._backend_selector.backend != "auto" or not self._backend_selector.fall_back_to_threads:
                raise GpuError(reason) from error
            failed = self._backend
            self._backend = self._backend_selector.use_threads(f"from block {self._next} on: {reason}")
            self.reducer = Reducer(self._plan, self._backend, self._next, self._stream_first_block)
            self.finished = False
            failed.close()

    def _store_block(self, reduced_block: ReducedBlock) -> BlockSummary:
        block_products = self._product_builder.build(reduced_block)
        row = block_products.ledger
        block_totals = RunTotals()
        for totals in (block_totals, self.totals):
            totals.add(
                row,
                block_products.pulses,
                sum(len(product.content) for product in block_products.products),
                reduced_block.near_threshold,
            )
        self._store_products(block_products.products, reduced_block.block + 1, block_totals)
        flagged = sum(row.cells_flagged.values()) / row.cells if row.cells else 0.0
        return BlockSummary(
            reduced_block.block, row.samples.expected, row.samples.received, flagged, block_products.pulses
        )

    def close(self) -> None:
        """End the threads."""
        self._backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
