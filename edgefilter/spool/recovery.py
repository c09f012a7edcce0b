"""Repair of a spool when it is opened.

Files without a row are removed; products whose file is missing or cut short are dropped, and recorded as such.
"""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from edgefilter.core.locks import try_lock
from edgefilter.spool.manifest import Entry, Manifest
from edgefilter.spool.payloads import DELIVERED, DROPPED, Payloads, owner_of
from edgefilter.spool.removal import Removal


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was repaired when a spool was opened.

    Parameters
    ----------
    orphans
        Files without a row, whose writer died before it inserted the row; removed.
    lost
        Products whose file was missing or cut short; dropped, and recorded as such.
    """

    orphans: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{len(self.orphans)} orphaned files removed, {len(self.lost)} damaged products dropped"


def recover(manifest: Manifest, payloads: Payloads, removal: Removal, locks: Path) -> Recovered:
    """Repair what killed processes left behind; other processes may use the spool meanwhile.

    Parameters
    ----------
    manifest, payloads, removal
        Those of the spool.
    locks
        Folder of the owners' locks.

    Returns
    -------
    Recovered
        What was repaired.
    """
    # Files are listed before rows: a row is inserted after its file is written, and removed before its file is.
    sizes = payloads.sizes()
    rows = manifest.entries()
    marked = {suffix: [row for row in rows if f"{row.file}{suffix}" in sizes] for suffix in (DELIVERED, DROPPED)}
    marked_files = {row.file for found in marked.values() for row in found}
    lost = _find_damaged(manifest, payloads, [row for row in rows if row.file not in marked_files], sizes)
    for entries, mark, remove_rows in (
        (marked[DELIVERED], DELIVERED, manifest.remove_delivered),
        (marked[DROPPED], DROPPED, lambda names: manifest.drop(names, "disk full")),
        (lost, DROPPED, lambda names: manifest.drop(names, "damaged")),
    ):
        if entries:
            removal.remove_entries(entries, mark, remove_rows)
    known = {row.file for row in rows}
    suspects = [file for file in sorted(sizes) if _unmarked_name(file) not in known]
    orphans = _remove_orphans(manifest, payloads, removal, locks, suspects)
    return Recovered(tuple(orphans), tuple(entry.name for entry in lost))


def _find_damaged(manifest: Manifest, payloads: Payloads, rows: list[Entry], sizes: dict[str, int]) -> list[Entry]:
    """Return rows whose file is missing or has another size, unless another process has just changed them."""
    suspects = [row for row in rows if sizes.get(row.file) != row.size]
    now = payloads.sizes() if suspects else {}
    suspects = [row for row in suspects if now.get(row.file) != row.size]
    still = manifest.existing_names(row.name for row in suspects)
    return [row for row in suspects if row.name in still]


def _remove_orphans(
    manifest: Manifest, payloads: Payloads, removal: Removal, locks: Path, suspects: Iterable[str]
) -> list[str]:
    """Remove files without a row, unless their owner is running and about to insert the row.

    The rows are read again under the owner's lock: it may have inserted a row after they were first read, and then
    died.
    """
    orphans: dict[str, list[str]] = {}
    for file in suspects:
        if owner := owner_of(file):
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
    """Return the name of a payload's file without its mark, if it has one."""
    return name.removesuffix(DELIVERED).removesuffix(DROPPED)
