"""The forwarder's side of the spool: which product is uploaded next, and what becomes of it."""

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from edgefilter.core.closing import Closing
from edgefilter.core.errors import SpoolError, SpoolFullError
from edgefilter.products.base import Product
from edgefilter.products.naming import digest
from edgefilter.spool.disk_space import Ballast, DiskFullError, Result
from edgefilter.spool.manifest import Dropped, Entry, Manifest
from edgefilter.spool.payloads import DELIVERED, DROPPED, Payloads
from edgefilter.spool.priorities import make_entry
from edgefilter.spool.recovery import Recovered, recover
from edgefilter.spool.removal import Removal


class UploadQueue(Closing):
    """Products that wait to be uploaded; the base of :class:`edgefilter.spool.Spool`.

    1. Table pieces are merged (:meth:`merge`) or sealed as they are (:meth:`seal`); other products come sealed.
    2. :meth:`next_entries` returns sealed products by priority and age, and :meth:`read` their bytes.
    3. A product that is proved to be in the store is removed (:meth:`mark_delivered`). A product that the store refuses
       for good is excluded from upload (:meth:`quarantine`) until an operator decides (:meth:`release`).

    Parameters
    ----------
    path
        Folder of the spool.
    owner
        Role and name of the process that opens it; empty for a reader, which changes nothing.
    ballast_bytes
        Space held in reserve for a full disk, B.
    stack
        Closed together with the spool.
    """

    def __init__(self, path: Path, owner: str, ballast_bytes: int, stack: contextlib.ExitStack) -> None:
        writable = bool(owner)
        self._stack = stack
        self._path = path
        self._payloads = Payloads(path, owner, create=writable)
        self._ballast = Ballast(path / "ballast", ballast_bytes if writable else 0)
        self._manifest = self._with_ballast(lambda: Manifest(path / "manifest.sqlite", create=writable))
        stack.callback(self._manifest.close)
        self._removal = Removal(self._manifest, self._payloads, self._ballast)
        self.recovered = Recovered()
        if writable:
            self.recovered = recover(self._manifest, self._payloads, self._removal, path / "locks")
        self._ballast.reserve()

    def close(self) -> None:
        """Close the manifest and release the lock."""
        self._stack.close()

    def _with_ballast(self, work: Callable[[], Result]) -> Result:
        try:
            return self._ballast.run(work)
        except DiskFullError:
            raise self._no_space() from None

    def _no_space(self) -> SpoolFullError:
        return SpoolFullError(f"spool {self._path}: no space left on its disk")

    @contextlib.contextmanager
    def _written(self, products: Sequence[Product], sealed: bool | None = None) -> Iterator[list[Entry]]:
        """Write the files of products, yield their rows to be inserted, and remove the files if that fails."""
        try:
            files = self._payloads.write((product.name, product.content) for product in products)
        except OSError as error:
            raise SpoolError(f"spool {self._path}: cannot be written: {error.strerror}") from None
        try:
            yield [make_entry(product, file, sealed) for product, file in zip(products, files, strict=True)]
        except BaseException:
            self._removal.unlink(files)
            raise

    def next_entries(self, count: int, exclude: Collection[str] = ()) -> list[Entry]:
        """Read the products to be uploaded next.

        Parameters
        ----------
        count
            Most products to return.
        exclude
            Names of products to leave out.

        Returns
        -------
        list of Entry
            Sealed products that are not quarantined, sorted by priority and age.
        """
        found = self._removal.entries("sealed = 1 AND stuck = ''", limit=count + len(exclude))
        return [entry for entry in found if entry.name not in exclude][:count]

    def unsealed(self) -> list[Entry]:
        """Return the table pieces that may still be merged, by priority and age."""
        return self._removal.entries("sealed = 0")

    def stuck(self) -> list[Entry]:
        """Return the quarantined products; they stay until :meth:`release`."""
        return self._removal.entries("stuck > ''")

    def read(self, entry: Entry) -> bytes | None:
        """Read the bytes of a product; drop it if they are damaged.

        Parameters
        ----------
        entry
            The product.

        Returns
        -------
        bytes or None
            None if the product is damaged, or was dropped meanwhile.

        Raises
        ------
        SpoolError
            If the disk cannot be read.
        """
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
        """Replace table pieces by the product that was merged from them, sealed.

        Parameters
        ----------
        entries
            The pieces.
        product
            The merged product.

        Raises
        ------
        SpoolFullError
            If there is no room for the product; the pieces stay.
        SpoolError
            If a piece is no longer in the spool; the others stay.
        """
        product = replace(product, priority=entries[0].priority)  # all pieces are of one table
        self._add_sealed(product, lambda row: self._manifest.replace(entries, row))
        self._removal.unlink(entry.file for entry in entries)

    def contains_all(self, entries: Sequence[Entry]) -> bool:
        """Return whether all of some products are still in the spool.

        Parameters
        ----------
        entries
            The products.

        Returns
        -------
        bool
            False if one is not.
        """
        names = {entry.name for entry in entries}
        return self._manifest.existing_names(names) == names

    def dropped(self) -> list[Dropped]:
        """Return the records of dropped products that are not yet in a ``dropped`` table."""
        return self._manifest.dropped()

    def record_dropped(self, dropped: Sequence[Dropped], product: Product) -> None:
        """Replace records of dropped products by the ``dropped`` table that lists them.

        Parameters
        ----------
        dropped
            The records.
        product
            The table.

        Raises
        ------
        SpoolFullError
            If there is no room for the table; the records stay.
        """
        self._add_sealed(product, lambda row: self._manifest.purge_dropped([record.id for record in dropped], [row]))

    def purge_dropped(self, dropped: Sequence[Dropped]) -> None:
        """Remove records of dropped products that no table can list, because they belong to no block.

        Parameters
        ----------
        dropped
            The records.
        """
        self._with_ballast(lambda: self._manifest.purge_dropped([record.id for record in dropped]))

    def _add_sealed(self, product: Product, insert: Callable[[Entry], None]) -> None:
        try:
            with self._written([product], sealed=True) as (row,):
                insert(row)
        except DiskFullError:
            raise self._no_space() from None

    def seal(self, entries: Sequence[Entry]) -> None:
        """Mark table pieces, before their first upload, as no longer to be merged.

        Parameters
        ----------
        entries
            The pieces.

        Raises
        ------
        SpoolFullError
            If the disk is full; the pieces stay unsealed.
        """
        self._with_ballast(lambda: self._manifest.seal([entry.name for entry in entries]))

    def mark_delivered(self, entry: Entry) -> None:
        """Remove a product that has been proved to be in the store.

        Parameters
        ----------
        entry
            The product.
        """
        self._removal.remove_entries([entry], DELIVERED, self._manifest.remove_delivered)
        self._ballast.reserve()

    def quarantine(self, entry: Entry, reason: str) -> None:
        """Keep a product, but exclude it from upload, because the store refuses it for good.

        Parameters
        ----------
        entry
            The product.
        reason
            What the store said.
        """
        self._with_ballast(lambda: self._manifest.quarantine(entry.name, reason))

    def release(self) -> int:
        """Return the number of quarantined products after including all of them in the upload again."""
        return self._with_ballast(self._manifest.release)

    def is_empty(self) -> bool:
        """Return whether the spool holds no product, quarantined ones included, and no record of a dropped one."""
        return not self._manifest.entries(limit=1) and not self._manifest.dropped()
