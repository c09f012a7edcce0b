"""The stages that others bring: what a plug-in of the group ``edgefilter.stages`` defines.

Such a stage gets the integrated rows of a block, with as many rows before and after as it declares, and returns the
rows of a table of its own. It changes no product of edgefilter.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from edgefilter.compute.threads import ThreadBackend
from edgefilter.core.cells import Rows
from edgefilter.core.plan import Plan
from edgefilter.core.stage_settings import ReductionSection


class Stage(Protocol):
    """A step that looks at the rows of one block.

    Its result must follow from the rows, the plan and the settings alone (law 1): not from earlier calls, nor from the
    number of threads. A row or channel of weight 0 holds no data (law 3).
    """

    @property
    def history(self) -> int:
        """Rows before a block that its result depends on."""

    @property
    def lookahead(self) -> int:
        """Rows after a block that its result depends on."""

    def reduce(self, rows: Rows) -> Mapping[str, Sequence[Any]] | None:
        """Reduce one block.

        Parameters
        ----------
        rows
            The ``history`` rows before the block, the ``rows_per_block`` rows of the block, and ``lookahead`` rows
            after it; rows before the start and after the end of the stream have weight 0. The arrays are the stage's
            own: it may change them.

        Returns
        -------
        Mapping or None
            Values of each column of its table, sequences of equal length; None if the block has no rows in it.
        """


@dataclass(frozen=True)
class StagePlugin:
    """A stage with its settings and its table; the name of the entry point is that of the section and of the table.

    Parameters
    ----------
    settings
        Class of the section ``[stages.NAME]``; its docstring and the text below each field are its documentation.
    make
        Makes the stage from the plan, its settings and the threads that it may use. Called once for each run.
    columns
        Columns of its table, of :func:`edgefilter.products.base.column`; the columns of every table (stream, block,
        config, code, time, tai_ns, seconds) stand before them.
    droppable
        Whether the spool may drop the table when its disk is full, as it drops spectra; otherwise it is kept like
        candidates.
    """

    settings: type[ReductionSection]
    make: Callable[[Plan, Any, ThreadBackend], Stage]
    columns: tuple[pa.Field, ...]
    droppable: bool = True
