"""Reads a store back: tables, cut-outs, streams, settings, the account."""

import json
from collections.abc import Container, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from edgefilter.core.errors import InputError, StoreError
from edgefilter.core.stream import Stream
from edgefilter.products.cutout import Cutout, decode
from edgefilter.products.ledger import ADDITIVE
from edgefilter.products.merge import BLOCK_KEYS, unseen_rows
from edgefilter.products.naming import CONFIGS, CUTOUTS, STREAMS, digest, parse
from edgefilter.products.schemas import PATH_COLUMNS, SCHEMAS
from edgefilter.store.base import Store
from edgefilter.store.connect import connect
from edgefilter.store.current_objects import StoredObject, current_objects, list_objects
from edgefilter.store.partitions import candidate_folders

_ACCOUNT_KEYS = ("node", "stream", "config", "code")
_READ_WHOLE_BYTES = 1 << 20
"""Files up to this size are read whole, which takes one request and proves their digest."""
_READ_THREADS = 8


def open_store(where: str | Path) -> "StoreReader":
    """Open a store to read from it; nothing in it is touched.

    Parameters
    ----------
    where
        A folder, its ``file://`` URL, or ``s3://BUCKET/PREFIX``.

    Raises
    ------
    StoreError
        If there is no such store, or it may not be read.
    """
    return StoreReader(connect(where))


