"""Grouping of table pieces that are merged into one object before they are uploaded.

A piece is the file of one table and block. Blocks of a stream are grouped at absolute multiples of a fixed number, and
the pieces of a group (one table, node, date and stream) become one object. So block numbers decide which pieces are
merged, not the time, unless a piece has waited for longer than allowed. This module reads no clock and no file.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from edgefilter.products.naming import parse
from edgefilter.spool.manifest import Entry

_MERGED_BYTES = 64 << 20
"""Most bytes of pieces in one object, because a node holds them in memory."""

_GroupKey = tuple[str, str, str, str, int]
"""Table, node, date, stream, number of the group."""


@dataclass(slots=True)
class BatchPlanner:
    """Decides which groups are due.

    Parameters
    ----------
    blocks
        Blocks in a group; with 1 nothing is merged.
    seconds
        How long a piece may wait for its group, s.
    """

    blocks: int
    seconds: float
    _first_seen: dict[_GroupKey, float] = field(default_factory=dict)
    _newest_group: dict[str, int] = field(default_factory=dict)

    def due(self, entries: Iterable[Entry], now: float, flush: bool = False) -> list[list[Entry]]:
        """Return the groups that are to be merged and sealed now.

        A group is due when a block of a later group of its stream has arrived (a stream's blocks arrive in order), or
        when it was first seen ``seconds`` ago.

        Parameters
        ----------
        entries
            All pieces that may be merged.
        now
            Time of a monotonic clock, s.
        flush
            Whether all groups are due.

        Returns
        -------
        list of list of Entry
            The pieces of each group; a large group is split.
        """
        groups: dict[_GroupKey, list[Entry]] = {}
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
    """Split a group into parts that fit into memory."""
    batch: list[Entry] = []
    size = 0
    for entry in sorted(entries, key=lambda entry: entry.name):
        if batch and size + entry.size > _MERGED_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += entry.size
    yield batch
