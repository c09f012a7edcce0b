"""Which pieces of tables go to the store together. Pure: no clock, no file.

Blocks of a stream are cut into groups at absolute multiples of a fixed number, and the pieces of a group (of one table,
node, date and stream) make one object. So what is merged follows from block numbers, not from when things happened,
unless a piece has waited for longer than is allowed.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from edgefilter.products.naming import parse
from edgefilter.spool.manifest import Entry

_MERGED_BYTES = 64 << 20
"""Most bytes of pieces in one object: what a node may need to hold of it in memory."""

Key = tuple[str, str, str, str, int]


@dataclass(slots=True)
class Batches:
    """Tells ripe groups.

    Parameters
    ----------
    blocks
        Blocks in a group; 1 merges nothing.
    seconds
        How long a piece may wait, s.
    """

    blocks: int
    seconds: float
    _since: dict[Key, float] = field(default_factory=dict)
    _reached: dict[str, int] = field(default_factory=dict)

    def ripe(self, pieces: Iterable[Entry], now: float, everything: bool = False) -> list[list[Entry]]:
        """Return the groups that are to be sealed now.

        A group is ripe when a later block of its stream has come (a stream's blocks come in order), when it was first
        seen ``seconds`` ago, or when ``everything`` is to go.

        Parameters
        ----------
        pieces
            All that may be merged.
        now
            Seconds of a clock that never jumps.
        """
        groups: dict[Key, list[Entry]] = {}
        for piece in pieces:
            name = parse(piece.name)
            group = name.block // self.blocks
            groups.setdefault((name.folder, name.node, name.date, name.stream, group), []).append(piece)
            self._reached[name.stream] = max(self._reached.get(name.stream, 0), group)
        self._since = {key: self._since.get(key, now) for key in groups}
        return [
            part
            for key, found in groups.items()
            if everything
            or self.blocks == 1
            or key[4] < self._reached[key[3]]
            or now - self._since[key] >= self.seconds
            for part in _parts(found)
        ]


def _parts(pieces: list[Entry]) -> Iterator[list[Entry]]:
    """Cut a group into parts that fit into memory."""
    part: list[Entry] = []
    size = 0
    for piece in sorted(pieces, key=lambda piece: piece.name):
        if part and size + piece.size > _MERGED_BYTES:
            yield part
            part, size = [], 0
        part.append(piece)
        size += piece.size
    yield part
