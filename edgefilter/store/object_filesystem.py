"""The objects of any store as an Arrow file system that can only be read."""

from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.fs as pafs

from edgefilter.store.base import Store


class ObjectFileSystem(pafs.FileSystemHandler):  # type: ignore[misc]  # pyarrow has no types
    """Reads whole objects, for stores of other packages: ``pyarrow.fs.PyFileSystem(ObjectFileSystem(store))``.

    Parameters
    ----------
    store
        The store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectFileSystem) and other._store is self._store

    def get_type_name(self) -> str:
        """Return the name of this kind of file system."""
        return "edgefilter"

    def normalize_path(self, path: str) -> str:
        """Return a path as it is.

        Parameters
        ----------
        path
            Name of an object.

        Returns
        -------
        str
            The name.
        """
        return path

    def get_file_info(self, paths: list[str]) -> list[Any]:
        """Look objects up.

        Parameters
        ----------
        paths
            Their names.

        Returns
        -------
        list of pyarrow.fs.FileInfo
            One for each.
        """
        return [self._info(path) for path in paths]

    def open_input_file(self, path: str) -> Any:
        """Read an object.

        Parameters
        ----------
        path
            Its name.

        Returns
        -------
        pyarrow.BufferReader
            Its content.
        """
        return pa.BufferReader(self._store.get(path))

    def _info(self, path: str) -> Any:
        sizes = {item.name: item.size for item in self._store.listing(path)}
        if path in sizes:
            return pafs.FileInfo(path, pafs.FileType.File, size=sizes[path])
        return pafs.FileInfo(path, pafs.FileType.Directory if sizes else pafs.FileType.NotFound)

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise NotImplementedError("this file system can only read objects")

    open_input_stream = open_input_file
    get_file_info_selector = create_dir = delete_dir = delete_dir_contents = delete_root_dir_contents = _refuse
    delete_file = move = copy_file = open_output_stream = open_append_stream = _refuse
