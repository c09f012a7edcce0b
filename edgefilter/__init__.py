"""edgefilter: tells signal from noise where a radio telescope's stream is born.

>>> import edgefilter
>>> store = edgefilter.open_store("store")  # doctest: +SKIP
>>> store.table("pulses")  # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

from edgefilter.version import __version__

if TYPE_CHECKING:
    from edgefilter.flagging import FLAGS, flag
    from edgefilter.store.reader import open_store

__all__ = ["FLAGS", "__version__", "flag", "open_store"]


def __getattr__(name: str) -> Any:
    # Lazy: the receiver imports this package too and must start without pyarrow and h5py.
    if name == "open_store":
        from edgefilter.store.reader import open_store

        return open_store
    if name in ("flag", "FLAGS"):
        from edgefilter import flagging

        return getattr(flagging, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
