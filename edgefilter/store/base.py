"""What a store is: immutable objects under names.

A store keeps what it acknowledged: when :meth:`Store.put` returns, the object survives a loss of power. It shows an
object whole or not at all, and never changes one. Only a compaction deletes, and only what it has replaced.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from edgefilter.core.errors import StoreError
from edgefilter.products.base import Product

if TYPE_CHECKING:
    import pyarrow.fs as pafs

_SEGMENT = re.compile(r"[A-Za-z0-9+=_-][A-Za-z0-9+=._-]{0,254}")


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object as a listing shows it: ``name``, ``size`` in B, ``modified`` in s since 1970 by the store's clock."""

    name: str
    size: int
    modified: float


class Store(Protocol):
    """Objects under names. Safe to use from several threads and processes at once."""

    @property
    def location(self) -> str:
        """Where it is, for messages."""

    def put(self, product: Product) -> None:
        """Keep an object durably and prove that it is there; doing it again changes nothing.

        Raises
        ------
        ConflictError
            If its name is taken by other bytes, which then stay.
        UnavailableError
            If the store does not answer, or not well.
        StoreError
            If it cannot be written.
        """

    def get(self, name: str) -> bytes:
        """Return the bytes of an object.

        Raises
        ------
        StoreError
            If there is none of that name, or it cannot be read.
        """

    def listing(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Give the objects whose names begin with ``prefix``, sorted by name.

        Raises
        ------
        StoreError
            If the store cannot be read.
        """

    def names(self, prefix: str = "") -> Iterator[str]:
        """Give the names that begin with ``prefix``, sorted.

        Raises
        ------
        StoreError
            If the store cannot be read.
        """

    def folders(self, prefix: str) -> list[str]:
        """Give the folders right below one, as prefixes that end in ``/``, sorted; ``prefix`` ends in ``/`` itself.

        Raises
        ------
        StoreError
            If the store cannot be read.
        """

    def delete(self, names: Sequence[str]) -> None:
        """Remove objects; those that are not there do not matter. For compaction alone.

        Raises
        ------
        StoreError
            If the store refuses.
        """

    def filesystem(self) -> "pafs.FileSystem":
        """Return the same objects as a file system of Arrow, which reads parts of them."""

    def url(self, name: str) -> str:
        """Return where other programs find an object: a path, or an ``s3://`` URL."""


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
