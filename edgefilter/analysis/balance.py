"""The ledger as a balance: what came, what was lost, what was discarded and why, what was kept."""

from collections.abc import Mapping
from functools import cached_property

import pyarrow as pa

from edgefilter.core.cells import flag_name
from edgefilter.core.html import data_table
from edgefilter.products.ledger import FLAGGED_COLUMNS, LOST_COLUMNS


class LedgerBalance:
    """Sums of the ledger.

    Parameters
    ----------
    table
        One row for each node, stream, settings and code, as :meth:`edgefilter.store.reader.StoreReader.account` gives.
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
        return int(sum(self.table.column(name).to_pylist()))

    @cached_property
    def samples(self) -> Mapping[str, int]:
        """What became of the samples that were expected: ``received`` and a count for each reason of loss."""
        return {"received": self["samples_received"]} | {
            f"lost: {why}": self[name] for why, name in LOST_COLUMNS.items()
        }

    @cached_property
    def cells(self) -> Mapping[str, int]:
        """What became of the time-channel cells: lost, flagged by each flagger, discarded, kept."""
        flagged = {f"flagged: {flag_name(flag)}": self[name] for flag, name in FLAGGED_COLUMNS.items()}
        return (
            {"lost": self["cells_lost"]}
            | flagged
            | {"integrated and discarded": self["cells_discarded"], "kept in cut-outs": self["cells_kept"]}
        )

    @property
    def reduction(self) -> float:
        """Bytes that came over bytes of products; infinite if nothing was made."""
        out = self["bytes_out"]
        return self["bytes_in"] / out if out else float("inf")

    @property
    def holds(self) -> bool:
        """Whether both balances hold exactly."""
        return sum(self.samples.values()) == self["samples_expected"] and sum(self.cells.values()) == self["cells"]

    def __str__(self) -> str:
        return "\n".join(
            f"{title}: {whole} = " + " + ".join(f"{count} {name}" for name, count in parts.items() if count)
            for title, whole, parts in self._equations()
        )

    __repr__ = __str__

    def _repr_html_(self) -> str:
        shown = []
        for title, whole, parts in self._equations():
            shown.append((f"{title} expected" if title == "samples" else title, f"{whole:,}", "100 %"))
            shown += [
                (f"= {name}" if at == 0 else f"+ {name}", f"{count:,}", f"{100 * count / max(whole, 1):.4g} %")
                for at, (name, count) in enumerate(parts.items())
                if count or at == 0
            ]
        note = (
            f"{self['bytes_in']:,} bytes in, {self['bytes_out']:,} bytes of products: {self.reduction:.4g} to 1. "
            f"{'Both balances hold exactly.' if self.holds else 'THE BALANCE DOES NOT HOLD.'}"
        )
        return data_table(f"account of {self['blocks']} blocks", ("what", "count", "share"), shown, note)

    def _equations(self) -> tuple[tuple[str, int, Mapping[str, int]], ...]:
        return ("samples", self["samples_expected"], self.samples), ("cells", self["cells"], self.cells)
