"""Tables as Arrow, as pandas, and as astropy tables with units and times."""

from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from edgefilter.core.clock import to_time
from edgefilter.core.errors import StoreError
from edgefilter.core.html import data_table

if TYPE_CHECKING:
    import pandas as pd
    from astropy.table import QTable

_MAX_ROWS_SHOWN = 10


class TableView:
    """A table of a store.

    Parameters
    ----------
    name
        Name of the table.
    arrow
        The rows, with units and descriptions in the metadata of the fields (:mod:`edgefilter.products.schemas`).
    """

    def __init__(self, name: str, arrow: pa.Table) -> None:
        self.name = name
        self.arrow = arrow

    def __len__(self) -> int:
        return int(self.arrow.num_rows)

    @property
    def columns(self) -> dict[str, str]:
        """Units of the columns by name, empty for a column without unit."""
        return {field.name: _metadata(field, "unit") for field in self.arrow.schema}

    def column(self, name: str) -> NDArray[Any]:
        """Return a column as NumPy array, see :func:`column_to_numpy`.

        Parameters
        ----------
        name
            Name of the column.

        Returns
        -------
        NDArray
            ``[row]``, or ``[row, item]`` for a column of lists.

        Raises
        ------
        StoreError
            If there is no such column.
        """
        if name not in self.arrow.schema.names:
            raise StoreError(f"table {self.name} has no column {name!r}, it has {', '.join(self.arrow.schema.names)}")
        return column_to_numpy(self.arrow, name)

    def filter(self, condition: pc.Expression) -> Self:
        """Return the rows for which a condition holds.

        Parameters
        ----------
        condition
            Condition on columns, for example ``pyarrow.compute.field("snr") > 8``.

        Returns
        -------
        TableView
            The rows, of the same class.

        Raises
        ------
        StoreError
            If it is not a condition on these columns.
        """
        try:
            return self._with_rows(self.arrow.filter(condition))
        except (pa.ArrowException, TypeError) as error:
            raise StoreError(f"table {self.name}: {str(error).splitlines()[0]}") from None

    def to_pandas(self) -> "pd.DataFrame":
        """Return a pandas data frame, without units; ``time`` has the time zone UTC."""
        frame: pd.DataFrame = self.arrow.to_pandas()
        return frame

    def to_qtable(self) -> "QTable":
        """Return an astropy ``QTable`` with units; ``time`` is a ``Time`` of scale UTC, exact to 1 ns.

        ``tai_ns`` is a plain integer, because a quantity would round it.
        """
        from astropy import units
        from astropy.table import QTable

        table = QTable()
        for field in self.arrow.schema:
            unit = _metadata(field, "unit")
            if field.name == "time" and "tai_ns" in self.arrow.schema.names:
                table["time"] = to_time(column_to_numpy(self.arrow, "tai_ns"))
                table["time"].format = "isot"
            else:
                table[field.name] = column_to_numpy(self.arrow, field.name)
                if unit and field.name not in ("time", "tai_ns"):
                    table[field.name] = table[field.name] * units.Unit(unit)
            table[field.name].info.description = _metadata(field, "description")
        table.meta["name"] = self.name
        return table

    def _with_rows(self, arrow: pa.Table) -> Self:
        return type(self)(self.name, arrow)

    def __repr__(self) -> str:
        return f"<{self.name}: {len(self)} rows of {', '.join(self.arrow.schema.names)}>"

    def _repr_html_(self) -> str:
        names = [f"{name} ({unit})" if unit else name for name, unit in self.columns.items()]
        rows = [
            [_format_value(value) for value in row.values()] for row in self.arrow.slice(0, _MAX_ROWS_SHOWN).to_pylist()
        ]
        more = len(self) - len(rows)
        return data_table(f"{self.name}: {len(self)} rows", names, rows, f"… and {more} more rows" if more > 0 else "")


def first_rows(table: pa.Table, keys: list[str]) -> pa.Table:
    """Return the first of all rows that have the same values in some columns.

    Parameters
    ----------
    table
        The table.
    keys
        Names of the columns.

    Returns
    -------
    pa.Table
        The rows, in the order of the table.
    """
    numbered = table.select(keys).append_column("at", pa.array(np.arange(table.num_rows)))
    return table.take(numbered.group_by(keys, use_threads=False).aggregate([("at", "min")]).column("at_min"))


def column_to_numpy(table: pa.Table, name: str) -> NDArray[Any]:
    """Return a column as NumPy array.

    Parameters
    ----------
    table
        The table.
    name
        Name of the column.

    Returns
    -------
    NDArray
        ``[row]``; ``[row, item]`` for lists of equal length; ``[row]`` of arrays for lists of different lengths.
    """
    column = table.column(name).combine_chunks()
    if isinstance(column, pa.ChunkedArray):  # some versions of Arrow return this where there are no chunks
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    if not pa.types.is_list(column.type):
        if pa.types.is_string(column.type):
            return np.array(column.to_pylist(), np.str_)
        return np.asarray(column.to_numpy(zero_copy_only=False))
    lengths = np.unique(np.diff(column.offsets.to_numpy()))
    if len(lengths) < 2:
        width = int(lengths[0]) if len(lengths) else 0
        return np.asarray(column.flatten().to_numpy(zero_copy_only=False)).reshape(len(column), width)
    rows = np.empty(len(column), object)
    rows[:] = [np.asarray(row) for row in column.to_pylist()]
    return rows


def _metadata(field: pa.Field, key: str) -> str:
    value: bytes = (field.metadata or {}).get(key.encode(), b"")
    return value.decode()


def _format_value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return f"[{len(value)} numbers]"
    return str(value)
