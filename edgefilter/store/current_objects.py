"""Selection of the current objects of a table: those that no merged file replaces.

A merged file lists the files that it replaces. Between a compaction and its clean-up both exist, and only the merged
file is current. A reader sees every row once: it lists a folder, leaves out the files that others in the listing
replace, and reads the rest. Files of a listing are deleted only when all readers of that time have ended.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import pyarrow as pa
import pyarrow.parquet as pq

from edgefilter.core.errors import StoreError
from edgefilter.products.merge import merged_digests
from edgefilter.products.naming import ProductName, parse
from edgefilter.store.base import ObjectInfo, Store, first_line, map_parallel


@dataclass(frozen=True, slots=True)
class StoredObject:
    """A product in the store: its parsed name and its entry in the listing."""

    parsed_name: ProductName
    info: ObjectInfo

    @property
    def name(self) -> str:
        """Name of the object."""
        return self.info.name

    @property
    def merge_key(self) -> tuple[str, str, str]:
        """Node, date and stream; files of a table are merged only if they share these."""
        return self.parsed_name.node, self.parsed_name.date, self.parsed_name.stream


def list_objects(store: Store, *folders: str) -> list[StoredObject]:
    """List the products in folders; other files are ignored.

    Parameters
    ----------
    store
        The store.
    *folders
        Prefixes that end in ``/``, none within another.

    Returns
    -------
    list of StoredObject
        Sorted by stream, block and name.

    Raises
    ------
    StoreError
        If the store cannot be read.
    """
    found = []
    for info in chain.from_iterable(map_parallel(store.listing, folders)):
        try:
            found.append(StoredObject(parse(info.name), info))
        except StoreError:
            continue
    return sorted(found, key=lambda obj: (obj.parsed_name.stream, obj.parsed_name.block, obj.name))


def current_objects(store: Store, found: Iterable[StoredObject]) -> list[StoredObject]:
    """Select the objects of a table that no other object replaces.

    Parameters
    ----------
    store
        The store.
    found
        Objects of a table.

    Returns
    -------
    list of StoredObject
        The current ones, in the same order.

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
        if obj.parsed_name.merged
        for digest in replaced_digests(obj.name, filesystem)
    }
    return [obj for obj in found if (obj.merge_key, obj.parsed_name.digest) not in replaced]


def replaced_digests(name: str, filesystem: pa.fs.FileSystem) -> list[str]:
    """Read from a merged file, of which only the footer is read, which files it replaces.

    Parameters
    ----------
    name
        Name of the merged file.
    filesystem
        :meth:`edgefilter.store.base.Store.filesystem`.

    Returns
    -------
    list of str
        Digests of the replaced files; empty if the merged file has been deleted.

    Raises
    ------
    StoreError
        If the file is damaged.
    """
    try:
        return merged_digests(pq.read_schema(name, filesystem=filesystem))
    except FileNotFoundError:
        return []  # another merged file has replaced it, and lists the same files
    except (pa.ArrowException, OSError) as error:
        raise StoreError(f"{name}: damaged: {first_line(error)}") from None


def _overlapping(found: Iterable[StoredObject]) -> Iterator[StoredObject]:
    """Yield the objects that share blocks with another object of their node, date and stream."""
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
