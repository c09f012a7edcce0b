"""Connection to a store by its path or URL."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from edgefilter.core.errors import StoreError
from edgefilter.store.base import Store
from edgefilter.store.directory import DirectoryStore


def connect(location: str | Path, create: bool = False, timeout: float = 60.0) -> Store:
    """Connect to a store.

    Parameters
    ----------
    location
        A folder, its ``file://`` URL, or ``s3://BUCKET/PREFIX``.
    create
        Whether to create the folder. Buckets are never created: that is for the owner of the object store.
    timeout
        Longest time of one request to an object store, s.

    Returns
    -------
    Store
        The store.

    Raises
    ------
    StoreError
        If ``location`` is none of these, or the store cannot be used.
    """
    text = str(location)
    if "://" not in text:
        return DirectoryStore(location, create)
    url = urlsplit(text)
    if url.scheme == "file" and url.netloc in ("", "localhost"):
        return DirectoryStore(unquote(url.path), create)
    if url.scheme == "s3":
        # Imported here because a store in a folder needs no S3 client.
        from edgefilter.store.objects import ObjectStore

        return ObjectStore(text, timeout)
    raise StoreError(f"store {url.scheme}://…: must be a directory, its file:// URL, or s3://BUCKET/PREFIX")
