"""Objects that hold files, threads or sockets, and give them back at the end of a ``with`` block."""

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Closing(ABC):
    """Base of classes with a method ``close``: usable in ``with``, closed at its end whether it failed or not."""

    @abstractmethod
    def close(self) -> None:
        """Give back what the object holds. Calling it again does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
