"""How much a product matters: what is sent first, and what is dropped first."""

from collections.abc import Sequence

from edgefilter.products.base import Priority, Product
from edgefilter.products.naming import CONFIGS, CUTOUTS, STREAMS, digest
from edgefilter.products.schemas import TABLES
from edgefilter.spool.manifest import Entry

_PRIORITIES = {name: table.priority for name, table in TABLES.items()} | {
    CUTOUTS: Priority.CANDIDATES,
    STREAMS: Priority.LEDGER,
    CONFIGS: Priority.LEDGER,
}


def make_entry(product: Product, file: str, sealed: bool | None) -> Entry:
    """Describe a product for the manifest.

    Parameters
    ----------
    product
        The product.
    file
        Name of the file that holds its bytes.
    sealed
        Whether it goes to the store as it is; if None, pieces of tables may still be merged.

    Returns
    -------
    Entry
        Its row.
    """
    folder = _folder(product)
    sealed = folder in (CUTOUTS, STREAMS, CONFIGS) if sealed is None else sealed
    return Entry(0, product.name, file, len(product.content), digest(product.content), _priority(product), sealed)


def least_important(products: Sequence[Product]) -> Product | None:
    """Choose the product that may be dropped first.

    Parameters
    ----------
    products
        Those that need room.

    Returns
    -------
    Product or None
        None if none of them may be dropped.
    """
    droppable = [product for product in products if _priority(product) >= Priority.SPECTRA]
    return max(droppable, key=_priority) if droppable else None


def _priority(product: Product) -> Priority:
    if product.priority is not None:
        return product.priority
    # A kind that this version does not know may be dropped: it must never block the commit of a ledger row.
    return _PRIORITIES.get(_folder(product), Priority.EXTRA)


def _folder(product: Product) -> str:
    return product.name.partition("/")[0]
