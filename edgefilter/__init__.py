"""edgefilter: tells signal from noise where a radio telescope's stream is born.

>>> import edgefilter
>>> store = edgefilter.open_store("store")  # doctest: +SKIP
>>> store.table("pulses")  # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

from edgefilter.version import __version__

if TYPE_CHECKING:
    from edgefilter.store.reader import open_store

__all__ = ["__version__", "open_store"]


def __getattr__(name: str) -> Any:
    # Lazy: the receiver imports this package too and must start without pyarrow and h5py.
    if name == "open_store":
        from edgefilter.store.reader import open_store

        return open_store
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
