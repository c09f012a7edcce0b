"""Files of the spool: each is complete and on the disk, or does not exist.

A payload is written under a temporary name, synchronised and renamed, and the folder is synchronised. If an ``fsync``
fails, the descriptor is closed and the file removed: the kernel has discarded the data that it could not write, and a
second ``fsync`` of the same descriptor would report success.
"""

import contextlib
import hashlib
import os
import re
import secrets
from collections.abc import Iterable
from pathlib import Path

from edgefilter.core.durable import fsync_directory, is_disk_full
from edgefilter.spool.disk_space import DiskFullError

_PART = ".part"
DELIVERED, DROPPED = ".delivered", ".dropped"
"""Suffixes of files whose rows are still to be removed: see :meth:`Payloads.mark`."""


class Payloads:
    """The files of one spool.

    Parameters
    ----------
    path
        Folder of the spool.
    owner
        Role and name of the process that writes. The names of its files contain a tag of it, so that after a crash
        each owner removes its own files only.
    create
        Whether to create the folders.
    """

    def __init__(self, path: Path, owner: str, create: bool) -> None:
        self._folder = path / "payload"
        self.owner_tag = hashlib.sha256(owner.encode()).hexdigest()[:8]
        if create:
            for folder in (path / "locks", self._folder):
                folder.mkdir(parents=True, exist_ok=True)
            fsync_directory(path.parent)
            fsync_directory(path)

    def write(self, items: Iterable[tuple[str, bytes]]) -> list[str]:
        """Write payloads durably.

        Parameters
        ----------
        items
            Names of the products, which the names of the files repeat for an operator, and their bytes.

        Returns
        -------
        list of str
            The file of each.

        Raises
        ------
        DiskFullError
            If the disk is full; then no file remains, as for any other error.
        OSError
            If a file cannot be written for another reason.
        """
        files: list[str] = []
        try:
            for name, content in items:
                file = f"{name.replace('/', ',')[:200]}.{self.owner_tag}{secrets.token_hex(6)}"
                files.append(file)
                temporary = self._folder / f"{file}{_PART}"
                with temporary.open("xb") as handle:
                    handle.write(content)
                    handle.flush()
                    os.fsync(handle.fileno())
            for file in files:
                (self._folder / f"{file}{_PART}").rename(self._folder / file)
            fsync_directory(self._folder)
        except BaseException as error:
            for file in files:
                for name in (file, f"{file}{_PART}"):
                    (self._folder / name).unlink(missing_ok=True)
            if isinstance(error, OSError) and is_disk_full(error):
                raise DiskFullError from None
            raise
        return files

    def read(self, file: str) -> bytes:
        """Read a payload.

        Parameters
        ----------
        file
            Name of the file.

        Returns
        -------
        bytes
            Its content.

        Raises
        ------
        OSError
            If it cannot be read.
        """
        return (self._folder / file).read_bytes()

    def remove(self, files: Iterable[str]) -> None:
        """Remove payloads, marked or not; missing ones are ignored.

        Parameters
        ----------
        files
            Names of the files.
        """
        for file in files:
            for suffix in ("", DELIVERED, DROPPED):
                (self._folder / f"{file}{suffix}").unlink(missing_ok=True)

    def mark(self, file: str, suffix: str) -> None:
        """Rename a file whose row cannot be removed yet, and free its space.

        On a full disk SQLite cannot delete, but a rename needs no space. The row is removed by a later recovery.

        Parameters
        ----------
        file
            Name of the file.
        suffix
            :data:`DELIVERED` or :data:`DROPPED`: why the row is to be removed.
        """
        marked = self._folder / f"{file}{suffix}"
        with contextlib.suppress(FileNotFoundError):
            (self._folder / file).rename(marked)
            fsync_directory(self._folder)
            os.truncate(marked, 0)

    def sizes(self) -> dict[str, int]:
        """Return the sizes of all files, B, including temporary and marked ones."""
        found = {}
        with os.scandir(self._folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    found[entry.name] = entry.stat().st_size
        return found


def owner_of(file: str) -> str:
    """Read the owner's tag from the name of a file.

    Parameters
    ----------
    file
        Name of a file in the payload folder.

    Returns
    -------
    str
        The tag; empty if the spool did not write the file.
    """
    match = re.search(r"\.([0-9a-f]{8})[0-9a-f]{12}(\.part|\.delivered|\.dropped)?$", file)
    return match.group(1) if match else ""
