"""Sums over the blocks of a run."""

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from edgefilter.core.cells import FLAGGERS, NONE_NEAR_THRESHOLD, NearThreshold, flag_name

if TYPE_CHECKING:
    from edgefilter.products.tables import LedgerRow, PulseRow

_MAX_STRONGEST = 1000
_SCALAR_TOTALS = (
    "blocks", "expected", "received", "cells", "cells_lost", "cells_discarded", "cells_kept", "bytes_in", "bytes_out",
    "candidates", "overflow", "card_blocks", "guarded_events", "guarded_flags", "guarded_cells",
)  # fmt: skip


@dataclass(slots=True)
class RunTotals:
    """Sums over the blocks of a run, and its strongest candidates (at most 1000 of them).

    ``card_blocks`` are those that a card has reduced; ``guarded_…`` are the
    :class:`~edgefilter.core.cells.NearThreshold` of them.
    """

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
    card_blocks: int = 0
    guarded_events: int = 0
    guarded_flags: int = 0
    guarded_cells: int = 0
    _strongest: "list[tuple[float, int, PulseRow]]" = field(default_factory=list)

    def add(
        self,
        row: "LedgerRow",
        pulses: "tuple[PulseRow, ...]",
        bytes_out: int,
        near_threshold: NearThreshold = NONE_NEAR_THRESHOLD,
    ) -> None:
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
        self.card_blocks += row.backend == "gpu"
        self.guarded_events += near_threshold.events
        self.guarded_flags += near_threshold.flags
        self.guarded_cells += near_threshold.cells
        for pulse in pulses:
            self.candidates += 1
            heapq.heappush(self._strongest, (pulse.snr, -self.candidates, pulse))
            if len(self._strongest) > _MAX_STRONGEST:
                heapq.heappop(self._strongest)

    def strongest(self, count: int) -> "list[PulseRow]":
        """Return the strongest candidates, best first."""
        return [pulse for _, _, pulse in heapq.nlargest(count, self._strongest)]

    def counts(self) -> dict[str, int]:
        """Return all sums as counts, which can be added by name."""
        counts = {name: getattr(self, name) for name in _SCALAR_TOTALS}
        counts |= {f"lost.{name}": count for name, count in self.lost.items()}
        return counts | {f"flagged.{name}": count for name, count in self.flagged.items()}

    @classmethod
    def from_counts(cls, counts: Mapping[str, int]) -> Self:
        """Inverse of :meth:`counts`; the candidates themselves are not known."""
        totals = cls()
        for name, count in counts.items():
            group, dot, key = name.partition(".")
            if dot:
                (totals.lost if group == "lost" else totals.flagged)[key] = count
            elif name in _SCALAR_TOTALS:
                setattr(totals, name, count)
        return totals
