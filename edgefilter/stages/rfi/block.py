"""One block of cells as the flaggers see it."""

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgefilter.compute.threads import ThreadBackend
from edgefilter_kernels.rfi.intensity import PowerCells

Arrays = TypeVar("Arrays", bound=tuple[Any, ...])


@dataclass(frozen=True, slots=True)
class BlockView:
    r"""One block of cells; arrays are on the device of the kernels, except ``accumulated``.

    Parameters
    ----------
    power
        float32 ``[time, channel, product]``: the first ``n_pols`` products are mean \|v\|², and their sum is the
        intensity.
    moment4
        float32 ``[time, channel, pol]``: mean \|v\|⁴; of no polarisation if it is not known.
    accumulated
        int32 ``[time]``: voltages of a polarisation in a cell, 0 if not known.
    n_pols
        Products that add up to the intensity.
    flags
        uint16 ``[time, channel]``; a cell is used where it is 0.
    spectra
        Voltages of a polarisation in most cells, 0 if not known.
    """

    power: NDArray[np.float32]
    moment4: NDArray[np.float32]
    accumulated: NDArray[np.int32]
    n_pols: int
    flags: NDArray[np.uint16]
    spectra: int

    @property
    def cells(self) -> PowerCells:
        """The cells as kernels take them."""
        return PowerCells(self.power, self.n_pols, self.flags)


def tuple_to_device(arrays: Arrays, backend: ThreadBackend) -> Arrays:
    """Copy the arrays of a named tuple to the device of a backend.

    Parameters
    ----------
    arrays
        Named tuple of NumPy arrays and numbers.
    backend
        Threads, or a GPU.

    Returns
    -------
    Arrays
        The same with arrays on the device; other members are unchanged.
    """
    on_device = (backend.to_device(member) if isinstance(member, np.ndarray) else member for member in arrays)
    return type(arrays)(*on_device)
