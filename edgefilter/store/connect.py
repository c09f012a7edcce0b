"""Connection to a store by its path or URL.

The scheme of a URL names a plug-in (:mod:`edgefilter.plugins`): a function, or a class, that is called with the URL,
whether to create the store, and the longest time of one request in s, and returns a
:class:`~edgefilter.store.base.Store`.
"""

import re
from collections.abc import Callable
from pathlib import Path

from edgefilter.core.errors import PluginError, StoreError
from edgefilter.plugins import Group, Plugin, get_plugin
from edgefilter.store.base import Store
from edgefilter.store.directory import DirectoryStore

_PASSWORD = re.compile(r"[^/@]*:(?!\d*/)[^?@]*@")  # a port is not one


def connect(location: str | Path, create: bool = False, timeout: float = 60.0) -> Store:
    """Connect to a store.

    Parameters
    ----------
    location
        A folder, its ``file://`` URL, ``s3://BUCKET/PREFIX``, or a URL of a scheme that another package brings.
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
        If ``location`` is none of these, contains a password, or the store cannot be used.
    """
    scheme, url, rest = str(location).partition("://")
    if not url:
        return DirectoryStore(location, create)
    shown = f"store {scheme}://…"
    if _PASSWORD.match(rest):
        raise StoreError(f"{shown}: a URL must not contain keys; set them in the environment or a profile")
    try:
        return _connect(store_plugin(str(location)), str(location), create, timeout)
    except PluginError as error:
        raise StoreError(f"{shown}: {error}".replace(str(location), f"{scheme}://…")) from error


def store_plugin(location: str) -> Plugin:
    """Find the plug-in that connects to a store.

    Parameters
    ----------
    location
        As for :func:`connect`.

    Returns
    -------
    Plugin
        The plug-in, not imported yet.

    Raises
    ------
    PluginError
        If no installed package brings the scheme; the message lists those that are there.
    """
    scheme, url, _ = location.partition("://")
    return get_plugin(Group.STORES, scheme.lower() if url else "file")


def _connect(plugin: Plugin, url: str, create: bool, timeout: float) -> Store:
    connect_to = plugin.load_as(Callable)  # type: ignore[arg-type]
    with plugin.errors_in_one_line():
        store = connect_to(url, create, timeout)
    if not isinstance(store, Store):
        raise PluginError(f"{plugin.title} connects to a {type(store).__name__}, must be a Store")
    return store
