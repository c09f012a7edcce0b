"""Reads a store back: tables, cut-outs, streams, settings, the account."""

import json
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from edgefilter.errors import InputError, StoreError
from edgefilter.products.cutout import Cutout, decode
from edgefilter.products.naming import CONFIGS, CUTOUTS, STREAMS, Name, digest, parse
from edgefilter.products.schemas import PATH_COLUMNS, SCHEMAS
from edgefilter.store.base import Store
from edgefilter.store.directory import DirectoryStore
from edgefilter.stream import Stream

_ACCOUNT_KEYS = ("node", "stream", "config", "code")
_NOT_SUMMED = (*_ACCOUNT_KEYS, "block", "date", "time", "tai_ns", "sample_start")


def open_store(path: str | Path) -> "StoreReader":
    """Open a store to read from it; nothing in it is touched.

    Parameters
    ----------
    path
        A folder, or its ``file://`` URL.

    Raises
    ------
    StoreError
        If there is no such folder, or it may not be read.
    """
    text = str(path)
    if "://" in text:
        url = urlsplit(text)
        if url.scheme != "file" or url.netloc not in ("", "localhost"):
            raise StoreError(f"store {text}: must be a directory or its file:// URL")
        path = unquote(url.path)
    store = DirectoryStore(path)
    return StoreReader(store, pafs.SubTreeFileSystem(store.location, pafs.LocalFileSystem()))


class StoreReader:
    """A store as an analyst sees it. What is written later is seen by the next call.

    Parameters
    ----------
    store
        Its objects.
    files
        The same objects as a file system of Arrow, to count rows without reading them.
    """

    def __init__(self, store: Store, files: pafs.FileSystem) -> None:
        self._store = store
        self._files = files

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

    def table(
        self,
        name: str,
        columns: Sequence[str] | None = None,
        filter: pc.Expression | None = None,  # noqa: A002 - as pyarrow calls it
        blocks: Container[int] | None = None,
    ) -> pa.Table:
        """Read a table, sorted by stream and block, the rows of a block in the order they were made.

        Parameters
        ----------
        name
            ``pulses``, ``spectra``, ``flags`` or ``ledger``.
        columns
            Columns to read, all if None; ``node`` and ``date`` stand behind those of the schema.
        filter
            Condition on rows, for example ``pyarrow.compute.field("snr") > 8``.
        blocks
            Numbers of the blocks to read, all if None; files of other blocks are not opened.

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
        schema = _schema(name)
        for column in columns or ():
            if column not in schema.names:
                raise StoreError(f"table {name} has no column {column!r}, it has {', '.join(schema.names)}")
        wanted = schema if columns is None else pa.schema([schema.field(column) for column in columns], schema.metadata)
        # A condition may ask for columns that the answer does not show.
        read = wanted if filter is None else schema
        parts = [wanted.empty_table()]
        for parsed, file in self._parsed(name):
            if blocks is not None and parsed.block not in blocks:
                continue
            part = self._part(file, parsed, read)
            try:
                parts.append((part if filter is None else part.filter(filter)).select(wanted.names))
            except (pa.ArrowException, TypeError) as error:
                raise StoreError(f"table {name} of {self.location}: {_line(error)}") from None
        return pa.concat_tables(parts)

    def cutouts(self) -> list[str]:
        """Names of the cut-outs, sorted by stream and block."""
        return [name for _, name in self._parsed(CUTOUTS)]

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
        return decode(self._verified(name), name)

    def streams(self) -> dict[str, Stream]:
        """Headers of the streams by their ids.

        Raises
        ------
        StoreError
            If one is damaged.
        """
        found = {}
        for parsed, name in self._parsed(STREAMS):
            try:
                stream = Stream.from_json(self._store.get(name))
            except InputError as error:
                raise StoreError(f"{name}: damaged: {error}") from None
            if stream.id != parsed.stream:
                raise StoreError(f"{name}: damaged: describes stream {stream.id}")
            found[stream.id] = stream
        return found

    def configs(self) -> dict[str, dict[str, Any]]:
        """Return the settings of the reductions by their digests.

        Raises
        ------
        StoreError
            If one is damaged.
        """
        return {parsed.digest: json.loads(self._verified(name)) for parsed, name in self._parsed(CONFIGS)}

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
        summed = [name for name in ledger.schema.names if name not in _NOT_SUMMED]
        groups = ledger.group_by(list(_ACCOUNT_KEYS), use_threads=False)
        sums = groups.aggregate([("block", "count"), *((name, "sum") for name in summed)])
        fields = [
            *(ledger.schema.field(name) for name in _ACCOUNT_KEYS),
            pa.field("blocks", pa.int64(), metadata={"unit": "", "description": "blocks in the ledger"}),
            *(ledger.schema.field(name) for name in summed),
        ]
        arrays = [
            *(sums.column(name) for name in _ACCOUNT_KEYS),
            sums.column("block_count"),
            *(sums.column(f"{name}_sum") for name in summed),
        ]
        table = pa.Table.from_arrays(arrays, schema=pa.schema(fields, ledger.schema.metadata))
        return table.sort_by([(name, "ascending") for name in ("stream", "config", "code", "node")])

    def _count(self, table: str) -> int:
        rows = 0
        for _, name in self._parsed(table):
            try:
                rows += pq.read_metadata(name, filesystem=self._files).num_rows
            except (pa.ArrowException, OSError) as error:
                raise StoreError(f"{name}: damaged: {_line(error)}") from None
        return rows

    def _part(self, name: str, parsed: Name, schema: pa.Schema) -> pa.Table:
        """Read one file of a table; columns that it lacks, because it is older than they are, are null."""
        try:
            file = pq.ParquetFile(pa.BufferReader(self._verified(name)))
            stored = set(file.schema_arrow.names)
            table = file.read(columns=[column for column in schema.names if column in stored])
        except (pa.ArrowException, OSError) as error:
            raise StoreError(f"{name}: not a Parquet file of edgefilter: {_line(error)}") from None
        rows = file.metadata.num_rows
        path = {column.name: pa.repeat(getattr(parsed, column.name), rows) for column in PATH_COLUMNS}
        arrays = [
            path[field.name]
            if field.name in path
            else table.column(field.name).cast(field.type)
            if field.name in stored
            else pa.nulls(rows, field.type)
            for field in schema
        ]
        return pa.Table.from_arrays(arrays, schema=schema)

    def _parsed(self, folder: str) -> list[tuple[Name, str]]:
        """Return the objects in a folder by stream, block and name; files that are not ours are passed over."""
        found = []
        for name in self._store.names(f"{folder}/"):
            try:
                found.append((parse(name), name))
            except StoreError:
                continue
        return sorted(found, key=lambda item: (item[0].stream, item[0].block, item[1]))

    def _verified(self, name: str) -> bytes:
        content = self._store.get(name)
        if digest(content) != parse(name).digest:
            raise StoreError(f"{name}: damaged: its content does not have the digest in its name")
        return content


def _schema(table: str) -> pa.Schema:
    if table not in SCHEMAS:
        raise StoreError(f"there is no table {table!r}, there are {', '.join(SCHEMAS)}")
    schema = SCHEMAS[table]
    return pa.schema([*schema, *PATH_COLUMNS], schema.metadata)


def _line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
