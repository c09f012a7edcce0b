"""The spool: the reducer commits products, the forwarder uploads and removes them."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Literal, Self

from edgefilter.core.errors import SpoolBusyError, SpoolError, SpoolFullError
from edgefilter.core.locks import acquire_lock
from edgefilter.products.base import Priority, Product
from edgefilter.products.naming import digest
from edgefilter.spool.disk_space import DiskFullError
from edgefilter.spool.eviction import Eviction, Incoming, NoRoomError
from edgefilter.spool.manifest import Cursor, PayloadTotals
from edgefilter.spool.payloads import Payloads
from edgefilter.spool.uploads import UploadQueue

BALLAST_BYTES = 4 << 20


class Spool(UploadQueue):
    """The queue. Open it with :meth:`open`.

    Several processes may use it at once, each in its own role; within a process one thread.
    """

    def __init__(self, path: Path, budget: int | None, ballast: int, owner: str, stack: contextlib.ExitStack) -> None:
        super().__init__(path, owner, ballast, stack)
        self._eviction = Eviction(self._manifest, self._removal, self._ballast, budget)
        self._ready = True, ""

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
        """Open a spool and repair what a killed process left behind; :attr:`recovered` says what was found.

        Parameters
        ----------
        path
            Its folder; created if it is missing, except by a reader.
        budget_bytes
            Most bytes of products; None is as many as the disk takes.
        role
            A ``reducer`` commits, the ``forwarder`` uploads, a ``reader`` only looks. Each reducer and the forwarder
            has one owner, whose lock ends with its process.
        name
            Name of the reducer's input, if there are several reducers.
        wait
            How long to wait for the previous owner to end, s.
        ballast_bytes
            Space held in reserve for a full disk, B.

        Returns
        -------
        Spool
            The spool, to be closed after use.

        Raises
        ------
        SpoolBusyError
            If another process has that role.
        SpoolFullError
            If the disk is full.
        SpoolError
            If the spool cannot be opened, or is damaged.
        """
        path = Path(path).absolute()
        owner = "" if role == "reader" else f"{role} {name}".strip()
        with contextlib.ExitStack() as stack:
            try:
                if owner:
                    lock = path / "locks" / Payloads(path, owner, create=True).owner_tag
                    error = SpoolBusyError(f"spool {path}: another process is its {owner}")
                    acquire_lock(stack, lock, wait, error)
                elif not (path / "manifest.sqlite").exists():
                    raise SpoolError(f"spool {path}: there is no spool in this folder")
                spool = cls(path, budget_bytes, ballast_bytes, owner, stack)
                spool._stack = stack.pop_all()
                return spool
            except OSError as error:
                raise SpoolError(f"spool {path}: cannot be opened: {error.strerror}") from None

    @property
    def location(self) -> str:
        """The folder."""
        return str(self._path)

    def put(self, product: Product) -> None:
        """Commit one product that belongs to no block; a product of that name that is in the spool stays.

        Parameters
        ----------
        product
            The product.
        """
        if not self._manifest.existing_names([product.name]):
            self.commit([product])

    def commit(
        self,
        products: Sequence[Product],
        stream_id: str = "",
        cursor: Cursor | None = None,
        counts: Mapping[str, int] = MappingProxyType({}),
    ) -> bool:
        """Commit the products of a block: they, the cursor and the totals reach the disk together or not at all.

        If there is no room, the least important products are dropped: see :mod:`edgefilter.spool.eviction`.

        Parameters
        ----------
        products
            Products of one block, or of none.
        stream_id
            Id of the block's stream.
        cursor
            How far the stream is reduced with this block. If the stored cursor is not before it, the block has been
            committed already and nothing is changed.
        counts
            Added to the stream's totals.

        Returns
        -------
        bool
            False if the block had been committed already.

        Raises
        ------
        SpoolFullError
            If there is no room for products that must not be dropped; nothing is committed then.
        SpoolError
            If the disk fails, or the spool holds other bytes under the name of a product.
        """
        if cursor is not None and (known := self.cursor(stream_id)) and known.next_sample >= cursor.next_sample:
            return False
        incoming = Incoming([product for product in products if not self._contains(product)])

        def attempt() -> bool:
            self._eviction.fit_to_budget(incoming)
            with self._written(incoming.products) as rows:
                committed = self._manifest.commit(rows, incoming.dropped, stream_id, cursor, counts)
            if not committed:
                self._removal.unlink(row.file for row in rows)
            return committed

        try:
            while True:
                try:
                    committed = attempt()
                    break
                except DiskFullError:
                    self._eviction.free_disk_space(incoming)
        except NoRoomError as error:
            self._ready = False, str(error)
            raise SpoolFullError(f"spool {self._path}: {error}") from None
        self._ready = True, ""
        self._ballast.reserve()
        return committed

    def _contains(self, product: Product) -> bool:
        entries = self._manifest.entries("name = ?", product.name)
        if entries and entries[0].digest != digest(product.content):
            raise SpoolError(f"spool {self._path}: {product.name} is there with other content, which stays as it is")
        return bool(entries)

    @property
    def ready(self) -> tuple[bool, str]:
        """Whether the last commit found room, and if not, why."""
        return self._ready

    def cursor(self, stream_id: str) -> Cursor | None:
        """Read how far a stream has been reduced.

        Parameters
        ----------
        stream_id
            Id of the stream.

        Returns
        -------
        Cursor or None
            None if nothing of the stream was committed.
        """
        return self._manifest.cursors().get(stream_id)

    def cursors(self) -> dict[str, Cursor]:
        """Return the cursors of all streams by stream id."""
        return self._manifest.cursors()

    def run_totals(self, stream_id: str) -> dict[str, int]:
        """Read the totals over all commits of a stream.

        Parameters
        ----------
        stream_id
            Id of the stream.

        Returns
        -------
        dict of str to int
            The totals; empty if nothing of the stream was committed.
        """
        return self._manifest.run_totals(stream_id)

    def payload_totals(self) -> dict[Priority, PayloadTotals]:
        """Return the number and bytes of products in the spool by priority."""
        return self._manifest.payload_totals()

    def counts(self) -> tuple[int, int]:
        """Return the number of quarantined products, and of dropped ones that no ``dropped`` table lists yet."""
        return self._manifest.counts()
