"""The writer's table of the intervals of samples that have arrived, and its copy in the ring's file.

The file has two banks for the table. A change that two stores cannot make safely rewrites the table into the other bank
and then raises the generation, so readers always see a consistent table.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from itertools import chain

from edgefilter.core.errors import WireError
from edgefilter.node.ring.layout import COMPLETE_FROM, COUNT, GENERATION, INTERVALS, RECORDS, Snapshot, bank

_HISTORY_CAPACITIES = 4  # the table keeps intervals up to so many capacities of the ring below the floor


class IntervalTable:
    """Sorted, disjoint intervals ``[start, stop)`` of sample numbers.

    Parameters
    ----------
    words
        The words of the ring's file.
    capacity
        Capacity of the ring, samples.

    Attributes
    ----------
    intervals
        The intervals; change them with the methods only.
    """

    def __init__(self, words: "memoryview[int]", capacity: int) -> None:
        self._words = words
        self._history_samples = _HISTORY_CAPACITIES * capacity
        self._generation = 0
        self._complete_from = 0
        self.intervals: list[tuple[int, int]] = []

    def load(self, snapshot: Snapshot) -> None:
        """Take over the table that another writer has left in the file.

        Parameters
        ----------
        snapshot
            What the file contains.
        """
        self._generation = self._words[GENERATION]
        self._complete_from, self.intervals = snapshot.complete_from, snapshot.intervals

    def start(self, sample: int) -> None:
        """Begin the run.

        Parameters
        ----------
        sample
            First sample of the run.
        """
        self._complete_from = self._words[bank(self._generation) + COMPLETE_FROM] = sample

    def extend_last(self, stop: int) -> None:
        """Extend the last interval.

        Parameters
        ----------
        stop
            One past its new last sample.
        """
        self.intervals[-1] = (self.intervals[-1][0], stop)
        self._words[bank(self._generation) + RECORDS + 2 * len(self.intervals) - 1] = stop

    def find(self, start: int, stop: int, floor: int) -> tuple[int, int]:
        """Return the range of the intervals that ``[start, stop)`` overlaps or touches.

        Parameters
        ----------
        start, stop
            The new interval, sample numbers.
        floor
            The oldest sample in the ring.

        Returns
        -------
        low, high
            Indices: the intervals ``low`` to ``high - 1``.

        Raises
        ------
        WireError
            Of kind ``fragments`` if the table has no room for one more interval.
        """
        low = bisect_left(self.intervals, start, key=lambda interval: interval[1])
        high = bisect_right(self.intervals, stop, key=lambda interval: interval[0])
        if low == high and len(self.intervals) - self._count_below(floor) >= INTERVALS:
            raise WireError("fragments", f"the ring has more than {INTERVALS} separate gaps")
        return low, high

    def insert(self, span: tuple[int, int], low: int, high: int, floor: int, fence: Callable[[], None]) -> None:
        """Replace the intervals that a new one overlaps or touches by their union with it.

        Parameters
        ----------
        span
            The new interval ``[start, stop)``.
        low, high
            Range of the intervals, from :meth:`find`.
        floor
            The oldest sample in the ring.
        fence
            Orders the stores before it and after it.
        """
        start, stop = span
        if low < high:
            start = min(start, self.intervals[low][0])
            stop = max(stop, self.intervals[high - 1][1])
        self.intervals[low:high] = [(start, stop)]
        words = self._words
        at = bank(self._generation)
        record = at + RECORDS + 2 * low
        if high - low == 1:
            # The table is true after each of the two stores.
            words[record] = start
            words[record + 1] = stop
        elif low == high == words[at + COUNT] < INTERVALS:
            words[record], words[record + 1] = start, stop
            fence()
            words[at + COUNT] = low + 1
        else:
            self._rewrite(floor, fence)

    def _count_below(self, sample: int) -> int:
        return bisect_right(self.intervals, sample, key=lambda interval: interval[1])

    def _rewrite(self, floor: int, fence: Callable[[], None]) -> None:
        """Write the table into the other bank, without intervals far below the floor."""
        n_dropped = self._count_below(floor - self._history_samples)
        if len(self.intervals) - n_dropped > INTERVALS // 2:
            n_dropped = self._count_below(floor)
        if n_dropped:
            self._complete_from = max(self._complete_from, self.intervals[n_dropped - 1][1])
            del self.intervals[:n_dropped]
        words = self._words
        at = bank(self._generation + 1)
        flat = array("Q", chain.from_iterable(self.intervals))
        words[at + RECORDS : at + RECORDS + len(flat)] = memoryview(flat)
        words[at + COUNT], words[at + COMPLETE_FROM] = len(self.intervals), self._complete_from
        fence()
        self._generation += 1
        words[GENERATION] = self._generation