class StoreReader:
    """A store as an analyst sees it. What is written later is seen by the next call.

    Parameters
    ----------
    store
        Its objects.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def location(self) -> str:
        """Where the store is."""
        return self._store.location

    def tables(self) -> dict[str, int]:
        """Names of the tables and how many rows each has.

        Raises
        ------
        StoreError
            If a file is damaged; the message names it.
        """
        return {table: self._count(table) for table in SCHEMAS}

    def files(self, name: str) -> list[str]:
        """Return where other programs find the files of a table that count, sorted by stream and block.

        A plain pattern such as ``pulses/*/*/*.parquet`` also finds files that a compaction has replaced and not yet
        removed.

        Raises
        ------
        StoreError
            If there is no such table.
        """
        full_schema(name)
        return [self._store.url(obj.name) for obj in self._current_objects(name)]

    def dataset(self, name: str, filter: pc.Expression | None = None) -> pads.Dataset:  # noqa: A002 - as pyarrow calls it
        """Return a table as a dataset of Arrow, which DuckDB, Polars and others read where it lies.

        Conditions on columns, ``node`` and ``date`` are pushed down: what cannot match is not read.

        Parameters
        ----------
        name
            The table.
        filter
            A condition that will be asked of it: folders that can hold no such row are not listed. Other rows may
            still be in the dataset.

        Raises
        ------
        StoreError
            If there is no such table, or the condition is not one.
        """
        schema = full_schema(name)
        with _as_store_error(f"table {name} of {self.location}"):
            return self._dataset(schema, self._current_objects(name, filter))

    def table(
        self,
        name: str,
        columns: Sequence[str] | None = None,
        filter: pc.Expression | None = None,  # noqa: A002 - as pyarrow calls it
        blocks: Container[int] | None = None,
    ) -> pa.Table:
        """Read a table, sorted by stream and block, the rows of a block in the order they were made.

        Small files are read whole and must have the digest in their names; of large ones only the columns asked for and
        the row groups that can match are read, whose pages carry checksums. A block that a node has sent in two
        different batches, because it had lost its spool, is read once.

        Parameters
        ----------
        name
            ``pulses``, ``spectra``, ``flags``, ``ledger`` or ``dropped``.
        columns
            Columns to read, all if None; ``node`` and ``date`` stand behind those of the schema.
        filter
            Condition on rows, for example ``pyarrow.compute.field("snr") > 8``. Folders and files whose names say that
            they hold no such row are not listed and not opened.
        blocks
            Numbers of the blocks to read, all if None. Files whose names say that they hold none of them are not
            opened.

        Returns
        -------
        pa.Table
            Of the schema in :mod:`edgefilter.products.schemas`, with units in the fields' metadata; without rows if
            nothing was found.

        Raises
        ------
        StoreError
            If there is no such table or column, the condition is not one, or a file is damaged.
        """
        schema = full_schema(name)
        for column in columns or ():
            if column not in schema.names:
                raise StoreError(f"table {name} has no column {column!r}, it has {', '.join(schema.names)}")
        wanted = schema if columns is None else pa.schema([schema.field(column) for column in columns], schema.metadata)
        where = f"table {name} of {self.location}"
        with _as_store_error(where):
            found = self._current_objects(name, filter)
        interleaved = _blocks_interleave(found)
        # A condition may ask for columns that the answer does not show, and so may blocks and the order of rows.
        read = wanted if filter is None else schema
        if blocks is not None or interleaved:
            needed = {*read.names, "stream", *BLOCK_KEYS}
            read = pa.schema([field for field in schema if field.name in needed])
        if blocks is not None:
            found = [
                obj for obj in found if any(n in blocks for n in range(obj.parsed_name.block, obj.parsed_name.last + 1))
            ]

        def read_one(obj: StoredObject) -> pa.Table:
            condition = filter if blocks is None else _restrict_to_blocks(obj, blocks, filter)
            return self._read_object(obj, schema, read, columns is not None, condition)

        with _as_store_error(where):
            if filter is not None:
                found = self._matching(schema, found, filter)
            with ThreadPoolExecutor(_READ_THREADS) as pool:
                tables = list(pool.map(read_one, found))
        if interleaved and name != "dropped":
            seen: dict[tuple[str, str, str], set[tuple[object, ...]]] = {}
            pairs = zip(found, tables, strict=True)
            tables = [unseen_rows(table, seen.setdefault(obj.merge_key, set())) for obj, table in pairs]
        whole = pa.concat_tables([read.empty_table(), *tables])
        if interleaved:
            whole = whole.sort_by([("stream", "ascending"), ("block", "ascending")])  # stable
        return whole.select(wanted.names)

    def cutouts(self) -> list[str]:
        """Names of the cut-outs, sorted by stream and block."""
        return [obj.name for obj in list_objects(self._store, f"{CUTOUTS}/")]

    def cutout(self, name: str) -> Cutout:
        """Read a cut-out.

        Its axes are ``seconds`` (s since the stream's first sample) and ``frequencies_mhz`` (MHz).

        Parameters
        ----------
        name
            As the column ``cutout`` of ``pulses`` holds it.

        Raises
        ------
        StoreError
            If there is none of that name, or it is damaged.
        """
        if parse(name).folder != CUTOUTS:
            raise StoreError(f"{name}: not a cut-out")
        return decode(self._read_verified(name), name)

    def streams(self) -> dict[str, Stream]:
        """Headers of the streams by their ids.

        Raises
        ------
        StoreError
            If one is damaged.
        """
        found = {}
        for obj in list_objects(self._store, f"{STREAMS}/"):
            try:
                stream = Stream.from_json(self._store.get(obj.name))
            except InputError as error:
                raise StoreError(f"{obj.name}: damaged: {error}") from None
            if stream.id != obj.parsed_name.stream:
                raise StoreError(f"{obj.name}: damaged: describes stream {stream.id}")
            found[stream.id] = stream
        return found

    def configs(self) -> dict[str, dict[str, Any]]:
        """Return the settings of the reductions by their digests.

        Raises
        ------
        StoreError
            If one is damaged.
        """
        found = list_objects(self._store, f"{CONFIGS}/")
        return {obj.parsed_name.digest: json.loads(self._read_verified(obj.name)) for obj in found}

    def account(self) -> pa.Table:
        """Sum the ledger.

        Returns
        -------
        pa.Table
            One row for each node, stream, settings and code: the number of ``blocks`` and the sums of all counts, under
            the names and with the units of the ledger's columns.

        Raises
        ------
        StoreError
            If a file is damaged.
        """
        ledger = self.table("ledger")
        groups = ledger.group_by(list(_ACCOUNT_KEYS), use_threads=False)
        sums = groups.aggregate([("block", "count"), *((name, "sum") for name in ADDITIVE)])
        fields = [
            *(ledger.schema.field(name) for name in _ACCOUNT_KEYS),
            pa.field("blocks", pa.int64(), metadata={"unit": "", "description": "blocks in the ledger"}),
            *(ledger.schema.field(name) for name in ADDITIVE),
        ]
        arrays = [
            *(sums.column(name) for name in _ACCOUNT_KEYS),
            sums.column("block_count"),
            *(sums.column(f"{name}_sum") for name in ADDITIVE),
        ]
        table = pa.Table.from_arrays(arrays, schema=pa.schema(fields, ledger.schema.metadata))
        return table.sort_by([(name, "ascending") for name in ("stream", "config", "code", "node")])

    def _current_objects(self, name: str, condition: pc.Expression | None = None) -> list[StoredObject]:
        return current_objects(
            self._store, list_objects(self._store, *candidate_folders(self._store, name, full_schema(name), condition))
        )

    def _count(self, table: str) -> int:
        filesystem = self._store.filesystem()

        def rows(obj: StoredObject) -> int:
            try:
                return int(pq.read_metadata(obj.name, filesystem=filesystem).num_rows)
            except (pa.ArrowException, OSError) as error:
                raise StoreError(f"{obj.name}: damaged: {_first_line(error)}") from None

        with ThreadPoolExecutor(_READ_THREADS) as pool:
            return sum(pool.map(rows, self._current_objects(table)))

    def _dataset(self, schema: pa.Schema, found: Sequence[StoredObject]) -> pads.FileSystemDataset:
        pages = pads.ParquetFragmentScanOptions(page_checksum_verification=True, pre_buffer=True)
        parquet_format = pads.ParquetFileFormat(default_fragment_scan_options=pages)
        filesystem = self._store.filesystem()
        fragments = [parquet_format.make_fragment(obj.name, filesystem, _partition_expression(obj)) for obj in found]
        return pads.FileSystemDataset(fragments, schema, parquet_format, filesystem)

    def _matching(
        self, schema: pa.Schema, found: Sequence[StoredObject], condition: pc.Expression
    ) -> list[StoredObject]:
        names = {fragment.path for fragment in self._dataset(schema, found).get_fragments(condition)}
        return [obj for obj in found if obj.name in names]

    def _read_object(
        self,
        obj: StoredObject,
        schema: pa.Schema,
        read: pa.Schema,
        column_subset: bool,
        condition: pc.Expression | None,
    ) -> pa.Table:
        """Read one file of a table; columns that it lacks, because it is older than they are, are null."""
        try:
            if obj.info.size > _READ_WHOLE_BYTES and (column_subset or condition is not None):
                table = self._dataset(schema, [obj]).to_table(read.names, condition, use_threads=False)
                return table.cast(read)
            file = pq.ParquetFile(pa.BufferReader(self._read_verified(obj.name)))
            stored = set(file.schema_arrow.names)
            table = file.read(columns=[column for column in read.names if column in stored], use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise StoreError(f"{obj.name}: not a Parquet file of edgefilter: {_first_line(error)}") from None
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

    def _read_verified(self, name: str) -> bytes:
        content = self._store.get(name)
        if digest(content) != parse(name).digest:
            raise StoreError(f"{name}: damaged: its content does not have the digest in its name")
        return content


def full_schema(table: str) -> pa.Schema:
    """Return the schema of a table with the columns that stand in its files' paths.

    Raises
    ------
    StoreError
        If there is no such table.
    """
    if table not in SCHEMAS:
        raise StoreError(f"there is no table {table!r}, there are {', '.join(SCHEMAS)}")
    schema = SCHEMAS[table]
    return pa.schema([*schema, *PATH_COLUMNS], schema.metadata)


@contextmanager
def _as_store_error(where: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, TypeError) as error:
        raise StoreError(f"{where}: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _partition_expression(obj: StoredObject) -> pc.Expression:
    """Return what the name of a file says of all its rows."""
    name = obj.parsed_name
    equal = [pc.field(column) == getattr(name, column) for column in ("node", "date", "stream")]
    return equal[0] & equal[1] & equal[2] & (pc.field("block") >= name.block) & (pc.field("block") <= name.last)


def _blocks_interleave(found: Sequence[StoredObject]) -> bool:
    """Whether files that follow one another share blocks, so that their rows do not."""
    names = [obj.parsed_name for obj in found]
    return any(a.stream == b.stream and b.block <= a.last and b.last != a.block for a, b in pairwise(names))


def _restrict_to_blocks(
    obj: StoredObject, blocks: Container[int], condition: pc.Expression | None
) -> pc.Expression | None:
    """Add to a condition that a row's block is one of these, unless all blocks of the file are."""
    there = range(obj.parsed_name.block, obj.parsed_name.last + 1)
    wanted = [block for block in there if block in blocks]
    if len(wanted) == len(there):
        return condition
    in_blocks = pc.field("block").isin(wanted)
    return in_blocks if condition is None else condition & in_blocks
