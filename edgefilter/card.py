"""A card: threads for what the processor does, and memory for what the card does."""

from typing import Any

from numpy.typing import DTypeLike

from edgefilter.errors import ConfigError
from edgefilter.workers import Workers


class Card(Workers):
    """Takes the place of :class:`~edgefilter.workers.Workers` where there is a CUDA device.

    Stages that have a twin keep their arrays on it; the others run in the threads.

    Parameters
    ----------
    threads
        Number of threads; 0 is one a core.

    Raises
    ------
    ConfigError
        If there is no card, or no CuPy to use it with.
    """

    def __init__(self, threads: int = 0) -> None:
        try:
            import cupy

            cupy.cuda.runtime.getDeviceCount()
        except ImportError as error:
            raise ConfigError(f"no CuPy to use a card with: {error}") from error
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise ConfigError(f"no card: {error}") from error
        super().__init__(threads)
        self._cupy = cupy

    def empty(self, shape: tuple[int, ...], kind: DTypeLike) -> Any:
        """Return an array on the card that holds anything."""
        return self._cupy.empty(shape, kind)

    def put(self, array: Any) -> Any:
        """Return a C-contiguous array on the card; itself, if it is one."""
        return self._cupy.ascontiguousarray(self._cupy.asarray(array))

    def get(self, array: Any) -> Any:
        """Return an array of the card as a NumPy one, when all that it comes from has been computed."""
        return self._cupy.asnumpy(array)
