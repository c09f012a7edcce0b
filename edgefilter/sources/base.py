"""Where samples come from.

A source is read at sample numbers, as often as one likes: this is what lets a reducer start anywhere.
"""

from typing import Protocol

from edgefilter.core.chunk import Chunk
from edgefilter.core.stream import Stream


class Source(Protocol):
    """Samples that can be read at their numbers."""

    @property
    def stream(self) -> Stream:
        """The header."""

    @property
    def samples(self) -> int:
        """One past the last sample."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user should know about these samples, a line each (a cut-off file, an unknown frequency)."""

    def read(self, start: int, stop: int) -> Chunk:
        """Read samples ``[start, stop)``.

        Any range is allowed; what lies before sample 0 or after the last one is a gap of reason OUTSIDE, what the
        source lacks in between a gap that says why.
        """

    def close(self) -> None:
        """Give back files and memory."""
