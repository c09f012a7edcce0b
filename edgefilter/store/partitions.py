"""Which folders of a table may hold what a condition asks for: the others are not even listed.

Tables lie in folders by node and date. A year of a thousand nodes has more objects than one wants to list for an hour
of one node, but few folders.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.fs as pafs

from edgefilter.store.base import Store

_READ_THREADS = 8
_EARLIEST_DATE, _LATEST_DATE = "0000-00-00", "9999-99-99"


def candidate_folders(store: Store, table: str, schema: pa.Schema, condition: pc.Expression | None) -> list[str]:
    """Return folders of a table outside which no row can meet a condition, as prefixes that end in ``/``.

    It takes one listing for the nodes, and one for each node that may count if the condition bounds the date.

    Raises
    ------
    StoreError
        If the store cannot be read.
    TypeError, pa.ArrowException
        If the condition is not one on this schema.
    """
    whole = [f"{table}/"]
    if condition is None:
        return whole
    node_folders = store.folders(whole[0])
    nodes = _matching(node_folders, "node", schema, condition)
    if len(_matching([f"date={_EARLIEST_DATE}/", f"date={_LATEST_DATE}/"], "date", schema, condition)) == 2:
        return whole if len(nodes) == len(node_folders) else nodes
    with ThreadPoolExecutor(_READ_THREADS) as pool:
        dates = list(chain.from_iterable(pool.map(store.folders, nodes)))
    return _matching(dates, "date", schema, condition)


def _matching(names: Sequence[str], column: str, schema: pa.Schema, condition: pc.Expression) -> list[str]:
    """Leave out the folders ``…/column=VALUE/`` whose value alone makes the condition false."""
    parquet_format, filesystem = pads.ParquetFileFormat(), pafs.LocalFileSystem()
    partitions = [name.removesuffix("/").rpartition(f"{column}=") for name in names]
    fragments = [
        parquet_format.make_fragment(name, filesystem, pc.field(column) == value)
        for name, (_, equal, value) in zip(names, partitions, strict=True)
        if equal
    ]
    matching = pads.FileSystemDataset(fragments, schema, parquet_format, filesystem).get_fragments(condition)
    return [fragment.path for fragment in matching]
