"""Products and queries for tests of the spool."""

from pathlib import Path

from edgefilter.products.base import Product
from edgefilter.spool import Entry, Spool

LEDGER = Product("ledger/node=n1/date=2026-11-23/s-00000001-000000000000-0123456789abcdef.parquet", b"l" * 100)


def make_product(folder: str, number: int, size: int = 1000) -> Product:
    """Make a product of a block: ``size`` bytes of a value that follows from ``number``."""
    node = "" if folder == "cutouts" else "node=n1/"
    suffix = "h5" if folder == "cutouts" else "parquet"
    content = bytes([number % 256]) * size
    return Product(f"{folder}/{node}date=2026-11-23/s-00000001-{number:012d}-{number:016x}.{suffix}", content)


def payload_files(path: Path) -> list[str]:
    """Return the names of the files in a spool's payload folder."""
    return sorted(file.name for file in (path / "payload").iterdir())


def entries(spool: Spool) -> list[Entry]:
    """Return all products in a spool."""
    return [*spool.next_entries(1000), *spool.unsealed(), *spool.stuck()]


def product_names(spool: Spool) -> list[str]:
    """Return the names of all products in a spool."""
    return sorted(entry.name for entry in entries(spool))
