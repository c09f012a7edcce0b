"""From cells to rows: the mean over good cells, Stokes parameters, and the account of every cell."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edgefilter.compute.threads import ThreadBackend
from edgefilter.core.cells import Cells, Flag, FlagCost, NearThreshold, Rows
from edgefilter.core.plan import Plan
from edgefilter.core.reduced_block import IntegratedBlock
from edgefilter_kernels.filterbank.integrate import Sums, combine_parts, integrate, make_sums


class Integrator:
    """Integrate the good cells of a block. History and lookahead are none.

    Stokes parameters are ``I = XX + YY``, ``Q = XX - YY``, ``U = 2 Re(X Y*)``, ``V = 2 Im(X Y*)``: the PSR/IEEE
    convention for linear hands (van Straten et al. 2010, PASA 27, 104). Hands are taken as they are given: no
    calibration, no rotation to the sky, and AA and BB stand for X and Y. A single hand alone is I.

    Parameters
    ----------
    plan
        The layout.
    backend
        Threads over time.
    """

    def __init__(self, plan: Plan, backend: ThreadBackend) -> None:
        self._plan = plan
        self._backend = backend
        self._integrate = backend.kernel(integrate)

    def reduce(self, cells: Cells, first_cell: int = 0, last_cell: int | None = None) -> IntegratedBlock:
        """As :meth:`begin`, and wait."""
        return self.begin(cells, first_cell, last_cell)[1]()

    def begin(
        self, cells: Cells, first_cell: int = 0, last_cell: int | None = None
    ) -> tuple[Rows, Callable[[], IntegratedBlock]]:
        """Integrate one block.

        Parameters
        ----------
        cells
            The block; starts and ends on whole rows.
        first_cell, last_cell
            Cells ``[first_cell, last_cell)``, counted from the block's first, lie within the stream; only these are
            accounted for. The others must be LOST.

        Returns
        -------
        Rows
            As kernels take them, of the first Stokes parameter.
        Callable
            Waits for what remains of the block, on the host.

        Raises
        ------
        ValueError
            If the cells are not those of the plan.
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
        make = self._backend.zeros, self._backend.empty
        sums = make_sums(len(matrix), times // per_row, channels, len(Flag), *make)

        def run(start: int, stop: int) -> None:
            self._integrate(cells.power, cells.flags, matrix, (first_cell, last), sums, start, stop)

        self._backend.parallel_for(len(sums.total), run)
        start = cells.start // per_row
        host_sums = self._backend.start_download(sums)
        flag_results = cells.tagged, cells.cost, cells.near_threshold  # and not the cells, which are large
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
    """Matrix ``[stokes, product]`` that makes Stokes ``"I"`` or ``"IQUV"`` of the products of cells.

    Raises
    ------
    ValueError
        If these products do not hold these Stokes parameters.
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
