"""Many small objects of a table become few large ones, while nodes go on writing and readers reading.

1. The live files of a table, node, date and stream are merged, in the order of blocks, into files of a good size.
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
from edgefilter.store.current_objects import Part, live, parts, replaced_by

TARGET_BYTES = 128 << 20
GRACE_SECONDS = 3600.0
_READERS = 8


@dataclass(slots=True)
class Compaction:
    """What was done: files merged, files made of them, replaced files deleted."""

    merged: int = 0
    made: int = 0
    deleted: int = 0


def compact(
    store: Store,
    before: str,
    now: float,
    grace: float = GRACE_SECONDS,
    target: int = TARGET_BYTES,
    told: Callable[[str], None] = lambda _: None,
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
    told
        Called with the name of each file that is made.

    Raises
    ------
    StoreError
        If the store cannot be read or written, or a file is damaged.
    """
    done = Compaction()
    for table in SCHEMAS:
        found = parts(store, f"{table}/")
        gone = _clean(store, found, now - grace)
        done.deleted += len(gone)
        for group in _groups(live(store, [part for part in found if part.name not in gone]), before, target):
            names = [part.name for part in group]
            with ThreadPoolExecutor(_READERS) as pool:
                product = merge(list(zip(names, pool.map(store.get, names), strict=True)))
            store.put(product)
            told(product.name)
            done.merged += len(group)
            done.made += 1
    return done


def _groups(found: list[Part], before: str, target: int) -> Iterator[list[Part]]:
    """Give what is to be merged: neighbours of one node, date and stream, up to the target size."""
    places: dict[tuple[str, str, str], list[Part]] = {}
    for part in found:
        if part.parsed.date < before and part.listed.size < target:
            places.setdefault(part.place, []).append(part)
    for members in places.values():
        group: list[Part] = []
        for part in members:
            if group and sum(other.listed.size for other in group) + part.listed.size > target:
                yield from [group] if len(group) > 1 else ()
                group = []
            group.append(part)
        yield from [group] if len(group) > 1 else ()


def _clean(store: Store, found: list[Part], until: float) -> set[str]:
    """Delete files that a merged one of before ``until`` replaces; return their names."""
    files = store.files()
    gone = {
        (part.place, digest)
        for part in found
        if part.parsed.last > part.parsed.block and part.listed.modified <= until
        for digest in replaced_by(part.name, files)
    }
    names = {part.name for part in found if (part.place, part.parsed.digest) in gone}
    store.delete(sorted(names))
    return names
