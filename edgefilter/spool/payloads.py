"""Files of the spool: whole and on the disk, or not there.

A payload is written under a temporary name, synchronised, renamed, and the folder synchronised. A descriptor whose
``fsync`` failed is closed and its file removed: what the kernel could not write it has forgotten, and a second
``fsync`` on the same descriptor would report success.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_PART = ".part"
DELIVERED, DROPPED = ".delivered", ".dropped"
"""Endings of files whose rows are to go: see :meth:`Payloads.mark`."""


def is_disk_full(error: OSError) -> bool:
    """Whether an error says that the disk, or the user's share of it, is full."""
    return error.errno in _DISK_FULL


def owner_tag(owner: str) -> str:
    """Short mark of an owner, which the names of its files carry."""
    return hashlib.sha256(owner.encode()).hexdigest()[:8]


class Payloads:
    """The files of one spool.

    Parameters
    ----------
    path
        Folder of the spool; made if ``create``.
    owner
        Who writes: files tell it, so that after a crash everyone clears up after themselves alone.
    create
        Whether to make the folders.
    """

    def __init__(self, path: Path, owner: str, create: bool) -> None:
        self._folder = path / "payload"
        self._owner_tag = owner_tag(owner)
        if create:
            for folder in (path / "locks", self._folder):
                folder.mkdir(parents=True, exist_ok=True)
            fsync_directory(path.parent)
            fsync_directory(path)

    def write(self, items: Iterable[tuple[str, bytes]]) -> list[str]:
        """Write payloads durably; return the file of each.

        Parameters
        ----------
        items
            Names of the products, for the eye of an operator, and their bytes.

        Raises
        ------
        OSError
            If one cannot be written; then none is left.
        """
        files: list[str] = []
        try:
            for name, content in items:
                file = f"{name.replace('/', ',')[:200]}.{self._owner_tag}{secrets.token_hex(6)}"
                files.append(file)
                temporary = self._folder / f"{file}{_PART}"
                with temporary.open("xb") as handle:
                    handle.write(content)
                    handle.flush()
                    os.fsync(handle.fileno())
            for file in files:
                (self._folder / f"{file}{_PART}").rename(self._folder / file)
            fsync_directory(self._folder)
        except BaseException:
            for file in files:
                for name in (file, f"{file}{_PART}"):
                    (self._folder / name).unlink(missing_ok=True)
            raise
        return files

    def read(self, file: str) -> bytes:
        """Return the bytes of a payload.

        Raises
        ------
        OSError
            If it cannot be read.
        """
        return (self._folder / file).read_bytes()

    def remove(self, files: Iterable[str]) -> None:
        """Remove payloads, marked or not; those that are not there do not matter."""
        for file in files:
            for suffix in ("", DELIVERED, DROPPED):
                (self._folder / f"{file}{suffix}").unlink(missing_ok=True)

    def mark(self, file: str, suffix: str) -> None:
        """Say on a full disk why the row of a file is to go, and give its space free.

        SQLite can delete nothing there, but a rename takes no space. A recovery finishes what the mark says.
        """
        marked = self._folder / f"{file}{suffix}"
        with contextlib.suppress(FileNotFoundError):
            (self._folder / file).rename(marked)
            fsync_directory(self._folder)
            os.truncate(marked, 0)

    def sizes(self) -> dict[str, int]:
        """Sizes of all files, B; temporary ones and settled ones too."""
        found = {}
        with os.scandir(self._folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    found[entry.name] = entry.stat().st_size
        return found

    @staticmethod
    def owner(file: str) -> str:
        """Tag of the owner that wrote a file, empty if it is none of ours."""
        match = re.search(r"\.([0-9a-f]{8})[0-9a-f]{12}(\.part|\.delivered|\.dropped)?$", file)
        return match.group(1) if match else ""

    @property
    def owner_tag(self) -> str:
        """Tag of this owner."""
        return self._owner_tag


class Ballast:
    """Space held back, so that SQLite can still delete when the disk is full.

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
        """Take the space, if the disk has it."""
        if not self._size or self._path.exists():
            return
        handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(handle, 0, self._size)
        except OSError:
            self._path.unlink(missing_ok=True)
        finally:
            os.close(handle)

    def release(self) -> bool:
        """Give the space free; whether there was any."""
        try:
            self._path.unlink()
        except FileNotFoundError:
            return False
        return True


def fsync_directory(folder: Path) -> None:
    """Synchronise a folder: names given in it survive a loss of power.

    Raises
    ------
    OSError
        If the disk refuses.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Try to lock a file; yield whether it is ours. The lock dies with its process."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)
