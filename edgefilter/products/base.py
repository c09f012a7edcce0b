"""What every product has: a name and bytes, provenance and priority; and how a table is made of columns.

Each kind of product is one file of this folder: its schema, its builder, its meaning.
:mod:`edgefilter.products.schemas` lists the tables.

Every reader must accept the tables (Spark, DuckDB, Polars, pandas), so there is no ``timestamp[ns]`` and no
``float16``: an instant is both ``tai_ns`` (int64, exact) and ``time`` (UTC, microseconds). A column's unit and meaning
are in its field metadata (``unit``, ``description``), the version of the schema in the table's metadata
(``edgefilter.schema``).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from edgefilter.core.clock import utc_us
from edgefilter.core.plan import Plan
from edgefilter.core.reduced_block import ReducedBlock

SCHEMA_VERSION = 1
"""Raised when a name, a type or a meaning changes; a new column does not raise it."""

_COMPRESSED_ROWS = 64


class Priority(IntEnum):
    """What the spool sends first, and what it drops last: from SPECTRA on, products may be dropped on a full disk."""

    LEDGER = 0
    CANDIDATES = 1
    SPECTRA = 2
    EXTRA = 3


@dataclass(frozen=True, slots=True)
class Product:
    """One immutable object of the store.

    Parameters
    ----------
    name
        Path in the store; follows from stream, block and the digest of ``content`` (law 5).
    content
        Its bytes.
    priority
        Its priority in the spool; None for that of its kind. The table of a plug-in brings its own.
    """

    name: str
    content: bytes
    priority: Priority | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a product comes from; stored with each.

    Parameters
    ----------
    stream
        :attr:`edgefilter.core.stream.Stream.id`.
    config
        :meth:`edgefilter.core.config.Reduction.digest`.
    code
        Version of edgefilter.
    """

    stream: str
    config: str
    code: str


@dataclass(frozen=True, slots=True)
class BlockInfo:
    """The block that products are made from.

    Parameters
    ----------
    number
        Counted from the stream's first sample.
    tai_ns
        Its start, TAI in ns since 1970 TAI.
    seconds
        Its duration, s.
    """

    number: int
    tai_ns: int
    seconds: float


@dataclass(frozen=True, slots=True)
class BlockInputs:
    """All that the products of one block are made from.

    Parameters
    ----------
    plan
        Layout of the reduction.
    reduced
        What the reducer found.
    provenance, block
        Stored with every row.
    cutouts
        Names of the block's cut-outs in the store, by their numbers in the block.
    bytes_out
        Bytes of the products that were made of this block so far, B.
    """

    plan: Plan
    reduced: ReducedBlock
    provenance: Provenance
    block: BlockInfo
    cutouts: Mapping[int, str] = field(default_factory=dict)
    bytes_out: int = 0


@dataclass(frozen=True, slots=True)
class Table:
    """A kind of table.

    Parameters
    ----------
    name
        Its folder in the store.
    schema
        Its columns, made by :func:`block_schema`.
    priority
        Priority of its files in the spool.
    build
        Makes the table of a block, or None if the block has no rows; None for a table that is not made of blocks.
    """

    name: str
    schema: pa.Schema
    priority: Priority
    build: Callable[[BlockInputs], pa.Table | None] | None = None


def column(name: str, kind: pa.DataType, unit: str, description: str) -> pa.Field:
    """Describe a column.

    Parameters
    ----------
    name, kind
        Name and Arrow type.
    unit
        Its unit as astropy writes it, or empty.
    description
        Its meaning, one line.

    Returns
    -------
    pa.Field
        With unit and meaning in its metadata.
    """
    return pa.field(name, kind, metadata={"unit": unit, "description": description})


STREAM = column("stream", pa.string(), "", "stream that it was made from: name and head of the header's digest")
COMMON = (
    STREAM,
    column("block", pa.int64(), "", "number of the block, counted from the stream's first sample"),
    column("config", pa.string(), "", "digest of the settings of the reduction"),
    column("code", pa.string(), "", "version of edgefilter"),
)
"""First columns of every table that is made of blocks; :func:`make_table` fills them."""

START = (
    column("time", pa.timestamp("us", "UTC"), "UTC", "start of the block"),
    column("tai_ns", pa.int64(), "ns", "start of the block, TAI since 1970-01-01T00:00:00 TAI"),
    column("seconds", pa.float64(), "s", "duration of the block"),
)
"""Columns for the time of the block; :func:`make_table` fills those that are not given."""

FREQUENCIES = column("frequencies", pa.list_(pa.float64()), "MHz", "centre frequencies of the channels")

METADATA = {"edgefilter.schema": str(SCHEMA_VERSION)}


def block_schema(*columns: pa.Field) -> pa.Schema:
    """Make the schema of a table that is made of blocks.

    Parameters
    ----------
    *columns
        Its own columns; :data:`COMMON` stand before them.

    Returns
    -------
    pa.Schema
        With the version of the schema in its metadata.
    """
    return pa.schema([*COMMON, *columns], metadata=METADATA)


def make_table(
    schema: pa.Schema, provenance: Provenance, block: BlockInfo, columns: Mapping[str, Sequence[Any]]
) -> pa.Table:
    """Make a table of one block.

    Parameters
    ----------
    schema
        Of :func:`block_schema`.
    provenance, block
        For the columns :data:`COMMON` and :data:`START`, as far as ``columns`` has no others.
    columns
        Values of each other column, a sequence of equal length each.

    Returns
    -------
    pa.Table
        Of that schema; its metadata hold the provenance too, which a table without rows has nowhere else.
    """
    rows = len(next(iter(columns.values())))
    common = {"stream": provenance.stream, "block": block.number, "config": provenance.config, "code": provenance.code}
    start = {"tai_ns": block.tai_ns, "seconds": block.seconds}
    filled: dict[str, Any] = {name: [value] * rows for name, value in (common | start).items()}
    filled["time"] = utc_us(np.full(rows, block.tai_ns, np.int64))
    filled |= columns
    arrays = [pa.array(filled[field.name], field.type) for field in schema]
    metadata = schema.metadata | {f"edgefilter.{name}".encode(): str(value).encode() for name, value in common.items()}
    return pa.Table.from_arrays(arrays, schema=schema.with_metadata(metadata))


def to_parquet(table: pa.Table, group_rows: int | None = None) -> bytes:
    """Write a table as Parquet; the same table always gives the same bytes.

    The Arrow schema is kept, and every page carries a checksum that :mod:`edgefilter.store.reader` verifies. The bytes
    follow from the rows and the version of pyarrow's writer alone: they hold no time.

    Parameters
    ----------
    table
        The table.
    group_rows
        Rows of a row group; one group if None.

    Returns
    -------
    bytes
        The file.
    """
    sink = pa.BufferOutputStream()
    # A few plain rows do not become smaller, and setting the decoder up takes longer than reading them.
    plain = table.num_rows < _COMPRESSED_ROWS and not any(pa.types.is_nested(field.type) for field in table.schema)
    pq.write_table(
        table,
        sink,
        version="2.6",
        data_page_version="1.0",
        compression="none" if plain else "zstd",
        compression_level=None if plain else 3,
        use_dictionary=True,
        write_statistics=True,
        store_schema=True,
        write_page_checksum=True,
        row_group_size=group_rows,
    )
    content: bytes = sink.getvalue().to_pybytes()
    return content
