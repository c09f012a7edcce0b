"""A store in a directory.

An object is written under ``.tmp``, synchronised to the disk and renamed to its name, and the folders on its path are
synchronised too. Two lock files under ``.tmp`` coordinate the writers of several processes. All writers share
``writers.lock``; a process that gets it exclusively knows that the temporary files belong to writers that died. A
writer holds ``commit.lock`` while it checks that a name is free and renames its file to it, so that no object replaces
another.
"""

import fcntl
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from edgefilter.core.durable import fsync_directory, is_disk_full
from edgefilter.core.errors import ConflictError, StoreError
from edgefilter.products.base import Product
from edgefilter.store.base import ObjectInfo, Store, check_name

if TYPE_CHECKING:
    import pyarrow.fs as pafs

_TEMPORARY = ".tmp"
_PART = ".part"


def connect(url: str, create: bool, _timeout: float) -> Store:
    """Connect to a directory: a path, or ``file:///PATH``.

    Parameters
    ----------
    url
        ``file:///PATH``.
    create
        Whether to create it.

    Returns
    -------
    Store
        The store.

    Raises
    ------
    StoreError
        If the URL names another machine, or the directory cannot be used.
    """
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise StoreError("store file://…: must be file:///PATH, a directory of this machine")
    return DirectoryStore(unquote(parts.path), create)


class DirectoryStore(Store):
    """Objects as files below one folder.

    Parameters
    ----------
    path
        The folder.
    create
        Whether to create the folder if it is missing, and to remove partly written files of writers that died. If
        False, nothing is changed on the disk: for readers.

    Raises
    ------
    StoreError
        If the folder is missing, is not a directory, or may not be used by this user.
    """

    def __init__(self, path: str | Path, create: bool = False) -> None:
        self.path = Path(path).absolute()
        self._synced_folders: set[Path] = set()  # folders whose directory entries are on the disk
        if create:
            with self._as_store_error("cannot be used"):
                self._make_folder(self.path / _TEMPORARY)
                self._remove_stale_parts()
        if not self.path.is_dir():
            problem = "is not a directory" if self.path.exists() else "there is no such directory"
            raise StoreError(f"store {self.path}: {problem}")
        if not os.access(self.path, os.R_OK | os.X_OK):
            raise StoreError(f"store {self.path}: may not be read by this user")

    @property
    def location(self) -> str:
        return str(self.path)

    def put(self, product: Product) -> None:
        target = self._file(product.name)
        with self._as_store_error(f"cannot write {product.name}"):
            self._make_folder(self.path / _TEMPORARY)
            self._make_folder(target.parent)
            with self._locked("writers.lock", fcntl.LOCK_SH):
                if not self._contains(target, product):
                    self._write(target, product)
            # Also if the object was there before: its writer may have died before this step.
            fsync_directory(target.parent)

    def get(self, name: str) -> bytes:
        file = self._file(name)
        try:
            return file.read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise StoreError(f"store {self.path}: holds no {name}") from None
        except OSError as error:
            raise StoreError(f"store {self.path}: cannot read {name}: {error.strerror}") from None

    def listing(self, prefix: str = "") -> Iterator[ObjectInfo]:
        for name in self.names(prefix):
            try:
                state = (self.path / name).stat()
            except FileNotFoundError:
                continue  # a compaction has deleted it meanwhile
            yield ObjectInfo(name, state.st_size, state.st_mtime)

    def names(self, prefix: str = "") -> Iterator[str]:
        folder = prefix.rpartition("/")[0]
        if folder:
            check_name(folder)
        found: list[str] = []
        for here, folders, files in os.walk(self.path / folder, onerror=self._raise_listing_error):
            folders[:] = [name for name in folders if not name.startswith(".")]
            inner = Path(here).relative_to(self.path)
            found += [(inner / name).as_posix() for name in files if not name.startswith(".")]
        return iter(sorted(name for name in found if name.startswith(prefix)))

    def folders(self, prefix: str) -> list[str]:
        if prefix:
            check_name(prefix.removesuffix("/"))
        try:
            with os.scandir(self.path / prefix) as entries:
                folders = [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
            return sorted(f"{prefix}{name}/" for name in folders)
        except OSError as error:
            self._raise_listing_error(error)
            return []

    def delete(self, names: Sequence[str]) -> None:
        for name in names:
            with self._as_store_error(f"cannot delete {name}"):
                self._file(name).unlink(missing_ok=True)

    def filesystem(self) -> "pafs.FileSystem":
        """Return the folder as an Arrow file system."""
        import pyarrow.fs as pafs  # imported here because writers do not need it

        return pafs.SubTreeFileSystem(self.location, pafs.LocalFileSystem())

    def url(self, name: str) -> str:
        return str(self._file(name))

    def _raise_listing_error(self, error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise StoreError(f"store {self.path}: cannot list {error.filename}: {error.strerror}")

    def _file(self, name: str) -> Path:
        check_name(name)
        return self.path / name

    def _write(self, target: Path, product: Product) -> None:
        temporary = self.path / _TEMPORARY / f"{uuid.uuid4().hex}{_PART}"
        try:
            with temporary.open("xb") as file:
                file.write(product.content)
                file.flush()
                os.fsync(file.fileno())
            with self._locked("commit.lock", fcntl.LOCK_EX):
                if not self._contains(target, product):
                    temporary.rename(target)
        finally:
            temporary.unlink(missing_ok=True)

    def _contains(self, target: Path, product: Product) -> bool:
        """Return whether the object is there already; raise ConflictError if its name has other content."""
        try:
            same = target.stat().st_size == len(product.content) and target.read_bytes() == product.content
        except FileNotFoundError:
            return False
        if not same:
            raise ConflictError(f"store {self.path}: {product.name} is there with other content, which stays as it is")
        return True

    def _make_folder(self, folder: Path) -> None:
        """Make sure that a folder exists and survives a loss of power, also if another process created it."""
        if folder in self._synced_folders:
            return
        inside = self.path in folder.parents
        if inside or not folder.parent.exists():
            self._make_folder(folder.parent)
        if inside or not folder.is_dir():
            folder.mkdir(exist_ok=True)
            fsync_directory(folder.parent)
        self._synced_folders.add(folder)

    def _remove_stale_parts(self) -> None:
        try:
            with self._locked("writers.lock", fcntl.LOCK_EX | fcntl.LOCK_NB):
                for file in (self.path / _TEMPORARY).glob(f"*{_PART}"):
                    file.unlink(missing_ok=True)
        except BlockingIOError:
            return  # a writer is active; the files are removed when the store is opened again

    @contextmanager
    def _locked(self, name: str, mode: int) -> Iterator[None]:
        handle = os.open(self.path / _TEMPORARY / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(handle, mode)
            yield
        finally:
            os.close(handle)

    @contextmanager
    def _as_store_error(self, what: str) -> Iterator[None]:
        try:
            yield
        except (FileExistsError, NotADirectoryError) as error:
            raise StoreError(f"store {self.path}: {what}: {error.filename} is not a directory") from None
        except OSError as error:
            problem = "no space left" if is_disk_full(error) else error.strerror
            raise StoreError(f"store {self.path}: {what}: {problem}") from None
