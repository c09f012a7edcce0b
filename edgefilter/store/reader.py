"""Reading a store: tables, cut-outs, streams, settings, and the sums of the ledger."""

import json
from collections.abc import Container, Iterator, Sequence
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
from edgefilter.products.cutout import Cutout
from edgefilter.products.cutout_file import decode
from edgefilter.products.ledger import ADDITIVE
from edgefilter.products.merge import BLOCK_KEYS, unseen_rows
from edgefilter.products.naming import CONFIGS, CUTOUTS, STREAMS, parse
from edgefilter.store.base import Store, first_line, map_parallel
from edgefilter.store.connect import connect
from edgefilter.store.current_objects import StoredObject, current_objects, list_objects
from edgefilter.store.partitions import candidate_folders
from edgefilter.store.table_files import (
    full_schema,
    matching_objects,
    open_dataset,
    read_object,
    read_verified,
    table_names,
)

_ACCOUNT_KEYS = ("node", "stream", "config", "code")


def open_store(where: str | Path) -> "StoreReader":
    """Open a store for reading; nothing in it is changed.

    Parameters
    ----------
    where
        A folder, its ``file://`` URL, or ``s3://BUCKET/PREFIX``.

    Returns
    -------
    StoreReader
        The store.

    Raises
    ------
    StoreError
        If there is no such store, or it may not be read.
    """
    return StoreReader(connect(where))


