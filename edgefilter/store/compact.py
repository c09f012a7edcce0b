"""Many small objects of a table become few large ones, while nodes go on writing and readers reading.

1. The current files of a table, node, date and stream are merged, in the order of blocks, into files of a good size.
   A merged file says in itself which files it replaces, so at the moment it can be read those no longer count: see
   :mod:`edgefilter.store.current_objects`. There is no second object to be written, and no moment between.
2. Files that have been replaced for longer than ``grace`` are deleted. A reader that listed them before there was a
   merged file has read them by then; one that lists now reads the merged file.

Both steps can be cut off anywhere and be repeated: the same files give the same merged file. Two compactions at once
waste work, and are kept apart by who runs them: a store has one committer.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from edgefilter.products.merge import merge
from edgefilter.products.schemas import SCHEMAS
from edgefilter.store.base import Store
from edgefilter.store.current_objects import StoredObject, current_objects, list_objects, replaced_digests

TARGET_BYTES = 128 << 20
GRACE_SECONDS = 3600.0
_READ_THREADS = 8


@dataclass(slots=True)
class Compaction:
    """What was done: files merged, files written in their place, replaced files deleted."""

    merged: int = 0
    written: int = 0
    deleted: int = 0


def compact(
    store: Store,
    before: str,
    now: float,
    grace: float = GRACE_SECONDS,
    target: int = TARGET_BYTES,
    on_written: Callable[[str], None] = lambda _: None,
) -> Compaction:
    """Merge the small files of days that are over, and delete what was replaced long enough ago.

    Parameters
    ----------
    store
        The store.
    before
        Dates before this one (``2026-11-23``) are merged; on later ones nodes are still busy.
    now
        Seconds since 1970 by the store's clock.
    grace
        How long replaced files stay, s: longer than any reader takes from listing to reading.
    target
        Size of the merged files, B.
    on_written
        Called with the name of each file written.

    Raises
    ------
    StoreError
        If the store cannot be read or written, or a file is damaged.
    """
    done = Compaction()
    for table in SCHEMAS:
        found = list_objects(store, f"{table}/")
        deleted_names = _delete_replaced(store, found, now - grace)
        done.deleted += len(deleted_names)
        for group in _merge_groups(
            current_objects(store, [obj for obj in found if obj.name not in deleted_names]), before, target
        ):
            names = [obj.name for obj in group]
            with ThreadPoolExecutor(_READ_THREADS) as pool:
                product = merge(list(zip(names, pool.map(store.get, names), strict=True)))
            store.put(product)
            on_written(product.name)
            done.merged += len(group)
            done.written += 1
    return done


def _merge_groups(found: list[StoredObject], before: str, target: int) -> Iterator[list[StoredObject]]:
    """Give what is to be merged: neighbours of one node, date and stream, up to the target size."""
    by_merge_key: dict[tuple[str, str, str], list[StoredObject]] = {}
    for obj in found:
        if obj.parsed_name.date < before and obj.info.size < target:
            by_merge_key.setdefault(obj.merge_key, []).append(obj)
    for members in by_merge_key.values():
        group: list[StoredObject] = []
        for obj in members:
            if group and sum(other.info.size for other in group) + obj.info.size > target:
                yield from [group] if len(group) > 1 else ()
                group = []
            group.append(obj)
        yield from [group] if len(group) > 1 else ()


def _delete_replaced(store: Store, found: list[StoredObject], until: float) -> set[str]:
    """Delete files that a merged one of before ``until`` replaces; return their names."""
    filesystem = store.filesystem()
    replaced = {
        (obj.merge_key, digest)
        for obj in found
        if obj.parsed_name.last > obj.parsed_name.block and obj.info.modified <= until
        for digest in replaced_digests(obj.name, filesystem)
    }
    names = {obj.name for obj in found if (obj.merge_key, obj.parsed_name.digest) in replaced}
    store.delete(sorted(names))
    return names
