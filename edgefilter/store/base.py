"""What a store is: immutable objects under names.

A store keeps what it acknowledged: when :meth:`Store.put` returns, the object survives a loss of power. It shows an
object whole or not at all, and never changes one.
"""

import re
from collections.abc import Iterator
from typing import Protocol

from edgefilter.errors import StoreError
from edgefilter.products import Product

_SEGMENT = re.compile(r"[A-Za-z0-9+=_-][A-Za-z0-9+=._-]{0,254}")


class Store(Protocol):
    """Objects under names. Safe to use from several threads and processes at once."""

    @property
    def location(self) -> str:
        """Where it is, for messages."""

    def put(self, product: Product) -> None:
        """Keep an object durably; doing it again changes nothing.

        Raises
        ------
        StoreError
            If it cannot be written, or its name is taken by other bytes, which then stay.
        """

    def get(self, name: str) -> bytes:
        """Return the bytes of an object.

        Raises
        ------
        StoreError
            If there is none of that name, or it cannot be read.
        """

    def names(self, prefix: str = "") -> Iterator[str]:
        """Give the names that begin with ``prefix``, sorted.

        Raises
        ------
        StoreError
            If the store cannot be read.
        """


def check_name(name: str) -> None:
    """Check that a name can be that of an object.

    Parts are divided by ``/``, are letters, digits and ``+ - _ = .``, and none begins with a dot.

    Raises
    ------
    StoreError
        If it is another, for example one that leads out of the store.
    """
    if not all(_SEGMENT.fullmatch(part) for part in name.split("/")):
        raise StoreError(
            f"{name!r}: not a name of an object; parts divided by / must be letters, digits and + - _ = . "
            "and not begin with a dot"
        )
