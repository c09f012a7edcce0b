"""The one engine behind all doors: raw windows in, products kept."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from edgefilter.core.chunk import Chunk
from edgefilter.core.errors import CardError, EdgefilterError
from edgefilter.core.plan import Plan
from edgefilter.core.version import __version__
from edgefilter.pipeline.backend import Compute
from edgefilter.pipeline.product_builder import Harvester
from edgefilter.pipeline.reducer import ReducedBlock, Reducer
from edgefilter.products.base import Product
from edgefilter.products.naming import config_product, stream_product
from edgefilter.products.tables import PulseRow
from edgefilter.products.totals import Tally

Keep = Callable[[Sequence[Product], int, Tally], None]
"""Keeps products durably: those of a block, the first block whose products are not kept then, and the block's sums."""


Read = Callable[[int, int], Chunk | None]
"""Reads raw samples ``[start, stop)`` without waiting; None where they are not there, or nothing is."""


@dataclass(frozen=True, slots=True)
class ReducedSummary:
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
    keep
        Where products go, block by block; the stream's header and the settings go there first.
    node
        Name of the node.
    compute
        What reduces.
    first_block, stream_block
        As :class:`~edgefilter.pipeline.reducer.Reducer` takes them.
    tally
        Sums to go on with.

    Attributes
    ----------
    reducer
        Says which window is fed next: after a card has failed, one that was fed before.
    ended
        Whether all is reduced and kept: once :meth:`finish` has been called and no card failed on the way.
    """

    def __init__(
        self,
        plan: Plan,
        keep: Keep,
        node: str,
        compute: Compute = Compute(),  # noqa: B008 - frozen
        first_block: int = 0,
        stream_block: int = 0,
        tally: Tally | None = None,
    ) -> None:
        self._plan = plan
        told: list[tuple[str, str]] = []
        self._compute = replace(compute, tell=lambda *what: told.append(what))
        self._keep_products = keep
        self._harvester = Harvester(plan, node, __version__)
        self._next = max(first_block, stream_block)
        self._stream_block = stream_block
        self._early: Chunk | None = None
        self.ended = False
        self._workers = self._compute.workers(plan)
        with self._while_it_works():
            self.reducer = Reducer(plan, self._workers, first_block, stream_block)
        self.tally = Tally() if tally is None else tally
        keep((stream_product(plan.stream), config_product(plan.settings)), max(first_block, stream_block), Tally())
        # Told when there is where to keep products: who cannot begin says why, and nothing else.
        self._compute = compute
        for what in told:
            compute.tell(*what)

    def window(self, read: Read) -> Chunk | None:
        """Read the window that is to be fed next; the one that was read ahead, if it is that."""
        early, self._early = self._early, None
        wanted = self.reducer.window(self.reducer.next_raw)
        return early if early is not None and (early.start, early.stop) == wanted else read(*wanted)

    def feed(
        self, raw: Chunk, intact: Callable[[], bool] = lambda: True, ahead: Read = lambda _start, _stop: None
    ) -> list[ReducedSummary]:
        """Reduce the next window; return the blocks whose products are kept thereafter.

        Parameters
        ----------
        raw, intact
            As :meth:`~edgefilter.pipeline.reducer.Reducer.feed` takes them.
        ahead
            Reads the window after this one, if it is there: a card takes it while it reduces this one.
        """
        return self._kept(self._reduced(raw, intact, ahead))

    def _reduced(self, raw: Chunk, intact: Callable[[], bool], ahead: Read) -> Iterator[ReducedBlock]:
        if self._workers.ahead:
            self._workers.stage(raw.data)
            with suppress(EdgefilterError):  # will come again when it is that window's turn
                self._early = ahead(*self.reducer.window(self.reducer.next_raw + 1))
            if self._early is not None:
                self._workers.stage(self._early.data)
        yield from self.reducer.feed(raw, intact)

    def finish(self) -> list[ReducedSummary]:
        """Reduce what is left when no window follows; if :attr:`ended` is not set then, some do."""
        self.ended = True
        return self._kept(self.reducer.finish())

    def _kept(self, blocks: Iterable[ReducedBlock]) -> list[ReducedSummary]:
        kept: list[ReducedSummary] = []
        with self._while_it_works():
            for done in blocks:
                kept.append(self._keep(done))
                self._next = done.block + 1
        return kept

    @contextmanager
    def _while_it_works(self) -> Iterator[None]:
        """Where a card fails, have the processor begin at the first block whose products are not kept (law 1).

        Raises
        ------
        CardError
            If nothing is to take the card's place.
        """
        try:
            yield
        except self._workers.failures as error:
            why = f"the card has failed: {type(error).__name__}: {' '.join(str(error).split())}"
            if self._compute.backend != "auto" or not self._compute.falls_back:
                raise CardError(why) from error
            failed = self._workers
            self._workers = self._compute.processor(f"from block {self._next} on: {why}")
            self.reducer = Reducer(self._plan, self._workers, self._next, self._stream_block)
            self.ended = False
            failed.close()

    def _keep(self, done: ReducedBlock) -> ReducedSummary:
        harvest = self._harvester.harvest(done)
        row = harvest.ledger
        own = Tally()
        for tally in (own, self.tally):
            tally.add(row, harvest.pulses, sum(len(product.content) for product in harvest.products), done.guarded)
        self._keep_products(harvest.products, done.block + 1, own)
        flagged = sum(row.cells_flagged.values()) / row.cells if row.cells else 0.0
        return ReducedSummary(done.block, row.samples.expected, row.samples.received, flagged, harvest.pulses)

    def close(self) -> None:
        """End the threads."""
        self._workers.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
