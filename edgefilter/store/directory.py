"""A store in a directory.

An object is written under ``.tmp``, synchronised to the disk, renamed to its name, and the folders on its way are
synchronised too. Two lock files under ``.tmp`` order writers of several processes: ``writers.lock`` is shared by all
who are writing, so that whoever gets it alone knows that every temporary file is a dead writer's; ``commit.lock`` is
held while a name is looked up and given, so that no object can replace another.
"""

import errno
import fcntl
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from edgefilter.core.errors import ConflictError, StoreError
from edgefilter.products.base import Product
from edgefilter.store.base import ObjectInfo, check_name

if TYPE_CHECKING:
    import pyarrow.fs as pafs

_TEMPORARY = ".tmp"
_PART = ".part"
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class DirectoryStore:
    """Objects as files below one folder. See :class:`edgefilter.store.base.Store`.

    Parameters
    ----------
    path
        The folder.
    create
        Whether to make it if it is not there, and to remove what writers that died have left half-written. Readers
        leave it False: nothing is then touched.

    Raises
    ------
    StoreError
        If it is not a folder, is not there, or may not be used.
    """

    def __init__(self, path: str | Path, create: bool = False) -> None:
        self.path = Path(path).absolute()
        self._synced_folders: set[Path] = set()  # folders whose own entry is known to be on the disk
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
        """The folder."""
        return str(self.path)

    def put(self, product: Product) -> None:
        """Keep an object durably; see :meth:`edgefilter.store.base.Store.put`."""
        target = self._file(product.name)
        with self._as_store_error(f"cannot write {product.name}"):
            self._make_folder(self.path / _TEMPORARY)
            self._make_folder(target.parent)
            with self._locked("writers.lock", fcntl.LOCK_SH):
                if not self._contains(target, product):
                    self._write(target, product)
            # Also where the object was there before: its writer may have died before it did this.
            _fsync_directory(target.parent)

    def get(self, name: str) -> bytes:
        """Return the bytes of an object; see :meth:`edgefilter.store.base.Store.get`."""
        file = self._file(name)
        try:
            return file.read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise StoreError(f"store {self.path}: holds no {name}") from None
        except OSError as error:
            raise StoreError(f"store {self.path}: cannot read {name}: {error.strerror}") from None

    def listing(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Give the objects whose names begin with ``prefix``, sorted."""
        for name in self.names(prefix):
            try:
                state = (self.path / name).stat()
            except FileNotFoundError:
                continue  # replaced by a compaction meanwhile
            yield ObjectInfo(name, state.st_size, state.st_mtime)

    def names(self, prefix: str = "") -> Iterator[str]:
        """Give the names that begin with ``prefix``, sorted."""
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
        """Give the folders right below one; see :meth:`edgefilter.store.base.Store.folders`."""
        check_name(prefix.removesuffix("/"))
        try:
            with os.scandir(self.path / prefix) as entries:
                return sorted(f"{prefix}{entry.name}/" for entry in entries if entry.is_dir())
        except OSError as error:
            self._raise_listing_error(error)
            return []

    def delete(self, names: Sequence[str]) -> None:
        """Remove objects; see :meth:`edgefilter.store.base.Store.delete`."""
        for name in names:
            with self._as_store_error(f"cannot delete {name}"):
                self._file(name).unlink(missing_ok=True)

    def filesystem(self) -> "pafs.FileSystem":
        """Return the folder as a file system of Arrow."""
        import pyarrow.fs as pafs  # what writes alone need not wait for it

        return pafs.SubTreeFileSystem(self.location, pafs.LocalFileSystem())

    def url(self, name: str) -> str:
        """Return the path of an object."""
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
        """Whether the object is there already; a StoreError if other bytes are."""
        try:
            same = target.stat().st_size == len(product.content) and target.read_bytes() == product.content
        except FileNotFoundError:
            return False
        if not same:
            raise ConflictError(f"store {self.path}: {product.name} is there with other content, which stays as it is")
        return True

    def _make_folder(self, folder: Path) -> None:
        """Make a folder that survives a loss of power, whoever made it."""
        if folder in self._synced_folders:
            return
        inside = self.path in folder.parents
        if inside or not folder.parent.exists():
            self._make_folder(folder.parent)
        if inside or not folder.is_dir():
            folder.mkdir(exist_ok=True)
            _fsync_directory(folder.parent)
        self._synced_folders.add(folder)

    def _remove_stale_parts(self) -> None:
        try:
            with self._locked("writers.lock", fcntl.LOCK_EX | fcntl.LOCK_NB):
                for file in (self.path / _TEMPORARY).glob(f"*{_PART}"):
                    file.unlink(missing_ok=True)
        except BlockingIOError:
            return  # someone is writing: the next one to open the store cleans up

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
            problem = "no space left" if error.errno in _DISK_FULL else error.strerror
            raise StoreError(f"store {self.path}: {what}: {problem}") from None


def _fsync_directory(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems cannot synchronise a folder; they commit a rename before it returns.
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(handle)
