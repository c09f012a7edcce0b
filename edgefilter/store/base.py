"""The interface of a store: immutable objects under names.

When :meth:`Store.put` returns, the object survives a loss of power. Readers see an object completely or not at all, and
it never changes. Only a compaction deletes objects, and only those that it has replaced.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

from edgefilter.core.errors import StoreError
from edgefilter.products.base import Product

if TYPE_CHECKING:
    import pyarrow.fs as pafs

_THREADS = 8
_SEGMENT = re.compile(r"[A-Za-z0-9+=_-][A-Za-z0-9+=._-]{0,254}")

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object in a listing: ``name``, ``size`` in B, ``modified`` in s since 1970 by the store's clock."""

    name: str
    size: int
    modified: float


@runtime_checkable
class Store(Protocol):
    """Objects under names. Safe to use from several threads and processes at once."""

    @property
    def location(self) -> str:
        """Path or URL of the store, for messages."""

    def put(self, product: Product) -> None:
        """Write an object durably and prove that it is there; a repetition changes nothing.

        Parameters
        ----------
        product
            The object.

        Raises
        ------
        ConflictError
            If the store holds other bytes under its name; they stay.
        UnavailableError
            If the store does not answer, or answers with an error that may pass.
        StoreError
            If the object cannot be written.
        """

    def get(self, name: str) -> bytes:
        """Read an object.

        Parameters
        ----------
        name
            Its name.

        Returns
        -------
        bytes
            Its content.

        Raises
        ------
        StoreError
            If there is no object of that name, or it cannot be read.
        """

    def listing(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """List objects.

        Parameters
        ----------
        prefix
            Beginning of their names.

        Returns
        -------
        Iterator of ObjectInfo
            The objects, sorted by name.

        Raises
        ------
        StoreError
            If the store cannot be read.
        """

    def names(self, prefix: str = "") -> Iterator[str]:
        """List names of objects.

        Parameters
        ----------
        prefix
            Beginning of the names.

        Returns
        -------
        Iterator of str
            The names, sorted.

        Raises
        ------
        StoreError
            If the store cannot be read.
        """

    def folders(self, prefix: str) -> list[str]:
        """List the folders directly below a folder.

        Parameters
        ----------
        prefix
            The folder, ending in ``/``; empty for the whole store.

        Returns
        -------
        list of str
            The folders as prefixes that end in ``/``, sorted.

        Raises
        ------
        StoreError
            If the store cannot be read.
        """

    def delete(self, names: Sequence[str]) -> None:
        """Remove objects; missing ones are ignored. Only a compaction may call this.

        Parameters
        ----------
        names
            Their names.

        Raises
        ------
        StoreError
            If the store refuses.
        """

    def filesystem(self) -> "pafs.FileSystem":
        """Return the objects as an Arrow file system, which can read parts of them."""

    def url(self, name: str) -> str:
        """Return the address of an object for other programs.

        Parameters
        ----------
        name
            Its name.

        Returns
        -------
        str
            A path or a URL.
        """


def check_name(name: str) -> None:
    """Check that a name can be the name of an object.

    Parameters
    ----------
    name
        Parts of letters, digits and ``+ - _ = .``, separated by ``/``; none begins with a dot.

    Raises
    ------
    StoreError
        If it is another, for example one that leads out of the store.
    """
    if not all(_SEGMENT.fullmatch(part) for part in name.split("/")):
        raise StoreError(
            f"{name!r}: not a name of an object; its parts, separated by /, must be letters, digits and + - _ = . "
            "and not begin with a dot"
        )


def map_parallel(request: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Send a request for each item, several at a time.

    Parameters
    ----------
    request
        The request.
    items
        Its arguments.

    Returns
    -------
    list of Result
        What the requests return, in the order of ``items``.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(request, items))


def first_line(error: Exception) -> str:
    """Shorten the message of a library's error to one line.

    Parameters
    ----------
    error
        The error.

    Returns
    -------
    str
        Its first line, or its type if it has no message.
    """
    return str(error).splitlines()[0] if str(error) else type(error).__name__
