"""Reduction of a recording, with the engine of live streams: the products are the same."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from edgefilter.core.chunk import Chunk
from edgefilter.core.config import Reduction
from edgefilter.core.plan import Plan, resolve
from edgefilter.pipeline.backend import BackendSelector
from edgefilter.pipeline.engine import Engine
from edgefilter.products.base import Product
from edgefilter.products.totals import BlockSummary, RunTotals
from edgefilter.sources.base import Source
from edgefilter.store.base import Store
from edgefilter.store.connect import connect


class Replay:
    """Reduces a source into a store.

    Parameters
    ----------
    source
        Samples of the recording.
    settings
        Settings; a value of None follows from the source.
    store
        Directory, ``file://`` URL or ``s3://BUCKET/PREFIX``; created with the first product.
    node
        Name of the node, part of the path of every product.
    backend_selector
        Selects the processor or a GPU.

    Attributes
    ----------
    plan
        Layout of the reduction.
    totals
        Totals and strongest candidates so far.

    Raises
    ------
    ConfigError
        If the settings do not fit the source, or the backend is not available; then no store is created.
    StoreError
        If the store cannot be created or written.
    """

    def __init__(
        self,
        source: Source,
        settings: Reduction,
        store: str | Path,
        node: str = "node",
        backend_selector: BackendSelector = BackendSelector(),  # noqa: B008 - frozen
    ) -> None:
        self._source = source
        self.plan = Plan(source.stream, resolve(settings, source.stream, source.samples), source.packages)
        self._store_location = store
        self._store: Store | None = None
        self.totals = RunTotals()
        self._engine = Engine(self.plan, self._store_products, node, backend_selector)

    def run(self) -> Iterator[int]:
        """Reduce all blocks.

        Yields
        ------
        int
            After each block, the number of samples reduced so far.

        Raises
        ------
        StoreError
            If the store cannot be written.
        """
        with self._engine as engine:
            while not engine.finished:
                raw = engine.window(self._read)
                if raw is None:
                    engine.finish()
                else:
                    engine.feed(raw, read_ahead=self._read)
                    yield min(raw.stop, self._source.samples)

    def _store_products(self, products: Sequence[Product], _next_block: int, summary: BlockSummary) -> None:
        if self._store is None:
            self._store = connect(self._store_location, create=True)
        for product in products:
            self._store.put(product)
        self.totals.add(summary)

    def _read(self, start: int, stop: int) -> Chunk | None:
        return self._source.read(start, stop) if stop - self.plan.samples_per_block < self._source.samples else None
