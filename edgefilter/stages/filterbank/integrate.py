"""From cells to rows: the mean over good cells, Stokes parameters, and the count of every cell."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edgefilter.compute.threads import ThreadBackend
from edgefilter.core.cells import Cells, Flag, FlagCost, NearThreshold, Rows
from edgefilter.core.plan import Plan
from edgefilter.core.reduced_block import IntegratedBlock
from edgefilter_kernels.filterbank.integrate import Sums, combine_parts, integrate, make_sums


class Integrator:
    """Integrates the good cells of a block to rows; needs no history and no lookahead.

    Stokes parameters are ``I = XX + YY``, ``Q = XX - YY``, ``U = 2 Re(X Y*)``, ``V = 2 Im(X Y*)``: the PSR/IEEE
    convention for linear polarisations (van Straten et al. 2010, PASA 27, 104). They are neither calibrated nor
    rotated to the sky; AA and BB are treated as X and Y. A single polarisation is I.

    Parameters
    ----------
    plan
        Plan of the stream.
    backend
        Runs the kernel.
    """

    def __init__(self, plan: Plan, backend: ThreadBackend) -> None:
        self._plan = plan
        self._backend = backend
        self._integrate = backend.kernel(integrate)

    def reduce(self, cells: Cells, first_cell: int = 0, last_cell: int | None = None) -> IntegratedBlock:
        """As :meth:`begin`, but wait and return the integrated block."""
        return self.begin(cells, first_cell, last_cell)[1]()

    def begin(
        self, cells: Cells, first_cell: int = 0, last_cell: int | None = None
    ) -> tuple[Rows, Callable[[], IntegratedBlock]]:
        """Start to integrate a block.

        Parameters
        ----------
        cells
            Cells of the block; it starts and ends at a row.
        first_cell, last_cell
            Times ``[first_cell, last_cell)``, counted from the block's start, lie within the stream; only their cells
            are counted. Cells at other times must be LOST.

        Returns
        -------
        rows
            Rows of the first Stokes parameter, in arrays of the backend.
        wait : Callable
            Waits for the computation, and returns the integrated block in NumPy arrays.

        Raises
        ------
        ValueError
            If the cells do not fit the plan.
        """
        times, channels, _ = cells.power.shape
        per_row = self._plan.cells_per_row
        if channels != self._plan.channels or times == 0 or times % per_row or cells.start % per_row:
            raise ValueError(
                f"cells {cells.power.shape} from {cells.start} are not whole rows of {per_row} cells "
                f"of {self._plan.channels} channels"
            )
        matrix = self._backend.to_device(stokes_matrix(cells.products, self._plan.settings.detect.stokes))
        last = times if last_cell is None else last_cell
        allocate = self._backend.zeros, self._backend.empty
        sums = make_sums(len(matrix), times // per_row, channels, len(Flag), *allocate)

        def run(start: int, stop: int) -> None:
            self._integrate(cells.power, cells.flags, matrix, (first_cell, last), sums, start, stop)

        self._backend.parallel_for(len(sums.total), run)
        start = cells.start // per_row
        host_sums = self._backend.start_download(sums)
        flag_results = cells.tagged, cells.cost, cells.near_threshold  # the cells, which are large, can be freed
        intensity = sums.stokes if len(matrix) == 1 else self._backend.detach_view(sums.stokes[:1])
        return Rows(start, intensity, sums.weight), lambda: _integrated_block(
            combine_parts(Sums(*host_sums())), start, *flag_results
        )


def _integrated_block(
    sums: Sums, start: int, tagged: NDArray[np.int64] | None, cost: tuple[FlagCost, ...], near_threshold: NearThreshold
) -> IntegratedBlock:
    if tagged is not None:
        sums.raised[list(Flag).index(Flag.TAGGED)] = tagged
    spectrum = np.full_like(sums.total, np.nan)
    np.divide(sums.total, sums.good, out=spectrum, where=sums.good > 0)
    rows = Rows(start, sums.stokes, sums.weight)
    return IntegratedBlock(rows, spectrum, sums.good, sums.occupancy, sums.raised, cost, near_threshold)


def stokes_matrix(products: tuple[str, ...], stokes: str) -> NDArray[np.float64]:
    """Return the matrix from the products of cells to Stokes parameters.

    Convention: van Straten et al. 2010, PASA 27, 104.

    Parameters
    ----------
    products
        Products of a cell, such as ``("XX", "YY", "CR", "CI")``.
    stokes
        ``I`` or ``IQUV``.

    Returns
    -------
    NDArray
        float64 ``[stokes, product]``.

    Raises
    ------
    ValueError
        If the Stokes parameters cannot be computed from the products.
    """
    is_two_pols = products[:2] in (("XX", "YY"), ("AA", "BB"))
    if stokes == "I":
        intensity = np.zeros((1, len(products)))
        intensity[0, : 2 if is_two_pols else 1] = 1.0
        return intensity
    if products == ("I", "Q", "U", "V"):
        return np.eye(4)
    if is_two_pols and products[2:] == ("CR", "CI"):
        return np.array([[1.0, 1, 0, 0], [1, -1, 0, 0], [0, 0, 2, 0], [0, 0, 0, 2]])
    raise ValueError(f"products {products} do not hold Stokes {stokes}")
