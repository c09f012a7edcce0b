"""Compaction: many small objects of a table are merged into few large ones, while nodes write and readers read.

1. The current files of a table, node, date and stream are merged, in the order of blocks, into files of about the
   target size. The metadata of a merged file list the files that it replaces, so as soon as it can be read, those are
   no longer current: see :mod:`edgefilter.store.current_objects`. No second object is needed, and there is no moment in
   between.
2. Files that have been replaced for longer than ``grace`` are deleted. A reader that listed them before the merged file
   existed has read them by then; a reader that lists later reads the merged file.

Both steps can be interrupted anywhere and repeated: the same pieces make the same merged file. Two compactions at the
same time waste work; the operator runs one at a time for each store.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edgefilter.products.merge import merge, split_by_types
from edgefilter.store.base import Store, map_parallel
from edgefilter.store.current_objects import StoredObject, current_objects, list_objects, replaced_digests
from edgefilter.store.table_files import table_names

TARGET_BYTES = 128 << 20
GRACE_SECONDS = 3600.0


@dataclass(slots=True)
class Compaction:
    """Number of files merged, of merged files written, and of replaced files deleted."""

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
    """Merge the small files of past days, and delete files that were replaced long enough ago.

    Parameters
    ----------
    store
        The store.
    before
        Dates before this one (``2026-11-23``) are merged; nodes may still write later ones.
    now
        Seconds since 1970 by the store's clock.
    grace
        How long replaced files stay, s; longer than any reader takes from listing to reading.
    target
        Size of the merged files, B.
    on_written
        Called with the name of each file written.

    Returns
    -------
    Compaction
        What was done.

    Raises
    ------
    StoreError
        If the store cannot be read or written, or a file is damaged.
    """
    done = Compaction()
    for table in table_names(store):
        found = list_objects(store, f"{table}/")
        deleted_names = _delete_replaced(store, found, now - grace)
        done.deleted += len(deleted_names)
        for group in _merge_groups(
            current_objects(store, [obj for obj in found if obj.name not in deleted_names]), before, target
        ):
            names = [obj.name for obj in group]
            for pieces in split_by_types(list(zip(names, map_parallel(store.get, names), strict=True))):
                if len(pieces) == 1:
                    continue
                product = merge(pieces)
                store.put(product)
                on_written(product.name)
                done.merged += len(pieces)
                done.written += 1
    return done


def _merge_groups(found: list[StoredObject], before: str, target: int) -> Iterator[list[StoredObject]]:
    """Yield the groups to be merged: consecutive files of a node, date and stream, up to the target size."""
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
    """Delete files that a merged file written before ``until`` replaces; return their names."""
    filesystem = store.filesystem()
    replaced = {
        (obj.merge_key, digest)
        for obj in found
        if obj.parsed_name.merged and obj.info.modified <= until
        for digest in replaced_digests(obj.name, filesystem)
    }
    names = {obj.name for obj in found if (obj.merge_key, obj.parsed_name.digest) in replaced}
    store.delete(sorted(names))
    return names
