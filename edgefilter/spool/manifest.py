"""The manifest of a spool: its products, how far each stream has been reduced, and what was dropped.

Every public method is one transaction: its changes are on the disk when it returns, or none was made.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from sqlite3 import Connection
from types import MappingProxyType

from edgefilter.core.errors import SpoolError
from edgefilter.products.base import Priority
from edgefilter.spool.database import Database


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a stream has been reduced, in samples, because an upgrade may change the length of blocks.

    Parameters
    ----------
    next_sample
        Start of the first block whose products are not in the spool yet.
    first_sample
        Start of the first block of the run.
    settings
        Digest of the settings of the reduction.
    """

    next_sample: int
    first_sample: int = 0
    settings: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """A product in the spool.

    Parameters
    ----------
    id
        Number in the order of arrival.
    name
        Name of the product.
    file
        Name of the file that holds its bytes.
    size
        Length of its bytes, B.
    digest
        Head of the SHA-256 of its bytes.
    priority
        See :class:`Priority`.
    sealed
        Whether it is uploaded as it is; otherwise it is a table piece that may still be merged with others.
    stuck
        Why the store refused it for good; empty if it did not.
    """

    id: int
    name: str
    file: str
    size: int
    digest: str
    priority: Priority
    sealed: bool
    stuck: str = ""


@dataclass(frozen=True, slots=True)
class Dropped:
    """Record of a dropped product: its ``name``, its ``size`` (B) and the ``reason``."""

    id: int
    name: str
    size: int
    reason: str


@dataclass(frozen=True, slots=True)
class PayloadTotals:
    """Products of one priority: their number and their bytes."""

    files: int = 0
    bytes: int = 0


