"""Objects that hold files, threads or sockets, and give them back at the end of a ``with`` block."""

from types import TracebackType
from typing import Self


class Closing:
    """Base of classes with a method ``close``: usable in ``with``, closed at its end whether it failed or not."""

    def close(self) -> None:
        """Give back what the object holds. Calling it again does nothing."""
        raise NotImplementedError  # pragma: no cover

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
