"""The spool itself: commit, evict, hand over, recover."""

import contextlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Literal, Self

from edgefilter.core.errors import SpoolBusyError, SpoolError, SpoolFullError
from edgefilter.products.base import Priority, Product
from edgefilter.products.naming import digest
from edgefilter.spool.manifest import Cursor, DiskFullError, Dropped, Entry, Manifest, PayloadTotals
from edgefilter.spool.payloads import DELIVERED, DROPPED, Ballast, Payloads, is_disk_full, try_lock
from edgefilter.spool.priorities import least_important, make_entry
from edgefilter.spool.recovery import Recovered, recover
from edgefilter.spool.removal import Removal, Result

BALLAST_BYTES = 4 << 20
_POLL_SECONDS = 0.05
_EVICTION_BATCH = 1000


class Spool:
    """The queue. Open it with :meth:`open`.

    Safe to use from several processes at once, each of which owns another part; within a process by one thread.
    """

    def __init__(self, path: Path, budget: int | None, ballast: int, owner: str, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._path = path
        self._budget = budget
        self._writable = bool(owner)
        self._payloads = Payloads(path, owner, create=self._writable)
        self._ballast = Ballast(path / "ballast", ballast if self._writable else 0)
        self._ready = True, ""
        try:
            self._manifest = Manifest(path / "manifest.sqlite", create=self._writable)
        except DiskFullError:
            self._ballast.release()
            try:
                self._manifest = Manifest(path / "manifest.sqlite", create=self._writable)
            except DiskFullError:
                raise SpoolFullError(f"spool {path}: no space left on its disk") from None
        stack.callback(self._manifest.close)
        self._removal = Removal(self._manifest, self._payloads, self._ballast)
        self.recovered = Recovered()
        if self._writable:
            self.recovered = recover(self._manifest, self._payloads, self._removal, path / "locks")
        self._ballast.reserve()

    @classmethod
    def open(
        cls,
        path: str | Path,
        budget_bytes: int | None = None,
        role: Literal["reducer", "forwarder", "reader"] = "reader",
        name: str = "",
        wait: float = 0.0,
        ballast_bytes: int = BALLAST_BYTES,
    ) -> Self:
        """Open a spool, clear up after a predecessor that died, and say in :attr:`recovered` what was found.

        Parameters
        ----------
        path
            Its folder; made if it is not there, but by a reader.
        budget_bytes
            Most bytes of payloads; None is as many as the disk takes.
        role
            ``reducer`` commits, ``forwarder`` hands over, ``reader`` looks. Each of the first two parts has one owner,
            whose lock dies with its process.
        name
            Which reducer, where there are several: the name of its input.
        wait
            Seconds to wait for a predecessor to end.
        ballast_bytes
            Space held back for the moment when the disk is full.

        Raises
        ------
        SpoolBusyError
            If another process owns that part.
        SpoolError
            If it cannot be opened, or is damaged.
        """
        path = Path(path).absolute()
        owner = "" if role == "reader" else f"{role} {name}".strip()
        with contextlib.ExitStack() as stack:
            try:
                if owner:
                    made = Payloads(path, owner, create=True)
                    _acquire_lock(
                        stack, path / "locks" / made.owner_tag, wait, f"spool {path}: another process is its {owner}"
                    )
                elif not (path / "manifest.sqlite").exists():
                    raise SpoolError(f"spool {path}: there is none")
                spool = cls(path, budget_bytes, ballast_bytes, owner, stack)
                spool._stack = stack.pop_all()
                return spool
            except OSError as error:
                raise SpoolError(f"spool {path}: cannot be opened: {error.strerror}") from None

    @property
    def location(self) -> str:
        """The folder."""
        return str(self._path)

    # --- reducer ---------------------------------------------------------------------------------------------------

    def put(self, product: Product) -> None:
        """Take one product that belongs to no block; doing it again changes nothing."""
        if not self._manifest.existing_names([product.name]):
            self.commit([product])

    def commit(
        self,
        products: Sequence[Product],
        stream_id: str = "",
        cursor: Cursor | None = None,
        counts: Mapping[str, int] = MappingProxyType({}),
    ) -> bool:
        """Take the products of a block; they, the cursor and the sums are on the disk together, or not at all.

        What has the least priority is given up where there is no room: first what is in the spool, the oldest first,
        then what is coming. Each leaves a note, which goes to the store as a row of ``dropped``.

        Parameters
        ----------
        products
            Those of one block, or of none.
        stream_id, cursor
            How far the stream is reduced with them. A commit that would not move the cursor on changes nothing: its
            products have been committed before.
        counts
            Counts to be added to the stream's sums.

        Returns
        -------
        bool
            Whether it was taken; False if it had been before.

        Raises
        ------
        SpoolFullError
            If there is no room for what must not be dropped; nothing is taken then.
        SpoolError
            If the disk fails, or a name is there with other bytes.
        """
        if cursor is not None and (known := self.cursor(stream_id)) and known.next_sample >= cursor.next_sample:
            return False
        incoming = [product for product in products if not self._contains(product)]
        dropped: list[tuple[str, int, str]] = []
        while True:
            try:
                incoming = self._fit_to_budget(incoming, dropped)
                taken = self._commit_products(incoming, dropped, stream_id, cursor, counts)
            except DiskFullError:
                self._free_disk_space(incoming, dropped)
                continue
            self._ready = True, ""
            self._ballast.reserve()
            return taken

    def _contains(self, product: Product) -> bool:
        entries = self._manifest.entries("name = ?", product.name)
        if entries and entries[0].digest != digest(product.content):
            raise SpoolError(f"spool {self._path}: {product.name} is there with other content, which stays as it is")
        return bool(entries)

    def _commit_products(
        self,
        incoming: Sequence[Product],
        dropped: Sequence[tuple[str, int, str]],
        stream_id: str,
        cursor: Cursor | None,
        counts: Mapping[str, int],
    ) -> bool:
        rows = self._write(incoming)
        try:
            taken = self._manifest.commit(rows, dropped, stream_id, cursor, counts)
        except BaseException:
            self._removal.unlink(row.file for row in rows)
            raise
        if not taken:
            self._removal.unlink(row.file for row in rows)
        return taken

    def _write(self, products: Sequence[Product], sealed: bool | None = None) -> list[Entry]:
        try:
            files = self._payloads.write((product.name, product.content) for product in products)
        except OSError as error:
            if is_disk_full(error):
                raise DiskFullError from None
            raise SpoolError(f"spool {self._path}: cannot be written: {error.strerror}") from None
        return [make_entry(product, file, sealed) for product, file in zip(products, files, strict=True)]

    def _fit_to_budget(self, incoming: list[Product], dropped: list[tuple[str, int, str]]) -> list[Product]:
        """Make room within the budget; return what may come of it."""
        if self._budget is None:
            return incoming
        spooled_bytes = sum(total.bytes for total in self._manifest.payload_totals().values())
        excess = spooled_bytes + sum(len(product.content) for product in incoming) - self._budget
        if excess > 0:
            excess -= self._evict(excess, "budget")
        while excess > 0:
            victim = least_important(incoming)
            if victim is None:
                raise self._spool_full_error(
                    f"the budget of {self._budget} B is used by products that must not be dropped"
                )
            excess -= len(victim.content)
            incoming = [product for product in incoming if product is not victim]
            dropped.append((victim.name, len(victim.content), "budget"))
        return incoming

    def _free_disk_space(self, incoming: list[Product], dropped: list[tuple[str, int, str]]) -> None:
        """Make room on a full disk: ``incoming`` loses what is given up."""
        needed = sum(len(product.content) for product in incoming)
        evicted = self._evict(needed, "disk full")
        self._ballast.reserve()  # its space is not for what comes
        if evicted:
            return
        victim = least_important(incoming)
        if victim is None:
            raise self._spool_full_error("the disk is full of products that must not be dropped")
        incoming.remove(victim)
        dropped.append((victim.name, len(victim.content), "disk full"))

    def _evict(self, needed: int, reason: str) -> int:
        """Drop what matters least until so many bytes are free or nothing is left; return how many are."""
        victims: list[Entry] = []
        freed = 0
        for priority in (Priority.EXTRA, Priority.SPECTRA):
            for entry in self._removal.entries("priority = ?", priority, limit=_EVICTION_BATCH):
                if freed < needed:
                    victims.append(entry)
                    freed += entry.size
        if victims:
            self._removal.remove_entries(victims, DROPPED, lambda names: self._manifest.drop(names, reason))
        return freed

    def _spool_full_error(self, reason: str) -> SpoolFullError:
        self._ready = False, reason
        return SpoolFullError(f"spool {self._path}: {reason}")

    # --- both ------------------------------------------------------------------------------------------------------

    @property
    def ready(self) -> tuple[bool, str]:
        """Whether the last commit found room, and if not, why."""
        return self._ready

    def cursor(self, stream_id: str) -> Cursor | None:
        """How far a stream has been reduced, None if nothing of it was committed."""
        return self._manifest.cursors().get(stream_id)

    def cursors(self) -> dict[str, Cursor]:
        """Cursors of all streams by their ids."""
        return self._manifest.cursors()

    def run_totals(self, stream_id: str) -> dict[str, int]:
        """Return the sums over all that was committed of a stream."""
        return self._manifest.run_totals(stream_id)

    def payload_totals(self) -> dict[Priority, PayloadTotals]:
        """Return number and bytes of what waits, by priority."""
        return self._manifest.payload_totals()

    def counts(self) -> tuple[int, int]:
        """Return how many products are stuck, and how many were dropped and are not yet recorded in the store."""
        return self._manifest.counts()

    def _run_with_ballast(self, work: Callable[[], Result]) -> Result:
        try:
            return self._removal.run_with_ballast(work)
        except DiskFullError:
            raise SpoolFullError(f"spool {self._path}: no space left on its disk") from None

    # --- forwarder -------------------------------------------------------------------------------------------------

    def next_entries(self, count: int, exclude: Collection[str] = ()) -> list[Entry]:
        """Return what is to be delivered next, by priority and age, without the names in ``exclude``."""
        found = self._removal.entries("sealed = 1 AND stuck = ''", limit=count + len(exclude))
        return [entry for entry in found if entry.name not in exclude][:count]

    def unsealed(self) -> list[Entry]:
        """Return what may still be merged, by priority and age."""
        return self._removal.entries("sealed = 0")

    def stuck(self) -> list[Entry]:
        """Return what could not be delivered; it stays until :meth:`release` or an operator decides."""
        return self._removal.entries("stuck > ''")

    def read(self, entry: Entry) -> bytes | None:
        """Return the bytes of a product; None if it was dropped meanwhile, or its file is damaged and dropped now."""
        try:
            content = self._payloads.read(entry.file)
            if digest(content) == entry.digest:
                return content
        except FileNotFoundError:
            pass
        except OSError as error:
            raise SpoolError(f"spool {self._path}: cannot read {entry.name}: {error.strerror}") from None
        if self._manifest.existing_names([entry.name]):
            self._removal.remove_entries([entry], DROPPED, lambda names: self._manifest.drop(names, "damaged"))
        return None

    def merge(self, entries: Sequence[Entry], product: Product) -> None:
        """Put one product in the place of pieces that it was made of; it is sealed.

        Raises
        ------
        SpoolFullError
            If there is no room for it; the pieces stay.
        SpoolError
            If a piece is no longer there; the others stay.
        """
        self._write_and_replace(product, lambda row: self._manifest.replace(entries, row))
        self._removal.unlink(entry.file for entry in entries)

    def contains_all(self, entries: Sequence[Entry]) -> bool:
        """Whether all of these are still there."""
        names = {entry.name for entry in entries}
        return self._manifest.existing_names(names) == names

    def dropped(self) -> list[Dropped]:
        """Return what was dropped and not yet recorded in the store."""
        return self._manifest.dropped()

    def record_dropped(self, dropped: Sequence[Dropped], product: Product) -> None:
        """Put a product that names what was dropped in the place of the notes.

        Raises
        ------
        SpoolFullError
            If there is no room for it; the notes stay.
        """
        self._write_and_replace(product, lambda row: self._manifest.purge_dropped([note.id for note in dropped], [row]))

    def purge_dropped(self, dropped: Sequence[Dropped]) -> None:
        """Remove notes that no table can hold: of products that belong to no block."""
        self._run_with_ballast(lambda: self._manifest.purge_dropped([note.id for note in dropped]))

    def _write_and_replace(self, product: Product, change: Callable[[Entry], None]) -> None:
        try:
            row = self._write([product], sealed=True)[0]
            try:
                change(row)
            except BaseException:
                self._removal.unlink([row.file])
                raise
        except DiskFullError:
            raise SpoolFullError(f"spool {self._path}: no space left on its disk") from None

    def seal(self, entries: Sequence[Entry]) -> None:
        """Say, before its first delivery, that pieces go as they are.

        Raises
        ------
        SpoolFullError
            If not even that finds room; they stay pieces.
        """
        self._run_with_ballast(lambda: self._manifest.seal([entry.name for entry in entries]))

    def mark_delivered(self, entry: Entry) -> None:
        """Forget a product that is proven to be in the store."""
        self._removal.remove_entries([entry], DELIVERED, self._manifest.remove_delivered)
        self._ballast.reserve()

    def quarantine(self, entry: Entry, reason: str) -> None:
        """Keep a product that the store refuses for good, and say why."""
        self._run_with_ballast(lambda: self._manifest.quarantine(entry.name, reason))

    def release(self) -> int:
        """Let all that is stuck be tried again; return how many."""
        return self._run_with_ballast(self._manifest.release)

    def is_empty(self) -> bool:
        """Whether nothing waits, stuck products and notes included."""
        return not self._manifest.entries(limit=1) and not self._manifest.dropped()

    # --- opening and closing ---------------------------------------------------------------------------------------

    def close(self) -> None:
        """Give the spool back."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _acquire_lock(stack: contextlib.ExitStack, path: Path, seconds: float, problem: str) -> None:
    """Take a lock for as long as the stack lives."""
    until = time.monotonic() + seconds
    while True:
        with contextlib.ExitStack() as attempt:
            if attempt.enter_context(try_lock(path)):
                stack.push(attempt.pop_all())
                return
        if time.monotonic() >= until:
            raise SpoolBusyError(problem)
        time.sleep(_POLL_SECONDS)
