"""The one engine behind all doors: raw windows in, products kept."""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from edgefilter.cells import FLAGGERS, flag_name
from edgefilter.chunk import Chunk
from edgefilter.harvest import Harvester
from edgefilter.plan import Plan
from edgefilter.products import Product
from edgefilter.products.naming import config_product, stream_product
from edgefilter.products.tables import LedgerRow, PulseRow
from edgefilter.reducer import ReducedBlock, Reducer
from edgefilter.store.base import Store
from edgefilter.version import __version__
from edgefilter.workers import Workers

_REMEMBERED = 1000

Keep = Callable[[Sequence[Product], int], None]
"""Keeps products durably; its second argument is the first block whose products are not kept then."""


def into(store: Store) -> Keep:
    """Keep products in a store, each by itself: where no cursor is needed."""

    def keep(products: Sequence[Product], _: int) -> None:
        for product in products:
            store.put(product)

    return keep


@dataclass(slots=True)
class Tally:
    """Sums over the blocks of a run, and its strongest candidates (at most 1000 of them)."""

    blocks: int = 0
    expected: int = 0
    received: int = 0
    lost: dict[str, int] = field(default_factory=dict)
    cells: int = 0
    cells_lost: int = 0
    flagged: dict[str, int] = field(default_factory=lambda: {flag_name(flag): 0 for flag in FLAGGERS})
    cells_discarded: int = 0
    cells_kept: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    candidates: int = 0
    overflow: int = 0
    _strongest: list[tuple[float, int, PulseRow]] = field(default_factory=list)

    def add(self, row: LedgerRow, pulses: tuple[PulseRow, ...], bytes_out: int) -> None:
        """Add a block."""
        self.blocks += 1
        self.expected += row.samples.expected
        self.received += row.samples.received
        for reason, count in row.samples.lost.items():
            self.lost[reason.value] = self.lost.get(reason.value, 0) + count
        self.cells += row.cells
        self.cells_lost += row.cells_lost
        for flag, count in row.cells_flagged.items():
            self.flagged[flag_name(flag)] += count
        self.cells_discarded += row.cells_discarded
        self.cells_kept += row.cells_kept
        self.bytes_in += row.bytes_in
        self.bytes_out += bytes_out
        self.overflow += row.candidates_overflow
        for pulse in pulses:
            self.candidates += 1
            heapq.heappush(self._strongest, (pulse.snr, -self.candidates, pulse))
            if len(self._strongest) > _REMEMBERED:
                heapq.heappop(self._strongest)

    def strongest(self, count: int) -> list[PulseRow]:
        """Return the strongest candidates, best first."""
        return [pulse for _, _, pulse in heapq.nlargest(count, self._strongest)]


@dataclass(frozen=True, slots=True)
class ReducedSummary:
    """What a run tells about a block whose products are kept."""

    block: int
    expected: int
    received: int
    flagged_fraction: float
    pulses: tuple[PulseRow, ...]
    row: LedgerRow
    bytes_out: int


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
    threads
        Worker threads, 0 for one a core.
    first_block, stream_block
        As :class:`~edgefilter.reducer.Reducer` takes them.
    tally
        Sums to go on with.
    """

    def __init__(
        self,
        plan: Plan,
        keep: Keep,
        node: str,
        threads: int = 0,
        first_block: int = 0,
        stream_block: int = 0,
        tally: Tally | None = None,
    ) -> None:
        self._workers = Workers(threads)
        self._keep_products = keep
        self._harvester = Harvester(plan, node, __version__)
        self.reducer = Reducer(plan, self._workers, first_block, stream_block)
        self.tally = Tally() if tally is None else tally
        keep((stream_product(plan.stream), config_product(plan.settings)), max(first_block, stream_block))

    def feed(self, raw: Chunk, intact: Callable[[], bool] = lambda: True) -> list[ReducedSummary]:
        """Reduce the next window; return the blocks whose products are kept thereafter.

        ``intact`` is what :meth:`~edgefilter.reducer.Reducer.feed` takes.
        """
        return [self._keep(done) for done in self.reducer.feed(raw, intact)]

    def finish(self) -> list[ReducedSummary]:
        """Reduce what is left when no window follows."""
        return [self._keep(done) for done in self.reducer.finish()]

    def _keep(self, done: ReducedBlock) -> ReducedSummary:
        harvest = self._harvester.harvest(done)
        self._keep_products(harvest.products, done.block + 1)
        row = harvest.ledger
        bytes_out = sum(len(product.content) for product in harvest.products)
        self.tally.add(row, harvest.pulses, bytes_out)
        flagged = sum(row.cells_flagged.values()) / row.cells if row.cells else 0.0
        samples = row.samples
        return ReducedSummary(done.block, samples.expected, samples.received, flagged, harvest.pulses, row, bytes_out)

    def close(self) -> None:
        """End the threads."""
        self._workers.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
