"""The ledger as a balance: how many samples and cells were expected, and where they went."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from edgefilter.core.cells import flag_name
from edgefilter.core.html import data_table
from edgefilter.products.ledger import FLAGGED_COLUMNS, LOST_COLUMNS, REJECTED_COLUMNS


@dataclass(frozen=True, slots=True)
class BalanceTerm:
    """One term of a balance: its name, its count, and the description of its column in the ledger."""

    name: str
    count: int
    meaning: str


@dataclass(frozen=True, slots=True)
class Balance:
    """A total, and the terms that must add up to it exactly."""

    whole: int
    parts: tuple[BalanceTerm, ...]

    @property
    def missing(self) -> int:
        """Total minus the sum of the terms: 0, or the ledger is wrong."""
        return self.whole - sum(part.count for part in self.parts)


class LedgerBalance:
    """The two balances of a ledger, of samples and of time-channel cells.

    Parameters
    ----------
    table
        Rows of the ledger, or sums of them as :meth:`edgefilter.store.reader.StoreReader.account` returns them.
    """

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __getitem__(self, name: str) -> int:
        """Return the sum of a column of counts of the ledger, or of ``blocks``.

        Raises
        ------
        KeyError
            If there is no such column.
        """
        return int(pc.sum(self.table.column(name)).as_py() or 0)

    @cached_property
    def sample_balance(self) -> Balance:
        """Expected samples: received, and lost by reason."""
        lost = [self._term(column, f"lost: {reason}") for reason, column in LOST_COLUMNS.items()]
        return Balance(self["samples_expected"], (self._term("samples_received", "received"), *lost))

    @cached_property
    def cell_balance(self) -> Balance:
        """Time-channel cells: lost, flagged by flagger, discarded, kept."""
        flagged = [self._term(column, f"flagged: {flag_name(flag)}") for flag, column in FLAGGED_COLUMNS.items()]
        return Balance(
            self["cells"],
            (
                self._term("cells_lost", "lost"),
                *flagged,
                self._term("cells_discarded", "integrated and discarded"),
                self._term("cells_kept", "kept in cut-outs"),
            ),
        )

    @cached_property
    def rejected(self) -> tuple[BalanceTerm, ...]:
        """Events of the pulse search that are no candidates, by reason."""
        return tuple(self._term(column, str(reason)) for reason, (column, _) in REJECTED_COLUMNS.items())

    @property
    def samples(self) -> Mapping[str, int]:
        """Counts of samples: ``received``, and ``lost: REASON`` for each reason."""
        return {part.name: part.count for part in self.sample_balance.parts}

    @property
    def cells(self) -> Mapping[str, int]:
        """Counts of cells: ``lost``, ``flagged: FLAGGER``, ``integrated and discarded``, ``kept in cut-outs``."""
        return {part.name: part.count for part in self.cell_balance.parts}

    @property
    def reduction(self) -> float:
        """Bytes received over bytes of products beside the ledger; infinite if there are no products."""
        out = self["bytes_out"]
        return self["bytes_in"] / out if out else float("inf")

    @property
    def holds(self) -> bool:
        """Whether both balances hold exactly."""
        return not self.sample_balance.missing and not self.cell_balance.missing

    def _term(self, column: str, name: str) -> BalanceTerm:
        metadata = self.table.schema.field(column).metadata or {}
        return BalanceTerm(name, self[column], metadata.get(b"description", b"").decode())

    def __str__(self) -> str:
        return "\n".join(
            f"{title}: {balance.whole} = "
            + " + ".join(f"{part.count} {part.name}" for part in balance.parts if part.count)
            for title, balance in (("samples", self.sample_balance), ("cells", self.cell_balance))
        )

    __repr__ = __str__

    def _repr_html_(self) -> str:
        shown = []
        for title, balance in (("samples expected", self.sample_balance), ("cells", self.cell_balance)):
            shown.append((title, f"{balance.whole:,}", "100 %"))
            shown += [
                (
                    f"{'+' if at else '='} {part.name}",
                    f"{part.count:,}",
                    f"{100 * part.count / max(balance.whole, 1):.4g} %",
                )
                for at, part in enumerate(balance.parts)
                if part.count or at == 0
            ]
        note = (
            f"{self['bytes_in']:,} bytes in, {self['bytes_out']:,} bytes of products beside the ledger: "
            f"{self.reduction:.4g} to 1. "
            f"{'Both balances hold exactly.' if self.holds else 'THE BALANCE DOES NOT HOLD.'}"
        )
        return data_table(f"account of {self['blocks']} blocks", ("what", "count", "share"), shown, note)