class StoreReader:
    """The tables and other products of a store. Each call sees what has been written until then.

    Parameters
    ----------
    store
        The store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def location(self) -> str:
        """Path or URL of the store."""
        return self._store.location

    def tables(self) -> dict[str, int]:
        """Return the number of rows of each table.

        Raises
        ------
        StoreError
            If a file is damaged; the message names it.
        """
        return {table: self._count(table) for table in self.table_names()}

    def table_names(self) -> tuple[str, ...]:
        """Return the names of the tables: edgefilter's own, then those of plug-ins.

        Raises
        ------
        StoreError
            If the store cannot be read.
        """
        return table_names(self._store)

    def schema(self, name: str) -> pa.Schema:
        """Return the schema of a table, with the columns ``node`` and ``date``.

        Parameters
        ----------
        name
            Name of the table.

        Returns
        -------
        pyarrow.Schema
            Units and meanings are in the metadata of its fields.

        Raises
        ------
        StoreError
            If there is no such table.
        """
        return full_schema(self._store, name)

    def files(self, name: str) -> list[str]:
        """List the current files of a table for other programs.

        A pattern such as ``pulses/*/*/*.parquet`` also finds files that a compaction has replaced and not yet deleted.

        Parameters
        ----------
        name
            Name of the table.

        Returns
        -------
        list of str
            Paths or ``s3://`` URLs, sorted by stream and block.

        Raises
        ------
        StoreError
            If there is no such table.
        """
        return [self._store.url(obj.name) for obj in self._current_objects(name, self.schema(name))]

    def dataset(self, name: str, filter: pc.Expression | None = None) -> pads.Dataset:  # noqa: A002 - as pyarrow calls it
        """Open a table as an Arrow dataset, which DuckDB, Polars and others read in place.

        Conditions on columns, ``node`` and ``date`` are pushed down: files that cannot match are not read.

        Parameters
        ----------
        name
            Name of the table.
        filter
            A condition that the caller will apply: folders that hold no such row are not listed. Other rows may still
            be in the dataset.

        Returns
        -------
        pyarrow.dataset.Dataset
            The current files of the table.

        Raises
        ------
        StoreError
            If there is no such table, or the condition does not fit it.
        """
        schema = self.schema(name)
        with _as_store_error(f"table {name} of {self.location}"):
            return open_dataset(self._store, schema, self._current_objects(name, schema, filter))

    def table(
        self,
        name: str,
        columns: Sequence[str] | None = None,
        filter: pc.Expression | None = None,  # noqa: A002 - as pyarrow calls it
        blocks: Container[int] | None = None,
    ) -> pa.Table:
        """Read a table, sorted by stream and block; rows of a block keep their order.

        Small files are read completely, and their digest is checked. Of large files only the requested columns and the
        matching row groups are read, and the checksums of their pages are checked. If a node has lost its spool and
        sent a block again in another batch, the block is read once.

        Parameters
        ----------
        name
            Name of the table.
        columns
            Columns to read; None for all, with ``node`` and ``date`` as the last ones.
        filter
            Condition on rows, for example ``pyarrow.compute.field("snr") > 8``. Folders and files whose names exclude
            such rows are not listed and not opened.
        blocks
            Numbers of the blocks to read; None for all. Files whose names exclude these blocks are not opened.

        Returns
        -------
        pa.Table
            With :meth:`schema`, or the chosen columns of it; without rows if nothing was found.

        Raises
        ------
        StoreError
            If there is no such table or column, the condition does not fit the table, or a file is damaged.
        """
        schema = self.schema(name)
        for column in columns or ():
            if column not in schema.names:
                raise StoreError(f"table {name} has no column {column!r}; its columns are {', '.join(schema.names)}")
        wanted = schema if columns is None else pa.schema([schema.field(column) for column in columns], schema.metadata)
        where = f"table {name} of {self.location}"
        with _as_store_error(where):
            found = self._current_objects(name, schema, filter)
        interleaved = _blocks_interleave(found)
        # The condition, the choice of blocks and the order of rows may need columns that are not returned.
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
            return read_object(self._store, obj, schema, read, condition)

        with _as_store_error(where):
            if filter is not None:
                found = matching_objects(self._store, schema, found, filter)
            tables = map_parallel(read_one, found)
        if interleaved and name != "dropped":
            seen: dict[tuple[str, str, str], set[tuple[object, ...]]] = {}
            pairs = zip(found, tables, strict=True)
            tables = [unseen_rows(table, seen.setdefault(obj.merge_key, set())) for obj, table in pairs]
        whole = pa.concat_tables([read.empty_table(), *tables])
        if interleaved:
            whole = whole.sort_by([("stream", "ascending"), ("block", "ascending")])  # stable
        return whole.select(wanted.names)

    def cutouts(self) -> list[str]:
        """Return the names of the cut-outs, sorted by stream and block."""
        return [obj.name for obj in list_objects(self._store, f"{CUTOUTS}/")]

    def cutout(self, name: str) -> Cutout:
        """Read a cut-out.

        Its axes are ``seconds`` (s since the stream's first sample) and ``frequencies_mhz`` (MHz).

        Parameters
        ----------
        name
            Its name in the column ``cutout`` of ``pulses``.

        Returns
        -------
        Cutout
            The cut-out.

        Raises
        ------
        StoreError
            If there is no cut-out of that name, or it is damaged.
        """
        if parse(name).folder != CUTOUTS:
            raise StoreError(f"{name}: not a cut-out")
        return decode(read_verified(self._store, name), name)

    def streams(self) -> dict[str, Stream]:
        """Return the headers of the streams by stream id.

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
        """Return the settings of the reductions by digest.

        Raises
        ------
        StoreError
            If one is damaged.
        """
        found = list_objects(self._store, f"{CONFIGS}/")
        return {obj.parsed_name.digest: json.loads(read_verified(self._store, obj.name)) for obj in found}

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

    def _current_objects(
        self, name: str, schema: pa.Schema, condition: pc.Expression | None = None
    ) -> list[StoredObject]:
        folders = candidate_folders(self._store, name, schema, condition)
        return current_objects(self._store, list_objects(self._store, *folders))

    def _count(self, table: str) -> int:
        filesystem = self._store.filesystem()

        def rows(obj: StoredObject) -> int:
            try:
                return int(pq.read_metadata(obj.name, filesystem=filesystem).num_rows)
            except (pa.ArrowException, OSError) as error:
                raise StoreError(f"{obj.name}: damaged: {first_line(error)}") from None

        return sum(map_parallel(rows, self._current_objects(table, self.schema(table))))


@contextmanager
def _as_store_error(where: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, TypeError) as error:
        raise StoreError(f"{where}: {first_line(error)}") from None


def _blocks_interleave(found: Sequence[StoredObject]) -> bool:
    """Return whether consecutive files share blocks, so that their rows must be sorted."""
    names = [obj.parsed_name for obj in found]
    return any(a.stream == b.stream and b.block <= a.last and b.last != a.block for a, b in pairwise(names))


def _restrict_to_blocks(
    obj: StoredObject, blocks: Container[int], condition: pc.Expression | None
) -> pc.Expression | None:
    """Extend a condition by the choice of blocks, unless it includes all blocks of the file."""
    there = range(obj.parsed_name.block, obj.parsed_name.last + 1)
    wanted = [block for block in there if block in blocks]
    if len(wanted) == len(there):
        return condition
    in_blocks = pc.field("block").isin(wanted)
    return in_blocks if condition is None else condition & in_blocks
