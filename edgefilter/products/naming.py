"""Names of the objects in a store: how they are made and read.

::

    pulses/node=NODE/date=DATE/STREAM-BLOCK-DIGEST.parquet          and so every table that is made of blocks
    pulses/node=NODE/date=DATE/STREAM-FIRST_LAST-DIGEST.parquet     merged: several blocks of a day, or one block of
                                                                    several reductions
    dropped/node=NODE/date=DATE/STREAM-FIRST_LAST-DIGEST.parquet    what the node dropped, and why
    cutouts/date=DATE/STREAM-BLOCK-DIGEST.h5
    streams/STREAM.json
    configs/DIGEST.json

DATE is the UTC date of the block's start, BLOCK, FIRST and LAST have 12 digits, DIGEST is the head of the SHA-256 of
the content. The tables are partitioned as Hive does, which DuckDB, Polars and Spark understand. A cut-out's name does
not contain the node, because ``pulses`` holds that name, and its bytes must not depend on which node made them.
"""

import hashlib
import re
from dataclasses import dataclass

from edgefilter.core.config import Reduction
from edgefilter.core.errors import StoreError
from edgefilter.core.stream import Stream
from edgefilter.products.base import Product, Provenance

CUTOUTS = "cutouts"
STREAMS = "streams"
CONFIGS = "configs"

_WORD = r"[A-Za-z0-9+_-][A-Za-z0-9+._-]*"
_NODE = r"[A-Za-z0-9][A-Za-z0-9+._-]*"
_TABLE = rf"(?!(?:{CUTOUTS}|{STREAMS}|{CONFIGS})/)[a-z][a-z0-9_]*"  # any name: a store may hold tables of others
_DATE = r"\d{4}-\d{2}-\d{2}"
_BLOCKS = r"(?P<block>\d{12,})(?:_(?P<last>\d{12,}))?"
_DATED = rf"date=(?P<date>{_DATE})/(?P<stream>{_WORD})-{_BLOCKS}-(?P<digest>[0-9a-f]{{16}})"
_PATTERNS = (
    re.compile(rf"(?P<folder>{_TABLE})/node=(?P<node>{_NODE})/{_DATED}\.parquet", re.ASCII),
    re.compile(rf"(?P<folder>{CUTOUTS})/{_DATED}\.h5", re.ASCII),
    re.compile(rf"(?P<folder>{STREAMS})/(?P<stream>{_WORD})\.json", re.ASCII),
    re.compile(rf"(?P<folder>{CONFIGS})/(?P<digest>[0-9a-f]{{16}})\.json", re.ASCII),
)


@dataclass(frozen=True, slots=True)
class ProductName:
    """The parts of a name. Fields that its kind of object does not have are empty, numbers of blocks are -1.

    Parameters
    ----------
    folder
        A table, ``cutouts``, ``streams`` or ``configs``.
    node, date, stream, digest
        As in the path.
    block, last
        Numbers of the first and last block; equal if it holds one block.
    merged
        Whether it may have been merged from other files, which its metadata lists.
    """

    folder: str
    node: str = ""
    date: str = ""
    stream: str = ""
    block: int = -1
    digest: str = ""
    last: int = -1
    merged: bool = False


@dataclass(frozen=True, slots=True)
class ProductNamer:
    """Names the products of one reduction on one node.

    Parameters
    ----------
    node
        Name of the node: letters, digits and ``+ - _ .``, first a letter or digit.
    provenance
        What the products carry.

    Raises
    ------
    StoreError
        If the node's name cannot be part of a path.
    """

    node: str
    provenance: Provenance

    def __post_init__(self) -> None:
        if not re.fullmatch(_NODE, self.node):
            raise StoreError(
                f"node {self.node!r}: must be letters, digits and + - _ . and begin with a letter or digit"
            )

    def table(self, table: str, block: int, date: str, content: bytes) -> Product:
        """Name the file of a table.

        Parameters
        ----------
        table
            Name of the table.
        block
            Number of the block.
        date
            UTC date of the block's start, ``2026-11-23``.
        content
            The bytes.

        Returns
        -------
        Product
            With its name.
        """
        return Product(f"{table}/node={self.node}/{self._dated_name(block, date, content)}.parquet", content)

    def cutout(self, block: int, date: str, content: bytes) -> Product:
        """Name a cut-out.

        Parameters
        ----------
        block
            Number of the block.
        date
            UTC date of the block's start, ``2026-11-23``.
        content
            The bytes.

        Returns
        -------
        Product
            With its name.
        """
        return Product(f"{CUTOUTS}/{self._dated_name(block, date, content)}.h5", content)

    def _dated_name(self, block: int, date: str, content: bytes) -> str:
        return f"date={date}/{self.provenance.stream}-{block:012d}-{digest(content)}"


def is_table_name(name: str) -> bool:
    """Return whether a folder of this name can hold a table.

    Parameters
    ----------
    name
        Name of the folder.

    Returns
    -------
    bool
        False for the folders of other products, and for names that no table has.
    """
    return re.fullmatch(_TABLE, name, re.ASCII) is not None and name not in (CUTOUTS, STREAMS, CONFIGS)


def digest(content: bytes) -> str:
    """Return the digest that is part of a name.

    Parameters
    ----------
    content
        Bytes of the object.

    Returns
    -------
    str
        First 16 hexadecimal digits of their SHA-256.
    """
    return hashlib.sha256(content).hexdigest()[:16]


def range_product(like: ProductName, first: int, last: int, content: bytes) -> Product:
    """Name the file of a table that holds consecutive blocks, or one block of several reductions.

    Parameters
    ----------
    like
        Gives table, node, date and stream.
    first, last
        Numbers of the first and last block.
    content
        The bytes.

    Returns
    -------
    Product
        With its name.
    """
    where = f"{like.folder}/node={like.node}/date={like.date}/{like.stream}"
    return Product(f"{where}-{first:012d}_{last:012d}-{digest(content)}.parquet", content)


def stream_product(stream: Stream) -> Product:
    """Make the object that describes a stream.

    Parameters
    ----------
    stream
        The header.

    Returns
    -------
    Product
        Its JSON.
    """
    return Product(f"{STREAMS}/{stream.id}.json", stream.to_json().encode())


def config_product(settings: Reduction) -> Product:
    """Make the object that holds the settings of a reduction.

    Parameters
    ----------
    settings
        Resolved settings.

    Returns
    -------
    Product
        Their canonical JSON.
    """
    return Product(f"{CONFIGS}/{settings.digest()}.json", settings.canonical().encode())


def parse(name: str) -> ProductName:
    """Read a name.

    Parameters
    ----------
    name
        Path of an object in a store.

    Returns
    -------
    ProductName
        Its parts.

    Raises
    ------
    StoreError
        If it is not the name of a product.
    """
    for pattern in _PATTERNS:
        match = pattern.fullmatch(name)
        if match:
            fields: dict[str, str] = match.groupdict()
            block = int(fields.pop("block", "-1"))
            last = fields.pop("last", None)
            return ProductName(block=block, last=int(last or block), merged=last is not None, **fields)
    raise StoreError(f"{name}: not the name of a product")
