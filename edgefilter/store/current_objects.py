"""Which objects of a table count.

Merged files say which files they replace. While both are there, between a compaction and its clean-up, only the merged
one counts. So a reader sees every row once: it lists a folder, takes away what is replaced by what it listed, and reads
the rest; whatever was in that listing is deleted only when every reader of that time has long ended.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain

import pyarrow as pa
import pyarrow.parquet as pq

from edgefilter.core.errors import StoreError
from edgefilter.products.merge import replaces
from edgefilter.products.naming import Name, parse
from edgefilter.store.base import Listed, Store

_READERS = 8


@dataclass(frozen=True, slots=True)
class Part:
    """An object of the store: what its name says, and what the listing does."""

    parsed: Name
    listed: Listed

    @property
    def name(self) -> str:
        """Name of the object."""
        return self.listed.name

    @property
    def place(self) -> tuple[str, str, str]:
        """What files must share to be merged: node, date, stream."""
        return self.parsed.node, self.parsed.date, self.parsed.stream


def parts(store: Store, *folders: str) -> list[Part]:
    """Return the objects in folders by stream, block and name; files that are not ours are passed over.

    Parameters
    ----------
    store
        The store.
    folders
        Prefixes that end in ``/``, none within another.

    Raises
    ------
    StoreError
        If the store cannot be read.
    """
    with ThreadPoolExecutor(_READERS) as pool:
        listings = list(pool.map(store.listing, folders))
    found = []
    for listed in chain.from_iterable(listings):
        try:
            found.append(Part(parse(listed.name), listed))
        except StoreError:
            continue
    return sorted(found, key=lambda part: (part.parsed.stream, part.parsed.block, part.name))


def live(store: Store, found: Iterable[Part]) -> list[Part]:
    """Return those of a table's objects that no other one replaces, in the order given.

    Raises
    ------
    StoreError
        If a merged file is damaged.
    """
    found = list(found)
    files = store.files()
    replaced = {
        (part.place, digest)
        for part in _overlapping(found)
        if part.parsed.last > part.parsed.block
        for digest in replaced_by(part.name, files)
    }
    return [part for part in found if (part.place, part.parsed.digest) not in replaced]


def replaced_by(name: str, files: pa.fs.FileSystem) -> list[str]:
    """Digests of the files that a merged one replaces, none if it is gone; its end alone is read.

    Raises
    ------
    StoreError
        If it is damaged.
    """
    try:
        return replaces(pq.read_schema(name, filesystem=files))
    except FileNotFoundError:
        return []  # replaced itself, by one that replaces the same
    except (pa.ArrowException, OSError) as error:
        raise StoreError(f"{name}: damaged: {str(error).splitlines()[0]}") from None


def _overlapping(found: Iterable[Part]) -> Iterator[Part]:
    """Give the objects that share blocks with another one of their node, date and stream."""
    places: dict[tuple[str, str, str], list[Part]] = {}
    for part in found:
        places.setdefault(part.place, []).append(part)
    for members in places.values():
        members.sort(key=lambda part: part.parsed.block)
        reach = -1
        near: list[Part] = []
        for part in members:
            if part.parsed.block > reach and near:
                yield from near if len(near) > 1 else ()
                near = []
            near.append(part)
            reach = max(reach, part.parsed.last)
        yield from near if len(near) > 1 else ()
