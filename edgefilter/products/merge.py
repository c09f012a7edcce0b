"""Merge several files of a table into one: by the spool before it sends them, and by the store when it is compacted.

The merged file holds the rows of its parts in the order of blocks, and lists in its metadata the parts that it replaces
(``edgefilter.replaces``, their digests). A reader that finds both reads only the merged file.
"""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from edgefilter.core.errors import StoreError
from edgefilter.products.base import METADATA, Product, to_parquet
from edgefilter.products.naming import ProductName, digest, parse, range_product

_REPLACES = "edgefilter.replaces"
BLOCK_KEYS = ("config", "code", "block")
"""Columns that say which block of a node's stream a row is of, and how it was made."""
_GROUP_BYTES = 8 << 20
"""Bytes of a row group before compression: small enough that an hour is not read as a day."""


def merge(pieces: Sequence[tuple[str, bytes]]) -> Product:
    """Merge files; the result depends on nothing else.

    Parameters
    ----------
    pieces
        Names and bytes of files of one table, node, date and stream, in any order. A block that two of them hold is
        taken once: made twice, it is the same by law 1.

    Returns
    -------
    Product
        The merged file; a single file as it is.

    Raises
    ------
    StoreError
        If a file is damaged, or they do not belong together; the message names it.
    """
    parsed = sorted((parse(name) for name, _ in pieces), key=lambda name: (name.block, -name.last, name.digest))
    content = {parse(name).digest: content for name, content in pieces}
    if len({(name.folder, name.node, name.date, name.stream) for name in parsed}) != 1:
        raise StoreError(f"{pieces[0][0]}: cannot be merged with files of another table, node, date or stream")
    if len(parsed) == 1:
        return Product(*pieces[0])
    replaced: list[str] = []
    tables: list[pa.Table] = []
    seen: set[tuple[object, ...]] = set()
    for name in parsed:
        table = _read(name, content[name.digest])
        replaced += [name.digest, *merged_digests(table.schema)]
        tables.append(unseen_rows(table, seen) if name.folder != "dropped" else table)
    try:
        whole = pa.concat_tables(tables, promote_options="default")
    except pa.ArrowException as error:  # two versions of a plug-in may give a column two types
        raise StoreError(
            f"{pieces[0][0]}: cannot be merged with the other files: {str(error).splitlines()[0]}"
        ) from None
    if not _is_sorted(whole):
        whole = whole.take(pc.sort_indices(whole.column("block")))  # stable: rows of a block keep their order
    metadata = METADATA | {_REPLACES: " ".join(sorted(set(replaced)))}
    rows = max(1, whole.num_rows * _GROUP_BYTES // max(1, whole.nbytes))
    merged = to_parquet(whole.replace_schema_metadata(metadata), rows)
    return range_product(parsed[0], parsed[0].block, max(name.last for name in parsed), merged)


def split_by_types(pieces: Sequence[tuple[str, bytes]]) -> list[list[tuple[str, bytes]]]:
    """Divide files of a table into groups that can be merged: two versions of a plug-in may give a column two types.

    Parameters
    ----------
    pieces
        Names and bytes of files of one table.

    Returns
    -------
    list of list
        The files in the same order; one group unless types differ.

    Raises
    ------
    StoreError
        If a file is damaged; the message names it.
    """
    groups: list[tuple[pa.Schema, list[tuple[str, bytes]]]] = []
    for name, content in pieces:
        try:
            schema = pq.read_schema(pa.BufferReader(content)).remove_metadata()
        except (pa.ArrowException, OSError) as error:
            raise StoreError(f"{name}: not a Parquet file of edgefilter: {str(error).splitlines()[0]}") from None
        for i, (common, group) in enumerate(groups):
            try:
                groups[i] = pa.unify_schemas([common, schema]), [*group, (name, content)]
                break
            except pa.ArrowException:
                continue
        else:
            groups.append((schema, [(name, content)]))
    return [group for _, group in groups]


def merged_digests(schema: pa.Schema) -> list[str]:
    """Return the digests of all files that a merged file replaces, directly or through another merged file.

    Parameters
    ----------
    schema
        Of the file.

    Returns
    -------
    list of str
        Empty for a file that was not merged.
    """
    text: bytes = (schema.metadata or {}).get(_REPLACES.encode(), b"")
    return text.decode().split()


def _read(name: ProductName, content: bytes) -> pa.Table:
    where = f"{name.folder} of {name.stream}, blocks {name.block} to {name.last}"
    if digest(content) != name.digest:
        raise StoreError(f"{where}: damaged: its content does not have the digest {name.digest}")
    try:
        return pq.read_table(pa.BufferReader(content), partitioning=None, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise StoreError(f"{where}: not a Parquet file of edgefilter: {str(error).splitlines()[0]}") from None


def unseen_rows(table: pa.Table, seen: set[tuple[object, ...]]) -> pa.Table:
    """Return the rows of blocks that were not seen before.

    Parameters
    ----------
    table
        Rows.
    seen
        Keys of the blocks seen so far (:data:`BLOCK_KEYS`); those of the table are added.

    Returns
    -------
    pa.Table
        The table without blocks that another file held: made twice, they are the same by law 1.
    """
    keys = list(zip(*(table.column(key).to_pylist() for key in BLOCK_KEYS), strict=True))
    unseen = set(keys) - seen
    seen |= unseen
    if len(unseen) == len(set(keys)):
        return table
    return table.filter(pa.array([key in unseen for key in keys], pa.bool_()))


def _is_sorted(table: pa.Table) -> bool:
    blocks = table.column("block").to_numpy()
    return bool((blocks[1:] >= blocks[:-1]).all())
