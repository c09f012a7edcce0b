"""What leaves the spool, whatever room there is: rows first, then files, on a full disk too."""

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from edgefilter.spool.manifest import DiskFullError, Entry, Manifest
from edgefilter.spool.payloads import Ballast, Payloads

Result = TypeVar("Result")
RowChange = Callable[[Sequence[str]], None]
"""Takes the rows of these names away."""


class Removal:
    """Takes products out of a spool.

    SQLite can delete nothing on a full disk. The ballast is released for it, and if not even that helps, files are
    marked and emptied, which needs no space, and their rows go when other products have left, or at the next start.

    Parameters
    ----------
    manifest, payloads, ballast
        Those of the spool.
    """

    def __init__(self, manifest: Manifest, payloads: Payloads, ballast: Ballast) -> None:
        self._manifest = manifest
        self._payloads = payloads
        self._ballast = ballast
        self._pending: list[tuple[Sequence[Entry], RowChange]] = []

    def remove_entries(self, entries: Sequence[Entry], mark: str, change: RowChange) -> None:
        """Take rows away and then their files; ``mark`` says to a recovery why, if the rows must stay for now."""
        self._pending.append((entries, change))
        try:
            self.run_with_ballast(self._remove_pending)
        except DiskFullError:
            for entry in entries:
                self._payloads.mark(entry.file, mark)

    def _remove_pending(self) -> None:
        while self._pending:
            entries, change = self._pending[0]
            change([entry.name for entry in entries])
            self._pending.pop(0)
            self.unlink(entry.file for entry in entries)

    def entries(self, where: str, *values: object, limit: int = -1) -> list[Entry]:
        """Return rows as :meth:`Manifest.entries` does, without those that only a full disk keeps."""
        pending_names = {entry.name for entries, _ in self._pending for entry in entries}
        found = self._manifest.entries(where, *values, limit=limit + len(pending_names) if limit >= 0 else -1)
        return [entry for entry in found if entry.name not in pending_names]

    def run_with_ballast(self, work: Callable[[], Result]) -> Result:
        """Do what only shrinks the manifest, with the ballast's space if there is no other.

        Raises
        ------
        DiskFullError
            If not even that is enough; nothing is changed then.
        """
        try:
            return work()
        except DiskFullError:
            if not self._ballast.release():
                raise
            return work()

    def unlink(self, files: Iterable[str]) -> None:
        """Remove files; what cannot be removed is an orphan, and goes when the spool is opened again."""
        with contextlib.suppress(OSError):
            self._payloads.remove(files)
