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
from edgefilter.products.merge import merged_digests
from edgefilter.products.naming import ProductName, parse
from edgefilter.store.base import ObjectInfo, Store

_READ_THREADS = 8


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object of the store: what its name says, and what the listing does."""

    parsed_name: ProductName
    info: ObjectInfo

    @property
    def name(self) -> str:
        """Name of the object."""
        return self.info.name

    @property
    def merge_key(self) -> tuple[str, str, str]:
        """What files must share to be merged: node, date, stream."""
        return self.parsed_name.node, self.parsed_name.date, self.parsed_name.stream


def list_objects(store: Store, *folders: str) -> list[StoredObject]:
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
    with ThreadPoolExecutor(_READ_THREADS) as pool:
        listings = list(pool.map(store.listing, folders))
    found = []
    for info in chain.from_iterable(listings):
        try:
            found.append(StoredObject(parse(info.name), info))
        except StoreError:
            continue
    return sorted(found, key=lambda obj: (obj.parsed_name.stream, obj.parsed_name.block, obj.name))


def current_objects(store: Store, found: Iterable[StoredObject]) -> list[StoredObject]:
    """Return those of a table's objects that no other one replaces, in the order given.

    Raises
    ------
    StoreError
        If a merged file is damaged.
    """
    found = list(found)
    filesystem = store.filesystem()
    replaced = {
        (obj.merge_key, digest)
        for obj in _overlapping(found)
        if obj.parsed_name.last > obj.parsed_name.block
        for digest in replaced_digests(obj.name, filesystem)
    }
    return [obj for obj in found if (obj.merge_key, obj.parsed_name.digest) not in replaced]


def replaced_digests(name: str, filesystem: pa.fs.FileSystem) -> list[str]:
    """Digests of the files that a merged one replaces, none if it is gone; its end alone is read.

    Raises
    ------
    StoreError
        If it is damaged.
    """
    try:
        return merged_digests(pq.read_schema(name, filesystem=filesystem))
    except FileNotFoundError:
        return []  # replaced itself, by one that replaces the same
    except (pa.ArrowException, OSError) as error:
        raise StoreError(f"{name}: damaged: {str(error).splitlines()[0]}") from None


def _overlapping(found: Iterable[StoredObject]) -> Iterator[StoredObject]:
    """Give the objects that share blocks with another one of their node, date and stream."""
    by_merge_key: dict[tuple[str, str, str], list[StoredObject]] = {}
    for obj in found:
        by_merge_key.setdefault(obj.merge_key, []).append(obj)
    for members in by_merge_key.values():
        members.sort(key=lambda obj: obj.parsed_name.block)
        last_block = -1
        overlapping: list[StoredObject] = []
        for obj in members:
            if obj.parsed_name.block > last_block and overlapping:
                yield from overlapping if len(overlapping) > 1 else ()
                overlapping = []
            overlapping.append(obj)
            last_block = max(last_block, obj.parsed_name.last)
        yield from overlapping if len(overlapping) > 1 else ()
