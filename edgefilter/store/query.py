"""SQL over a store with DuckDB, in place."""

from typing import Any

from edgefilter.errors import StoreError
from edgefilter.products.schemas import SCHEMAS
from edgefilter.store.reader import StoreReader


def query(reader: StoreReader, sql: str) -> Any:
    """Run a query; the tables of the store are its tables, with ``node`` and ``date`` as columns.

    Conditions are pushed down to the files: those of other nodes and dates are not opened.

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
                connection.register(table, reader.dataset(table))
        try:
            return connection.sql(sql).to_arrow_table()
        except (duckdb.Error, AttributeError) as error:
            raise StoreError(f"query: {str(error).splitlines()[0]}") from None
