"""The engine that the node, the command line and the notebook share: raw windows in, stored products out."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

from edgefilter.core.chunk import Chunk
from edgefilter.core.closing import Closing
from edgefilter.core.errors import EdgefilterError, GpuError
from edgefilter.core.plan import Plan
from edgefilter.core.reduced_block import ReducedBlock
from edgefilter.core.version import __version__
from edgefilter.pipeline.backend import BackendSelector
from edgefilter.pipeline.product_builder import ProductBuilder
from edgefilter.pipeline.reducer import Reducer
from edgefilter.products.base import Product
from edgefilter.products.naming import config_product, stream_product
from edgefilter.products.totals import BlockSummary, summarise

StoreProducts = Callable[[Sequence[Product], int, BlockSummary], None]
"""Stores the products of a block durably. The number is that of the next block, the first that is not stored then."""


ReadSamples = Callable[[int, int], Chunk | None]
"""Reads raw samples ``[start, stop)`` without waiting; None if they are not there yet, or the stream has ended."""


class Engine(Closing):
    """Reduces windows of a stream and has their products stored.

    Parameters
    ----------
    plan
        Layout of the reduction.
    store_products
        Called for every block in order; first of all with the stream's header and the settings.
    node
        Name of the node.
    backend_selector
        Chooses the processor or a GPU.
    first_block, stream_first_block
        See :class:`~edgefilter.pipeline.reducer.Reducer`.

    Attributes
    ----------
    reducer
        Tells which window comes next. After a GPU has failed, that may be one that was fed before.
    finished
        Whether all blocks are reduced and stored: after :meth:`finish`, if no GPU failed on the way.
    """

    def __init__(
        self,
        plan: Plan,
        store_products: StoreProducts,
        node: str,
        backend_selector: BackendSelector = BackendSelector(),  # noqa: B008 - frozen
        first_block: int = 0,
        stream_first_block: int = 0,
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
        store_products(
            (stream_product(plan.stream), config_product(plan.settings)),
            max(first_block, stream_first_block),
            BlockSummary(),
        )
        # Reported only now, when the store is known to work: a run that cannot start prints one line, the reason.
        self._backend_selector = backend_selector
        for notice in notices:
            backend_selector.on_change(*notice)

    def window(self, read: ReadSamples) -> Chunk | None:
        """Get the window that is to be fed next.

        Parameters
        ----------
        read
            Reads it, unless it was read ahead.

        Returns
        -------
        Chunk or None
            None if it cannot be read yet, or the stream has ended.
        """
        prefetched, self._prefetched = self._prefetched, None
        bounds = self.reducer.window(self.reducer.next_input_block)
        return prefetched if prefetched is not None and (prefetched.start, prefetched.stop) == bounds else read(*bounds)

    def feed(
        self,
        raw: Chunk,
        still_valid: Callable[[], bool] = lambda: True,
        read_ahead: ReadSamples = lambda _start, _stop: None,
    ) -> None:
        """Reduce the next window and store the blocks that it completes.

        Parameters
        ----------
        raw, still_valid
            See :meth:`~edgefilter.pipeline.reducer.Reducer.feed`.
        read_ahead
            Reads the window after this one if it is there: a GPU receives it while it reduces this one.
        """
        self._store_blocks(self._reduce_block(raw, still_valid, read_ahead))

    def _reduce_block(
        self, raw: Chunk, still_valid: Callable[[], bool], read_ahead: ReadSamples
    ) -> Iterator[ReducedBlock]:
        if self._backend.overlaps_transfers:
            self._backend.start_upload(raw.data)
            with suppress(EdgefilterError):  # raised again when this window is fed
                self._prefetched = read_ahead(*self.reducer.window(self.reducer.next_input_block + 1))
            if self._prefetched is not None:
                self._backend.start_upload(self._prefetched.data)
        yield from self.reducer.feed(raw, still_valid)

    def finish(self) -> None:
        """Reduce and store the remaining blocks when no window follows.

        If a GPU fails here, :attr:`finished` is not set, and windows are to be fed again.
        """
        self.finished = True
        self._store_blocks(self.reducer.finish())

    def _store_blocks(self, blocks: Iterable[ReducedBlock]) -> None:
        with self._fall_back_on_error():
            for reduced_block in blocks:
                self._store_block(reduced_block)
                self._next = reduced_block.block + 1

    @contextmanager
    def _fall_back_on_error(self) -> Iterator[None]:
        """If a GPU fails, let the processor continue at the first block that is not stored (law 1).

        Raises
        ------
        GpuError
            If the processor is not to take over.
        """
        try:
            yield
        except self._backend.device_errors as error:
            reason = f"the GPU has failed: {type(error).__name__}: {' '.join(str(error).split())}"
            if self._backend_selector.backend != "auto" or not self._backend_selector.fall_back_to_threads:
                raise GpuError(reason) from error
            failed = self._backend
            self._backend = self._backend_selector.use_threads(f"from block {self._next} on: {reason}")
            self.reducer = Reducer(self._plan, self._backend, self._next, self._stream_first_block)
            self.finished = False
            failed.close()

    def _store_block(self, reduced_block: ReducedBlock) -> None:
        made = self._product_builder.build(reduced_block)
        summary = summarise(made.ledger, made.pulses, reduced_block.near_threshold)
        self._store_products(made.products, reduced_block.block + 1, summary)

    def close(self) -> None:
        """End the threads."""
        self._backend.close()
