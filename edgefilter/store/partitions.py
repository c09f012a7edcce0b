"""Selection of the folders of a table that may hold rows for a condition; the others are not listed.

Tables lie in folders by node and date. A year of a thousand nodes has too many objects to list them all for one hour of
one node, but few folders.
"""

from collections.abc import Sequence
from itertools import chain

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.fs as pafs

from edgefilter.store.base import Store, map_parallel

_EARLIEST_DATE, _LATEST_DATE = "0000-00-00", "9999-99-99"


def candidate_folders(store: Store, table: str, schema: pa.Schema, condition: pc.Expression | None) -> list[str]:
    """Find the folders of a table that may hold rows for a condition.

    This takes one listing for the nodes, and one for each matching node if the condition depends on the date.

    Parameters
    ----------
    store
        The store.
    table
        Name of the table.
    schema
        Its schema, with the columns ``node`` and ``date``.
    condition
        Condition on rows; None for all.

    Returns
    -------
    list of str
        Prefixes that end in ``/``.

    Raises
    ------
    StoreError
        If the store cannot be read.
    TypeError, pa.ArrowException
        If the condition does not fit the schema.
    """
    whole = [f"{table}/"]
    if condition is None:
        return whole
    node_folders = store.folders(whole[0])
    nodes = _matching(node_folders, "node", schema, condition)
    if len(_matching([f"date={_EARLIEST_DATE}/", f"date={_LATEST_DATE}/"], "date", schema, condition)) == 2:
        return whole if len(nodes) == len(node_folders) else nodes
    dates = list(chain.from_iterable(map_parallel(store.folders, nodes)))
    return _matching(dates, "date", schema, condition)


def _matching(names: Sequence[str], column: str, schema: pa.Schema, condition: pc.Expression) -> list[str]:
    """Return the folders ``…/column=VALUE/`` except those whose value makes the condition false for all rows."""
    parquet_format, filesystem = pads.ParquetFileFormat(), pafs.LocalFileSystem()
    partitions = [name.removesuffix("/").rpartition(f"{column}=") for name in names]
    fragments = [
        parquet_format.make_fragment(name, filesystem, pc.field(column) == value)
        for name, (_, equal, value) in zip(names, partitions, strict=True)
        if equal
    ]
    matching = pads.FileSystemDataset(fragments, schema, parquet_format, filesystem).get_fragments(condition)
    return [fragment.path for fragment in matching]