class Manifest:
    """The rows of a spool.

    Parameters
    ----------
    path
        File of the database.
    create
        Whether to create it if it is missing; otherwise it must exist.

    Raises
    ------
    SpoolError
        If it is missing, damaged, or of another version.
    DiskFullError
        If the disk is full.
    """

    def __init__(self, path: Path, create: bool) -> None:
        self._path = path
        self._database = Database(path, create)

    def commit(
        self,
        rows: Sequence[Entry],
        dropped: Iterable[tuple[str, int, str]] = (),
        stream: str = "",
        cursor: Cursor | None = None,
        counts: Mapping[str, int] = MappingProxyType({}),
    ) -> bool:
        """Add products and records of dropped ones, advance a stream's cursor, and add to the stream's totals.

        Parameters
        ----------
        rows
            The products.
        dropped
            Name, size (B) and reason of each product that is dropped instead.
        stream
            Id of the stream.
        cursor
            How far the stream is reduced with these products; None if they belong to no block.
        counts
            Added to the stream's totals.

        Returns
        -------
        bool
            False if the stored cursor is not before ``cursor``; nothing is changed then.
        """

        def work(db: Connection) -> bool:
            if cursor is not None:
                moved = db.execute(
                    "INSERT INTO cursor VALUES (?, ?, ?, ?) ON CONFLICT (stream) DO UPDATE SET next_sample = "
                    "excluded.next_sample, first_sample = excluded.first_sample, settings = excluded.settings "
                    "WHERE excluded.next_sample > next_sample",
                    (stream, cursor.next_sample, cursor.first_sample, cursor.settings),
                )
                if not moved.rowcount:
                    return False
            _insert(db, rows)
            db.executemany("INSERT INTO dropped (name, size, reason) VALUES (?, ?, ?)", dropped)
            db.executemany(
                "INSERT INTO tally VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count",
                [(stream, what, count) for what, count in counts.items()],
            )
            return True

        return self._database.transaction(work)

    def replace(self, removed: Sequence[Entry], added: Entry) -> None:
        """Replace products by one.

        Parameters
        ----------
        removed
            Products that must all be in the spool still.
        added
            Their replacement.

        Raises
        ------
        SpoolError
            If one of ``removed`` is no longer in the spool; nothing is changed then.
        """

        def work(db: Connection) -> None:
            if _delete(db, [entry.name for entry in removed]) != len(removed):
                raise SpoolError(f"spool {self._path.parent}: the products to be merged have changed meanwhile")
            _insert(db, [added])

        self._database.transaction(work)

    def purge_dropped(self, ids: Sequence[int], added: Sequence[Entry] = ()) -> None:
        """Remove records of dropped products, and add products in the same transaction.

        Parameters
        ----------
        ids
            :attr:`Dropped.id` of the records.
        added
            Products that replace the records.
        """

        def work(db: Connection) -> None:
            db.executemany("DELETE FROM dropped WHERE id = ?", [(number,) for number in ids])
            _insert(db, added)

        self._database.transaction(work)

    def remove_delivered(self, names: Sequence[str]) -> None:
        """Remove products that are in the store, and any record that they were dropped during the upload.

        Parameters
        ----------
        names
            Their names.
        """

        def work(db: Connection) -> None:
            _delete(db, names)
            db.executemany("DELETE FROM dropped WHERE name = ?", [(name,) for name in names])

        self._database.transaction(work)

    def drop(self, names: Sequence[str], reason: str) -> None:
        """Remove products and record that they were dropped.

        Parameters
        ----------
        names
            Their names.
        reason
            Why they are dropped.
        """

        def work(db: Connection) -> None:
            db.executemany(
                "INSERT INTO dropped (name, size, reason) SELECT name, size, ? FROM product WHERE name = ?",
                [(reason, name) for name in names],
            )
            _delete(db, names)

        self._database.transaction(work)

    def seal(self, names: Sequence[str]) -> None:
        """Mark table pieces as no longer to be merged.

        Parameters
        ----------
        names
            Their names.
        """
        rows = [(name,) for name in names]
        self._database.transaction(lambda db: db.executemany("UPDATE product SET sealed = 1 WHERE name = ?", rows))

    def quarantine(self, name: str, reason: str) -> None:
        """Exclude a product from upload.

        Parameters
        ----------
        name
            Its name.
        reason
            Why the store refused it.
        """
        row = (reason, name)
        self._database.transaction(lambda db: db.execute("UPDATE product SET stuck = ? WHERE name = ?", row))

    def release(self) -> int:
        """Return the number of quarantined products after including all of them in the upload again."""
        return self._database.transaction(
            lambda db: db.execute("UPDATE product SET stuck = '' WHERE stuck != ''").rowcount
        )

    def entries(self, where: str = "", *values: object, limit: int = -1) -> list[Entry]:
        """Read products.

        Parameters
        ----------
        where
            SQL condition, written in this package, with ``?`` for each of ``values``; all products if empty.
        *values
            Values of the condition.
        limit
            Most products to return; all if negative.

        Returns
        -------
        list of Entry
            Sorted by priority and age, the oldest first.
        """
        rows = self._database.select(
            "SELECT id, name, file, size, digest, priority, sealed, stuck FROM product "  # noqa: S608 - see above
            f"{'WHERE ' + where if where else ''} ORDER BY priority, id LIMIT ?",
            *values,
            limit,
        )
        return [
            Entry(number, name, file, size, digest, Priority(priority), bool(sealed), stuck)
            for number, name, file, size, digest, priority, sealed, stuck in rows
        ]

    def existing_names(self, names: Iterable[str]) -> set[str]:
        """Find out which products are in the spool.

        Parameters
        ----------
        names
            Names of products.

        Returns
        -------
        set of str
            Those of the names that are in the spool.
        """
        return {name for name in names if self._database.select("SELECT 1 FROM product WHERE name = ?", name)}

    def cursors(self) -> dict[str, Cursor]:
        """Return the cursors of all streams by stream id."""
        rows = self._database.select("SELECT stream, next_sample, first_sample, settings FROM cursor")
        return {str(row[0]): Cursor(*row[1:]) for row in rows}

    def run_totals(self, stream: str) -> dict[str, int]:
        """Read the totals over all commits of a stream.

        Parameters
        ----------
        stream
            Id of the stream.

        Returns
        -------
        dict of str to int
            The totals; empty if nothing of the stream was committed.
        """
        rows = self._database.select("SELECT what, count FROM tally WHERE stream = ?", stream)
        return {str(what): int(count) for what, count in rows}

    def dropped(self) -> list[Dropped]:
        """Return the records of dropped products that are not yet in a ``dropped`` table."""
        rows = self._database.select("SELECT id, name, size, reason FROM dropped ORDER BY id")
        return [Dropped(*row) for row in rows]

    def payload_totals(self) -> dict[Priority, PayloadTotals]:
        """Return the number and bytes of products by priority."""
        rows = self._database.select("SELECT priority, files, bytes FROM total")
        found = {Priority(row[0]): PayloadTotals(*row[1:]) for row in rows}
        return {priority: found.get(priority, PayloadTotals()) for priority in Priority}

    def counts(self) -> tuple[int, int]:
        """Return the number of quarantined products, and of records of dropped ones."""
        row = self._database.select(
            "SELECT (SELECT COUNT(*) FROM product WHERE sealed = 1 AND stuck > ''), (SELECT COUNT(*) FROM dropped)"
        )[0]
        return int(row[0]), int(row[1])

    def close(self) -> None:
        """Close the database."""
        self._database.close()


def _insert(db: Connection, rows: Iterable[Entry]) -> None:
    db.executemany(
        "INSERT INTO product (name, file, size, digest, priority, sealed) VALUES (?, ?, ?, ?, ?, ?)",
        [(row.name, row.file, row.size, row.digest, row.priority, row.sealed) for row in rows],
    )


def _delete(db: Connection, names: Iterable[str]) -> int:
    return db.executemany("DELETE FROM product WHERE name = ?", [(name,) for name in names]).rowcount
