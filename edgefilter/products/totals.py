"""Sums over the blocks of a run, and its strongest candidates."""

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgefilter.core.cells import FLAGGERS, NearThreshold, flag_name
from edgefilter.products.ledger import FLAGGED_COLUMNS, LOST_COLUMNS, REJECTED_COLUMNS, LedgerRow
from edgefilter.products.pulses import PulseRow

_MAX_STRONGEST = 1000
_NAMES = {
    "samples_expected": "expected",
    "samples_received": "received",
    **{column: f"lost.{reason}" for reason, column in LOST_COLUMNS.items()},
    **{column: f"flagged.{flag_name(flag)}" for flag, column in FLAGGED_COLUMNS.items()},
    **{
        name: name
        for name in ("cells", "cells_lost", "cells_discarded", "cells_kept", "bytes_in", "bytes_out", "candidates")
    },
    "candidates_overflow": "overflow",
    **{column: f"rejected.{reason}" for reason, (column, _) in REJECTED_COLUMNS.items()},
}
"""Names of the sums, as ``/status`` and the spool hold them, by the column of the ledger."""


@dataclass(frozen=True, slots=True)
class BlockSummary:
    """What a run adds up over its blocks.

    Parameters
    ----------
    counts
        Counts by name: ``blocks``, ``card_blocks`` (reduced by a GPU), the counts of the ledger (``expected``,
        ``lost.missing``, ``flagged.power``, …), and ``guarded_events``, ``guarded_flags`` and ``guarded_cells`` of
        :class:`~edgefilter.core.cells.NearThreshold`.
    pulses
        The candidates.
    """

    counts: Counter[str] = field(default_factory=Counter)
    pulses: tuple[PulseRow, ...] = ()


def summarise(ledger: LedgerRow, pulses: Sequence[PulseRow], near_threshold: NearThreshold) -> BlockSummary:
    """Count what became of a block.

    Parameters
    ----------
    ledger
        Its row of the ledger.
    pulses
        Its candidates.
    near_threshold
        Decisions of a GPU that the processor may make otherwise.

    Returns
    -------
    BlockSummary
        Its counts, 0 where there is nothing.
    """
    counts = Counter({name: int(ledger[column]) for column, name in _NAMES.items()})
    counts["blocks"] = 1
    counts["card_blocks"] = int(ledger["backend"] == "gpu")
    counts["guarded_events"] = near_threshold.events
    counts["guarded_flags"] = near_threshold.flags
    counts["guarded_cells"] = near_threshold.cells
    return BlockSummary(counts, tuple(pulses))


def flagged_cells(counts: Mapping[str, int]) -> dict[str, int]:
    """Return the flagged cells by the flagger that flagged them first.

    Parameters
    ----------
    counts
        Sums of :class:`BlockSummary`.

    Returns
    -------
    dict
        Cells by the name of the flagger, in the order of the ledger.
    """
    return {flag_name(flag): counts.get(f"flagged.{flag_name(flag)}", 0) for flag in FLAGGERS}


class RunTotals:
    """Sums over a run, and at most 1000 of its candidates, the strongest.

    Attributes
    ----------
    counts
        Sums of :class:`BlockSummary`.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._strongest: list[tuple[float, int, PulseRow]] = []
        self._pulses = 0

    def add(self, block: BlockSummary) -> None:
        """Add a block.

        Parameters
        ----------
        block
            Its counts and candidates.
        """
        self.counts.update(block.counts)
        for pulse in block.pulses:
            self._pulses += 1
            heapq.heappush(self._strongest, (pulse.snr, -self._pulses, pulse))
            if len(self._strongest) > _MAX_STRONGEST:
                heapq.heappop(self._strongest)

    def strongest(self, count: int) -> list[PulseRow]:
        """Return the strongest candidates.

        Parameters
        ----------
        count
            How many at the most.

        Returns
        -------
        list of PulseRow
            Best first.
        """
        return [pulse for _, _, pulse in heapq.nlargest(count, self._strongest)]
