"""How much a product matters: what is sent first, and what is dropped first."""

from collections.abc import Sequence

from edgefilter.products.base import Product
from edgefilter.products.naming import digest
from edgefilter.products.schemas import SCHEMAS
from edgefilter.spool.manifest import Entry, Priority

_PRIORITIES = {
    "pulses": Priority.CANDIDATES,
    "cutouts": Priority.CANDIDATES,
    "spectra": Priority.SPECTRA,
    "flags": Priority.SPECTRA,
    "extras": Priority.EXTRA,
}


def make_entry(product: Product, file: str, sealed: bool | None) -> Entry:
    """Return the row of a product whose bytes are in ``file``.

    ``sealed`` is whether it goes to the store as it is; if None, pieces of tables may still be merged.
    """
    folder = _folder(product)
    sealed = folder not in SCHEMAS if sealed is None else sealed
    return Entry(0, product.name, file, len(product.content), digest(product.content), _priority(product), sealed)


def least_important(products: Sequence[Product]) -> Product | None:
    """Return the product that may be dropped first, None if none may."""
    droppable = [product for product in products if _priority(product) >= Priority.SPECTRA]
    return max(droppable, key=_priority) if droppable else None


def _priority(product: Product) -> Priority:
    return _PRIORITIES.get(_folder(product), Priority.LEDGER)


def _folder(product: Product) -> str:
    return product.name.partition("/")[0]
