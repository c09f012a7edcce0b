"""Results of consecutive blocks, kept for as long as a later block needs them."""

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class BlockHistory(Generic[T]):
    """Results of consecutive blocks, oldest first.

    Parameters
    ----------
    first
        Number of the first block.
    """

    def __init__(self, first: int) -> None:
        self._items: deque[T] = deque()
        self._first = first

    @property
    def next(self) -> int:
        """Number of the block that is appended next."""
        return self._first + len(self._items)

    def append(self, item: T) -> None:
        """Append the result of block :attr:`next`.

        Parameters
        ----------
        item
            The result.
        """
        self._items.append(item)

    def get(self, block: int) -> T | None:
        """Return the result of a block.

        Parameters
        ----------
        block
            Number of the block.

        Returns
        -------
        T or None
            None if the block is not there: before the first, not yet appended, or dropped.
        """
        index = block - self._first
        return self._items[index] if 0 <= index < len(self._items) else None

    def window(self, start: int, stop: int) -> list[T | None]:
        """Return the results of consecutive blocks.

        Parameters
        ----------
        start, stop
            Blocks ``[start, stop)``.

        Returns
        -------
        list
            As :meth:`get` returns them.
        """
        return [self.get(block) for block in range(start, stop)]

    def drop_before(self, block: int) -> None:
        """Drop the results of earlier blocks.

        Parameters
        ----------
        block
            First block that is kept.
        """
        while self._items and self._first < block:
            self._items.popleft()
            self._first += 1
