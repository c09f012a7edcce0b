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

_READERS = 8
_BEFORE_ALL, _AFTER_ALL = "0000-00-00", "9999-99-99"


def folders(store: Store, table: str, schema: pa.Schema, condition: pc.Expression | None) -> list[str]:
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
    there = store.folders(whole[0])
    nodes = _matching(there, "node", schema, condition)
    if len(_matching([f"date={_BEFORE_ALL}/", f"date={_AFTER_ALL}/"], "date", schema, condition)) == 2:
        return whole if len(nodes) == len(there) else nodes
    with ThreadPoolExecutor(_READERS) as pool:
        dates = list(chain.from_iterable(pool.map(store.folders, nodes)))
    return _matching(dates, "date", schema, condition)


def _matching(names: Sequence[str], column: str, schema: pa.Schema, condition: pc.Expression) -> list[str]:
    """Leave out the folders ``…/column=VALUE/`` whose value alone makes the condition false."""
    form, nowhere = pads.ParquetFileFormat(), pafs.LocalFileSystem()
    told = [name.removesuffix("/").rpartition(f"{column}=") for name in names]
    fragments = [
        form.make_fragment(name, nowhere, pc.field(column) == value)
        for name, (_, equal, value) in zip(names, told, strict=True)
        if equal
    ]
    asked = pads.FileSystemDataset(fragments, schema, form, nowhere).get_fragments(condition)
    return [fragment.path for fragment in asked]
