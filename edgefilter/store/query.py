"""SQL queries of a store with DuckDB, in place."""

from functools import partial
from typing import Any

import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.fs as pafs

from edgefilter.core.errors import StoreError
from edgefilter.store.base import first_line
from edgefilter.store.reader import StoreReader


class _LazyDataset(pads.FileSystemDataset):  # type: ignore[misc]  # pyarrow has no types
    """A table whose files are listed when DuckDB passes the condition of the query."""

    def __init__(self, reader: StoreReader, name: str) -> None:
        super().__init__([], reader.schema(name), pads.ParquetFileFormat(), pafs.LocalFileSystem())
        self._dataset = partial(reader.dataset, name)

    def scanner(self, *, filter: pc.Expression | None = None, **options: Any) -> pads.Scanner:  # noqa: A002 - as pyarrow calls it
        return self._dataset(filter).scanner(filter=filter, **options)


def query(reader: StoreReader, sql: str) -> Any:
    """Run a query on the tables of a store, which have ``node`` and ``date`` as further columns.

    Conditions are pushed down: folders of other nodes and dates are not listed, and files without matching rows are not
    opened.

    Parameters
    ----------
    reader
        The store.
    sql
        The query.

    Returns
    -------
    pyarrow.Table
        Its result.

    Raises
    ------
    StoreError
        If DuckDB is not installed, or the query fails.
    """
    try:
        import duckdb
    except ImportError:
        raise StoreError("queries need DuckDB: pip install 'edgefilter[query]'") from None
    with duckdb.connect(":memory:") as connection:
        # A query must not read files of this machine or the network.
        connection.execute("SET enable_external_access = false")
        for table in reader.table_names():
            if table in sql:  # other tables need not be listed
                connection.register(table, _LazyDataset(reader, table))
        try:
            return connection.sql(sql).to_arrow_table()
        except (duckdb.Error, AttributeError) as error:
            raise StoreError(f"query: {first_line(error)}") from None
