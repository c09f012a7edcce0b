"""Removal of products from the spool: rows first, then files, on a full disk too."""

import contextlib
from collections.abc import Callable, Iterable, Sequence

from edgefilter.spool.disk_space import Ballast, DiskFullError
from edgefilter.spool.manifest import Entry, Manifest
from edgefilter.spool.payloads import Payloads

RemoveRows = Callable[[Sequence[str]], None]
"""Removes the rows of these names from the manifest."""


class Removal:
    """Removes products from a spool.

    On a full disk SQLite cannot delete. Then the ballast is released; if that is not enough, the files are marked and
    emptied, which needs no space, and their rows are removed together with later products, or at the next start.

    Parameters
    ----------
    manifest, payloads, ballast
        Those of the spool.
    """

    def __init__(self, manifest: Manifest, payloads: Payloads, ballast: Ballast) -> None:
        self._manifest = manifest
        self._payloads = payloads
        self._ballast = ballast
        self._pending: list[tuple[Sequence[Entry], RemoveRows]] = []

    def remove_entries(self, entries: Sequence[Entry], mark: str, remove_rows: RemoveRows) -> None:
        """Remove rows and then their files.

        Parameters
        ----------
        entries
            The products.
        mark
            Suffix of their files while the rows must stay; see :meth:`Payloads.mark`.
        remove_rows
            Removes the rows.
        """
        self._pending.append((entries, remove_rows))
        try:
            self._ballast.run(self._remove_pending)
        except DiskFullError:
            for entry in entries:
                self._payloads.mark(entry.file, mark)

    def _remove_pending(self) -> None:
        while self._pending:
            entries, remove_rows = self._pending[0]
            remove_rows([entry.name for entry in entries])
            self._pending.pop(0)
            self.unlink(entry.file for entry in entries)

    def entries(self, where: str = "", *values: object, limit: int = -1) -> list[Entry]:
        """Read products, as :meth:`Manifest.entries`, without those whose rows could not be removed yet.

        Parameters
        ----------
        where, *values, limit
            See :meth:`Manifest.entries`.

        Returns
        -------
        list of Entry
            Sorted by priority and age, the oldest first.
        """
        pending_names = {entry.name for entries, _ in self._pending for entry in entries}
        found = self._manifest.entries(where, *values, limit=limit + len(pending_names) if limit >= 0 else -1)
        return [entry for entry in found if entry.name not in pending_names]

    def unlink(self, files: Iterable[str]) -> None:
        """Remove files; those that cannot be removed are removed as orphans when the spool is opened again.

        Parameters
        ----------
        files
            Names of the files.
        """
        with contextlib.suppress(OSError):
            self._payloads.remove(files)
