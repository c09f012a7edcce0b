"""What a new owner of a spool does first: remove files without rows, and rows without files."""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from edgefilter.spool.manifest import Entry, Manifest
from edgefilter.spool.payloads import DELIVERED, DROPPED, Payloads, try_lock
from edgefilter.spool.removal import Removal


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was found when a spool was opened.

    Parameters
    ----------
    orphans
        Files without a row, left by a process that died between the two; they were removed.
    lost
        Products whose file was gone or cut: their rows became notes of what was dropped.
    """

    orphans: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{len(self.orphans)} orphaned files removed, {len(self.lost)} damaged products given up"


def recover(manifest: Manifest, payloads: Payloads, removal: Removal, locks: Path) -> Recovered:
    """Clear up after owners that died; other owners may be at work.

    Parameters
    ----------
    manifest, payloads, removal
        Those of the spool.
    locks
        Folder of the owners' locks.
    """
    # Files before rows: a row comes after its file and goes before it.
    sizes = payloads.sizes()
    rows = manifest.entries()
    marked = {suffix: [row for row in rows if f"{row.file}{suffix}" in sizes] for suffix in (DELIVERED, DROPPED)}
    marked_files = {row.file for found in marked.values() for row in found}
    lost = _find_damaged(manifest, payloads, [row for row in rows if row.file not in marked_files], sizes)
    for entries, mark, change in (
        (marked[DELIVERED], DELIVERED, manifest.remove_delivered),
        (marked[DROPPED], DROPPED, lambda names: manifest.drop(names, "disk full")),
        (lost, DROPPED, lambda names: manifest.drop(names, "damaged")),
    ):
        if entries:
            removal.remove_entries(entries, mark, change)
    known = {row.file for row in rows}
    suspects = [file for file in sorted(sizes) if _unmarked_name(file) not in known]
    orphans = _remove_orphans(manifest, payloads, removal, locks, suspects)
    return Recovered(tuple(orphans), tuple(entry.name for entry in lost))


def _find_damaged(manifest: Manifest, payloads: Payloads, rows: list[Entry], sizes: dict[str, int]) -> list[Entry]:
    """Return rows whose file is not as it should be, and that nobody has just come or gone with."""
    suspects = [row for row in rows if sizes.get(row.file) != row.size]
    now = payloads.sizes() if suspects else {}
    suspects = [row for row in suspects if now.get(row.file) != row.size]
    still = manifest.existing_names(row.name for row in suspects)
    return [row for row in suspects if row.name in still]


def _remove_orphans(
    manifest: Manifest, payloads: Payloads, removal: Removal, locks: Path, suspects: Iterable[str]
) -> list[str]:
    """Remove files that have no row, unless their owner lives: they are about to get theirs.

    An owner may have given a file its row after the rows were looked at, and then died: what counts is what there is
    once its lock is held.
    """
    orphans: dict[str, list[str]] = {}
    for file in suspects:
        if owner := payloads.owner(file):
            orphans.setdefault(owner, []).append(file)
    removed: list[str] = []
    for owner, found in orphans.items():
        with contextlib.ExitStack() as stack:
            if owner == payloads.owner_tag or stack.enter_context(try_lock(locks / owner)):
                known = {row.file for row in manifest.entries()}
                orphaned = [file for file in found if _unmarked_name(file) not in known]
                removal.unlink(orphaned)
                removed += orphaned
    return removed


def _unmarked_name(name: str) -> str:
    """Name of a payload's file without the mark that it may carry."""
    return name.removesuffix(DELIVERED).removesuffix(DROPPED)
