"""SQL over a store with DuckDB, in place."""

from functools import partial
from typing import Any

import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.fs as pafs

from edgefilter.core.errors import StoreError
from edgefilter.products.schemas import SCHEMAS
from edgefilter.store.reader import StoreReader, full_schema


class _LazyDataset(pads.FileSystemDataset):  # type: ignore[misc]  # pyarrow has no types
    """A table whose files are looked for when DuckDB says what it asks of them."""

    def __init__(self, reader: StoreReader, name: str) -> None:
        super().__init__([], full_schema(name), pads.ParquetFileFormat(), pafs.LocalFileSystem())
        self._dataset = partial(reader.dataset, name)

    def scanner(self, *, filter: pc.Expression | None = None, **options: Any) -> pads.Scanner:  # noqa: A002 - as pyarrow calls it
        return self._dataset(filter).scanner(filter=filter, **options)


def query(reader: StoreReader, sql: str) -> Any:
    """Run a query; the tables of the store are its tables, with ``node`` and ``date`` as columns.

    Conditions are pushed down: folders of other nodes and dates are not listed, and files that cannot match not opened.

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
        If DuckDB is not installed, or refuses.
    """
    try:
        import duckdb
    except ImportError:
        raise StoreError("queries need DuckDB: pip install 'edgefilter[query]'") from None
    with duckdb.connect(":memory:") as connection:
        # Nothing but the store: no files of this machine, no network.
        connection.execute("SET enable_external_access = false")
        for table in SCHEMAS:
            if table in sql:  # what is not asked for need not be listed
                connection.register(table, _LazyDataset(reader, table))
        try:
            return connection.sql(sql).to_arrow_table()
        except (duckdb.Error, AttributeError) as error:
            raise StoreError(f"query: {str(error).splitlines()[0]}") from None
