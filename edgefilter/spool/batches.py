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

GroupKey = tuple[str, str, str, str, int]


@dataclass(slots=True)
class BatchPlanner:
    """Says which groups are due.

    Parameters
    ----------
    blocks
        Blocks in a group; 1 merges nothing.
    seconds
        How long a piece may wait, s.
    """

    blocks: int
    seconds: float
    _first_seen: dict[GroupKey, float] = field(default_factory=dict)
    _newest_group: dict[str, int] = field(default_factory=dict)

    def due(self, entries: Iterable[Entry], now: float, flush: bool = False) -> list[list[Entry]]:
        """Return the groups that are to be sealed now.

        A group is due when a later block of its stream has come (a stream's blocks come in order), when it was first
        seen ``seconds`` ago, or when ``flush`` is to go.

        Parameters
        ----------
        entries
            All that may be merged.
        now
            Seconds of a clock that never jumps.
        """
        groups: dict[GroupKey, list[Entry]] = {}
        for entry in entries:
            name = parse(entry.name)
            group = name.block // self.blocks
            groups.setdefault((name.folder, name.node, name.date, name.stream, group), []).append(entry)
            self._newest_group[name.stream] = max(self._newest_group.get(name.stream, 0), group)
        self._first_seen = {key: self._first_seen.get(key, now) for key in groups}
        return [
            batch
            for key, found in groups.items()
            if flush
            or self.blocks == 1
            or key[4] < self._newest_group[key[3]]
            or now - self._first_seen[key] >= self.seconds
            for batch in _split_by_size(found)
        ]


def _split_by_size(entries: list[Entry]) -> Iterator[list[Entry]]:
    """Cut a group into parts that fit into memory."""
    batch: list[Entry] = []
    size = 0
    for entry in sorted(entries, key=lambda entry: entry.name):
        if batch and size + entry.size > _MERGED_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += entry.size
    yield batch
