"""Things that come one a block, held for as long as a later block may ask for them."""

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class BlockHistory(Generic[T]):
    """Consecutive blocks' worth of something, oldest first.

    Parameters
    ----------
    first
        Number of the first block that will come.
    """

    def __init__(self, first: int) -> None:
        self._items: deque[T] = deque()
        self._first = first

    @property
    def next(self) -> int:
        """Number of the block that comes next."""
        return self._first + len(self._items)

    def append(self, item: T) -> None:
        """Take in what belongs to block :attr:`next`."""
        self._items.append(item)

    def get(self, block: int) -> T | None:
        """Return what belongs to a block, None if it never was, is not yet, or has been dropped."""
        index = block - self._first
        return self._items[index] if 0 <= index < len(self._items) else None

    def window(self, start: int, stop: int) -> list[T | None]:
        """Return what belongs to blocks ``[start, stop)``."""
        return [self.get(block) for block in range(start, stop)]

    def drop_before(self, block: int) -> None:
        """Forget what belongs to earlier blocks."""
        while self._items and self._first < block:
            self._items.popleft()
            self._first += 1
