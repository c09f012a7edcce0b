"""edgefilter: reduces the sample stream of a radio telescope, and accounts for every sample.

>>> import edgefilter as ef
>>> run = ef.replay("burst.fil")  # doctest: +SKIP
>>> run.pulses[0].plot()  # doctest: +SKIP
>>> store = ef.open_store("store")  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgefilter.core.version import __version__

if TYPE_CHECKING:
    from edgefilter.analysis.archive import open_store
    from edgefilter.batch.notebook import replay
    from edgefilter.sources.simulated.sky import sky
    from edgefilter.stages.rfi.api import FLAGS, flag

__all__ = ["FLAGS", "__version__", "flag", "open_store", "replay", "sky"]

# Lazy: the receiver imports this package too and must start without pyarrow, numba and h5py.
_LAZY = {
    "FLAGS": "edgefilter.stages.rfi.api",
    "flag": "edgefilter.stages.rfi.api",
    "open_store": "edgefilter.analysis.archive",
    "replay": "edgefilter.batch.notebook",
    "sky": "edgefilter.sources.simulated.sky",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
