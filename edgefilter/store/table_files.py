"""The Parquet files of a table: opened as a dataset, or read one by one."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from edgefilter.core.errors import StoreError
from edgefilter.products.base import METADATA
from edgefilter.products.naming import digest, is_table_name, parse
from edgefilter.products.schemas import PATH_COLUMNS, SCHEMAS
from edgefilter.store.base import Store, first_line
from edgefilter.store.current_objects import StoredObject, list_objects

_READ_WHOLE_BYTES = 1 << 20
"""Files up to this size are read completely, which takes one request and checks their digest."""


def table_names(store: Store) -> tuple[str, ...]:
    """List the tables of a store: edgefilter's own, then those that stages of plug-ins have written.

    Parameters
    ----------
    store
        The store.

    Returns
    -------
    tuple of str
        Names of the tables.

    Raises
    ------
    StoreError
        If the store cannot be read.
    """
    names = (folder.removesuffix("/") for folder in store.folders(""))
    others = [name for name in names if name not in SCHEMAS and is_table_name(name) and _has_nodes(store, name)]
    return (*SCHEMAS, *others)


def _has_nodes(store: Store, table: str) -> bool:
    return any(folder.startswith(f"{table}/node=") for folder in store.folders(f"{table}/"))


def full_schema(store: Store, table: str) -> pa.Schema:
    """Return the schema of a table including the columns that are in the paths of its files, ``node`` and ``date``.

    Parameters
    ----------
    store
        The store. Its newest file of a plug-in's table gives the schema of that table: the plug-in is not needed.
    table
        Name of the table.

    Returns
    -------
    pyarrow.Schema
        The schema.

    Raises
    ------
    StoreError
        If there is no such table.
    """
    schema = SCHEMAS[table] if table in SCHEMAS else _stored_schema(store, table)
    return pa.schema([*schema, *PATH_COLUMNS], METADATA)


def _stored_schema(store: Store, table: str) -> pa.Schema:
    found = list_objects(store, f"{table}/") if is_table_name(table) else []
    if not found:
        raise StoreError(f"there is no table {table!r}; the tables are {', '.join(table_names(store))}")
    newest = max(found, key=lambda obj: (obj.info.modified, obj.name))
    try:
        return pq.read_schema(newest.name, filesystem=store.filesystem())
    except (pa.ArrowException, OSError) as error:
        raise StoreError(f"{newest.name}: damaged: {first_line(error)}") from None


def open_dataset(store: Store, schema: pa.Schema, found: Sequence[StoredObject]) -> pads.FileSystemDataset:
    """Open files of a table as one dataset, which checks the checksums of their pages.

    Parameters
    ----------
    store
        The store.
    schema
        :func:`full_schema` of the table.
    found
        The files.

    Returns
    -------
    pyarrow.dataset.FileSystemDataset
        The dataset.
    """
    pages = pads.ParquetFragmentScanOptions(page_checksum_verification=True, pre_buffer=True)
    parquet_format = pads.ParquetFileFormat(default_fragment_scan_options=pages)
    filesystem = store.filesystem()
    fragments = [parquet_format.make_fragment(obj.name, filesystem, _partition_expression(obj)) for obj in found]
    return pads.FileSystemDataset(fragments, schema, parquet_format, filesystem)


def matching_objects(
    store: Store, schema: pa.Schema, found: Sequence[StoredObject], condition: pc.Expression
) -> list[StoredObject]:
    """Leave out the files whose names exclude rows that meet a condition.

    Parameters
    ----------
    store
        The store.
    schema
        :func:`full_schema` of the table.
    found
        Files of the table.
    condition
        The condition.

    Returns
    -------
    list of StoredObject
        The other files, in the same order.
    """
    names = {fragment.path for fragment in open_dataset(store, schema, found).get_fragments(condition)}
    return [obj for obj in found if obj.name in names]


def read_object(
    store: Store, obj: StoredObject, schema: pa.Schema, read: pa.Schema, condition: pc.Expression | None
) -> pa.Table:
    """Read one file of a table.

    Parameters
    ----------
    store
        The store.
    obj
        The file.
    schema
        :func:`full_schema` of the table.
    read
        The columns to read, which include those of ``condition``.
    condition
        Condition on rows; None for all.

    Returns
    -------
    pyarrow.Table
        With the schema ``read``; columns that an older file lacks are null.

    Raises
    ------
    StoreError
        If the file is damaged.
    """
    try:
        if obj.info.size > _READ_WHOLE_BYTES and (len(read) < len(schema) or condition is not None):
            return open_dataset(store, schema, [obj]).to_table(read.names, condition, use_threads=False).cast(read)
        file = pq.ParquetFile(pa.BufferReader(read_verified(store, obj.name)))
        stored = set(file.schema_arrow.names)
        table = file.read(columns=[column for column in read.names if column in stored], use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise StoreError(f"{obj.name}: not a Parquet file of edgefilter: {first_line(error)}") from None
    rows = file.metadata.num_rows
    path = {column.name: pa.repeat(getattr(obj.parsed_name, column.name), rows) for column in PATH_COLUMNS}
    arrays = [
        path[field.name]
        if field.name in path
        else table.column(field.name).cast(field.type)
        if field.name in stored
        else pa.nulls(rows, field.type)
        for field in read
    ]
    whole = pa.Table.from_arrays(arrays, schema=read)
    return whole if condition is None else whole.filter(condition)


def read_verified(store: Store, name: str) -> bytes:
    """Read an object and check its digest.

    Parameters
    ----------
    store
        The store.
    name
        Name of the object, which contains the digest.

    Returns
    -------
    bytes
        Its content.

    Raises
    ------
    StoreError
        If it is missing or damaged.
    """
    content = store.get(name)
    if digest(content) != parse(name).digest:
        raise StoreError(f"{name}: damaged: its content does not have the digest in its name")
    return content


def _partition_expression(obj: StoredObject) -> pc.Expression:
    """Return a condition that all rows of a file meet, from its name."""
    name = obj.parsed_name
    equal = [pc.field(column) == getattr(name, column) for column in ("node", "date", "stream")]
    return equal[0] & equal[1] & equal[2] & (pc.field("block") >= name.block) & (pc.field("block") <= name.last)
