"""Dropping the least important products when the budget or the disk is full.

Products in the spool are dropped first, the oldest of the lowest priority before the others, then products of the block
that is being committed. Which products may be dropped is in :mod:`edgefilter.spool.priorities`. Each dropped product
leaves a record in the manifest, which the forwarder writes to the table ``dropped`` of the store.
"""

from dataclasses import dataclass, field

from edgefilter.products.base import Priority, Product
from edgefilter.spool.disk_space import Ballast
from edgefilter.spool.manifest import Entry, Manifest
from edgefilter.spool.payloads import DROPPED
from edgefilter.spool.priorities import least_important
from edgefilter.spool.removal import Removal

_BATCH = 1000
_BUDGET, _DISK_FULL = "budget", "disk full"


class NoRoomError(Exception):
    """The spool is full and the rest must not be dropped; the message says what is full."""


@dataclass(slots=True)
class Incoming:
    """Products of a commit.

    Parameters
    ----------
    products
        Those that are committed.
    dropped
        Name, size (B) and reason of those that are dropped instead.
    """

    products: list[Product]
    dropped: list[tuple[str, int, str]] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes of the products."""
        return sum(len(product.content) for product in self.products)

    def _drop_least_important(self, reason: str) -> bool:
        victim = least_important(self.products)
        if victim is None:
            return False
        self.products.remove(victim)
        self.dropped.append((victim.name, len(victim.content), reason))
        return True


class Eviction:
    """Makes room in a spool.

    Parameters
    ----------
    manifest, removal, ballast
        Those of the spool.
    budget
        Most bytes of products in the spool; None is as many as the disk takes.
    """

    def __init__(self, manifest: Manifest, removal: Removal, ballast: Ballast, budget: int | None) -> None:
        self._manifest = manifest
        self._removal = removal
        self._ballast = ballast
        self._budget = budget

    def fit_to_budget(self, incoming: Incoming) -> None:
        """Drop products until the spool and the incoming products fit into the budget.

        Parameters
        ----------
        incoming
            The products of the commit; changed in place.

        Raises
        ------
        NoRoomError
            If only products that must not be dropped remain.
        """
        if self._budget is None:
            return
        free = self._budget - sum(total.bytes for total in self._manifest.payload_totals().values())
        if incoming.size > free:
            free += self._evict(incoming.size - free, _BUDGET)
        while incoming.size > free:
            if not incoming._drop_least_important(_BUDGET):
                raise NoRoomError(f"the budget of {self._budget} B is used by products that must not be dropped")

    def free_disk_space(self, incoming: Incoming) -> None:
        """Drop products after a commit found the disk full.

        Parameters
        ----------
        incoming
            The products of the commit; changed in place.

        Raises
        ------
        NoRoomError
            If only products that must not be dropped remain.
        """
        freed = self._evict(incoming.size, _DISK_FULL)
        self._ballast.reserve()  # before the incoming products take the space
        if not freed and not incoming._drop_least_important(_DISK_FULL):
            raise NoRoomError("the disk is full of products that must not be dropped")

    def _evict(self, needed: int, reason: str) -> int:
        """Drop the least important products in the spool until ``needed`` bytes are free; return the bytes freed."""
        victims: list[Entry] = []
        freed = 0
        for priority in (Priority.EXTRA, Priority.SPECTRA):
            for entry in self._removal.entries("priority = ?", priority, limit=_BATCH):
                if freed < needed:
                    victims.append(entry)
                    freed += entry.size
        if victims:
            self._removal.remove_entries(victims, DROPPED, lambda names: self._manifest.drop(names, reason))
        return freed
