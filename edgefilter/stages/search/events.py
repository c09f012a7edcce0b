"""Events of the single-pulse search: boxcars above the threshold."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from edgefilter.core.reduced_block import Rejection

EVENT_DTYPE = np.dtype(
    [
        ("row", np.float64),
        ("dm", np.float64),
        ("dm_step", np.float64),
        ("width_rows", np.int32),
        ("snr", np.float32),
        ("band", np.int32),
        ("is_pulse", np.bool_),
        ("explains", np.bool_),
    ]
)
"""One event.

``row``
    Centre of the boxcar at the centre of the whole band's highest channel, rows since the epoch (row r lasts from r to
    r + 1).
``dm``, ``dm_step``
    Dispersion measure, and distance to the next trial, pc cm⁻³.
``width_rows``
    Width of the boxcar.
``snr``
    S/N.
``band``
    Index in :func:`edgefilter.stages.search.dm_plan.search_bands`.
``is_pulse``, ``explains``
    After sifting: whether no other event of its block explains it; whether it explains events of other blocks.
"""

_FOUND_FIELDS = ("row", "dm", "dm_step", "width_rows", "snr", "band")


@dataclass(slots=True)
class Events:
    """Events of a block, strongest first.

    Parameters
    ----------
    table
        :data:`EVENT_DTYPE` ``[event]``.
    overflow
        Number of weaker events that were dropped because the bound was reached.
    near_threshold
        Number of decisions so near the threshold that the CPU may decide differently; 0 for events of the CPU.
    rejected
        Number of events that were rejected, by reason.
    """

    table: NDArray[Any]
    overflow: int = 0
    near_threshold: int = 0
    rejected: Mapping[Rejection, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.table)

    @classmethod
    def from_columns(cls, *columns: NDArray[Any], near_threshold: int = 0) -> Self:
        """Return events in the given order.

        Parameters
        ----------
        columns
            Arrays ``[event]``: the fields of :data:`EVENT_DTYPE` that the search knows, in that order.
        near_threshold
            See the class.

        Returns
        -------
        events
            Events without overflow.
        """
        table = np.zeros(len(columns[0]), EVENT_DTYPE)
        for name, column in zip(_FOUND_FIELDS, columns, strict=True):
            table[name] = column
        return cls(table, near_threshold=near_threshold)

    @classmethod
    def join(cls, parts: list[Self]) -> Self:
        """Return all events of several parts, sorted by falling S/N, and by the other fields where S/N is equal.

        Parameters
        ----------
        parts
            Events in any order; none gives no events.

        Returns
        -------
        events
            The same for every order of the parts.
        """
        table = np.concatenate([np.empty(0, EVENT_DTYPE), *(part.table for part in parts)])
        order = np.lexsort((table["band"], table["width_rows"], table["dm"], table["row"], -table["snr"]))
        return cls(table[order], sum(part.overflow for part in parts), sum(part.near_threshold for part in parts))

    def strongest(self, max_events: int) -> Self:
        """Return the first events, and count the others as overflow.

        Parameters
        ----------
        max_events
            Most events to return.

        Returns
        -------
        events
            The first events.
        """
        dropped = max(len(self) - max_events, 0)
        return type(self)(self.table[:max_events], self.overflow + dropped, self.near_threshold)


class StrongestEvents:
    """Collects events from several threads and keeps the strongest; the result does not depend on the order.

    Parameters
    ----------
    max_events
        Number of events that are kept.
    """

    def __init__(self, max_events: int) -> None:
        self._max_events = max_events
        self._parts: list[Events] = []
        self._count = 0
        self._lock = threading.Lock()

    def add(self, events: Events) -> None:
        """Add events.

        Parameters
        ----------
        events
            In any order.
        """
        if len(events) or events.near_threshold:
            with self._lock:
                self._parts.append(events)
                self._count += len(events)
                if self._count > 4 * self._max_events:
                    self._parts = [self.all()]
                    self._count = len(self._parts[0])

    def all(self) -> Events:
        """Return the strongest of all events that were added."""
        return Events.join(self._parts).strongest(self._max_events)
