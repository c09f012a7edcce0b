"""A full disk, and the space held in reserve for it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")


class DiskFullError(Exception):
    """The disk is full; nothing was changed."""


class Ballast:
    """A file of reserved space, because SQLite needs space even to delete.

    Parameters
    ----------
    path
        The file.
    size
        Its size, B; 0 for none.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size

    def reserve(self) -> None:
        """Reserve the space, if the disk has it."""
        if not self._size or self._path.exists():
            return
        handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(handle, 0, self._size)
        except OSError:
            self._path.unlink(missing_ok=True)
        finally:
            os.close(handle)

    def run(self, work: Callable[[], Result]) -> Result:
        """Run a change of the manifest that adds no products; on a full disk release the reserve and run it again.

        Parameters
        ----------
        work
            The change.

        Returns
        -------
        Result
            What ``work`` returns.

        Raises
        ------
        DiskFullError
            If the reserve is not enough, or already released; nothing is changed then.
        """
        try:
            return work()
        except DiskFullError:
            if not self._path.exists():
                raise
            self._path.unlink(missing_ok=True)
            return work()
