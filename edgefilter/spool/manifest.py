"""The manifest of a spool: which payloads count, how far streams are, what was dropped. SQLite, WAL, FULL.

Every public method is one transaction: it is on the disk when it returns, or it has not been.
"""

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from edgefilter.core.errors import SpoolError
from edgefilter.products.base import Priority

_VERSION = 1
_BUSY_SECONDS = 60.0
_WAL_PAGES = 256  # a write-ahead log of 1 MiB: what it takes of a small disk is not there for products
_FSYNC_FAILED = (sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC)

_SCHEMA = """
CREATE TABLE product (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    file TEXT NOT NULL UNIQUE,
    size INTEGER NOT NULL,
    digest TEXT NOT NULL,
    priority INTEGER NOT NULL,
    sealed INTEGER NOT NULL,
    stuck TEXT NOT NULL DEFAULT ''
);
CREATE INDEX waiting ON product (sealed, stuck, priority, id);
CREATE INDEX oldest ON product (priority, id);
CREATE TABLE cursor (
    stream TEXT PRIMARY KEY,
    next_sample INTEGER NOT NULL,
    first_sample INTEGER NOT NULL,
    settings TEXT NOT NULL
);
CREATE TABLE tally (
    stream TEXT NOT NULL,
    what TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (stream, what)
) WITHOUT ROWID;
CREATE TABLE dropped (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    size INTEGER NOT NULL,
    reason TEXT NOT NULL
);
CREATE TABLE total (
    priority INTEGER PRIMARY KEY,
    files INTEGER NOT NULL,
    bytes INTEGER NOT NULL
);
CREATE TRIGGER come AFTER INSERT ON product BEGIN
    INSERT INTO total VALUES (new.priority, 1, new.size)
    ON CONFLICT (priority) DO UPDATE SET files = files + 1, bytes = bytes + new.size;
END;
CREATE TRIGGER gone AFTER DELETE ON product BEGIN
    UPDATE total SET files = files - 1, bytes = bytes - old.size WHERE priority = old.priority;
END;
"""


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a stream has been reduced, in samples, because an upgrade may change the length of blocks.

    Parameters
    ----------
    next_sample
        Start of the first block whose products are not in the spool yet.
    first_sample
        Start of the first block of the run: nothing lies before it.
    settings
        Digest of the settings of the reduction.
    """

    next_sample: int
    first_sample: int = 0
    settings: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """A payload that counts.

    Parameters
    ----------
    id
        Rises with age: the oldest has the lowest.
    name
        Of the product.
    file
        Of its bytes.
    size, digest
        Length, B, and head of the SHA-256 of its bytes.
    priority
        See :class:`Priority`.
    sealed
        Whether it goes to the store as it is. What is not sealed may still be merged with others.
    stuck
        Why it cannot be delivered, empty if it can.
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
    """What was given up: ``name`` and ``size`` (B) of the product, and the ``reason``."""

    id: int
    name: str
    size: int
    reason: str


@dataclass(frozen=True, slots=True)
class PayloadTotals:
    """Payloads of one priority: their number and bytes."""

    files: int = 0
    bytes: int = 0


Result = TypeVar("Result")


class DiskFullError(Exception):
    """The disk of the manifest is full; nothing was changed."""


class Manifest:
    """The database.

    Parameters
    ----------
    path
        Its file; made if ``create``.
    create
        Whether to make it; otherwise it is opened to read.

    Raises
    ------
    SpoolError
        If it is not there, damaged, or of a later version.
    DiskFullError
        If the disk is.
    """

    def __init__(self, path: Path, create: bool) -> None:
        self._path = path
        self._create = create
        self._connect()
        self._run(self._prepare)

    def _connect(self) -> None:
        mode = "rwc" if self._create else "rw"
        try:
            self._db = sqlite3.connect(
                f"{self._path.absolute().as_uri()}?mode={mode}",
                uri=True,
                timeout=_BUSY_SECONDS,
                isolation_level=None,
                check_same_thread=False,
            )
        except sqlite3.Error as error:
            raise SpoolError(f"spool {self._path.parent}: cannot be opened: {error}") from None

    def _prepare(self) -> None:
        self._db.execute("PRAGMA temp_store = MEMORY")
        self._db.execute("PRAGMA synchronous = FULL")
        if self._create:
            self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0 and self._create:
            self._db.executescript(f"BEGIN EXCLUSIVE; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")
        elif version != _VERSION:
            raise SpoolError(f"spool {self._path.parent}: has version {version}, this program knows {_VERSION}")

    def _run(self, work: Callable[[], Result]) -> Result:
        """Run something; turn what SQLite says into what the spool knows.

        A failed ``fsync`` leaves pages behind that the kernel takes for written. They are never synchronised again
        through the same descriptor: all are closed, and what the log holds is written anew into the database itself.
        """
        try:
            return work()
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0)
            if self._db.in_transaction:
                self._rollback()
            if code == sqlite3.SQLITE_FULL:
                raise DiskFullError from None
            if code in _FSYNC_FAILED:
                self._reopen()
            raise SpoolError(f"spool {self._path.parent}: {error}") from None

    def _rollback(self) -> None:
        try:
            self._db.execute("ROLLBACK")
        except sqlite3.Error:
            self._db.close()
            self._connect()

    def _reopen(self) -> None:
        self._db.close()
        self._connect()
        try:
            self._prepare()
            busy = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        except sqlite3.Error as error:
            raise SpoolError(f"spool {self._path.parent}: the disk does not keep what is written: {error}") from None
        if busy:
            raise SpoolError(f"spool {self._path.parent}: the disk does not keep what is written")

    def _transaction(self, work: Callable[[], Result]) -> Result:
        def whole() -> Result:
            self._db.execute("BEGIN IMMEDIATE")
            result = work()
            self._db.execute("COMMIT")
            return result

        try:
            return self._run(whole)
        except BaseException:
            if self._db.in_transaction:
                self._rollback()
            raise

    def _select(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        return self._run(lambda: self._db.execute(sql, values).fetchall())

    def commit(
        self,
        rows: Sequence[Entry],
        dropped: Iterable[tuple[str, int, str]] = (),
        stream: str = "",
        cursor: Cursor | None = None,
        counts: Mapping[str, int] = MappingProxyType({}),
    ) -> bool:
        """Add payloads and the names of what was dropped instead, move a stream's cursor on, add to its sums.

        Returns
        -------
        bool
            False if the cursor is there already or beyond; nothing is changed then.
        """

        def work() -> bool:
            if cursor is not None:
                moved = self._db.execute(
                    "INSERT INTO cursor VALUES (?, ?, ?, ?) ON CONFLICT (stream) DO UPDATE SET next_sample = "
                    "excluded.next_sample, first_sample = excluded.first_sample, settings = excluded.settings "
                    "WHERE excluded.next_sample > next_sample",
                    (stream, cursor.next_sample, cursor.first_sample, cursor.settings),
                )
                if not moved.rowcount:
                    return False
            self._insert(rows)
            self._db.executemany("INSERT INTO dropped (name, size, reason) VALUES (?, ?, ?)", dropped)
            self._db.executemany(
                "INSERT INTO tally VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count",
                [(stream, what, count) for what, count in counts.items()],
            )
            return True

        return self._transaction(work)

    def replace(self, removed: Sequence[Entry], added: Entry) -> None:
        """Put one payload in the place of others, all of which must still be there.

        Raises
        ------
        SpoolError
            If one is not; nothing is changed then.
        """

        def work() -> None:
            if self._delete([entry.name for entry in removed]) != len(removed):
                raise SpoolError(f"spool {self._path.parent}: what was to be merged has changed meanwhile")
            self._insert([added])

        self._transaction(work)

    def purge_dropped(self, ids: Sequence[int], added: Sequence[Entry] = ()) -> None:
        """Put a payload, or none, in the place of the names of what was dropped."""

        def work() -> None:
            self._db.executemany("DELETE FROM dropped WHERE id = ?", [(number,) for number in ids])
            self._insert(added)

        self._transaction(work)

    def remove_delivered(self, names: Sequence[str]) -> None:
        """Remove rows of what has arrived, and any note that it was dropped while it was on its way."""

        def work() -> None:
            self._delete(names)
            self._db.executemany("DELETE FROM dropped WHERE name = ?", [(name,) for name in names])

        self._transaction(work)

    def drop(self, names: Sequence[str], reason: str) -> None:
        """Remove rows and note that their products are given up."""

        def work() -> None:
            for name in names:
                self._db.execute(
                    "INSERT INTO dropped (name, size, reason) SELECT name, size, ? FROM product WHERE name = ?",
                    (reason, name),
                )
            self._delete(names)

        self._transaction(work)

    def seal(self, names: Sequence[str]) -> None:
        """Say that these go as they are: nobody may merge them any more."""
        self._transaction(
            lambda: self._db.executemany("UPDATE product SET sealed = 1 WHERE name = ?", [(name,) for name in names])
        )

    def quarantine(self, name: str, reason: str) -> None:
        """Say that a payload cannot be delivered; an empty text says that it can again."""
        self._transaction(lambda: self._db.execute("UPDATE product SET stuck = ? WHERE name = ?", (reason, name)))

    def release(self) -> int:
        """Let all that was stuck be tried again; return how many."""
        return self._transaction(lambda: self._db.execute("UPDATE product SET stuck = '' WHERE stuck != ''").rowcount)

    def entries(self, where: str = "", *values: object, limit: int = -1) -> list[Entry]:
        """Return rows by priority and age; ``where`` is SQL of this package's own, with ``?`` for ``values``."""
        rows = self._select(
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
        """Return those of some names that have rows."""
        return {name for name in names if self._select("SELECT 1 FROM product WHERE name = ?", name)}

    def cursors(self) -> dict[str, Cursor]:
        """Cursors of all streams."""
        rows = self._select("SELECT stream, next_sample, first_sample, settings FROM cursor")
        return {str(row[0]): Cursor(*row[1:]) for row in rows}

    def run_totals(self, stream: str) -> dict[str, int]:
        """Return the sums over the commits of a stream."""
        rows = self._select("SELECT what, count FROM tally WHERE stream = ?", stream)
        return {str(what): int(count) for what, count in rows}

    def dropped(self) -> list[Dropped]:
        """Return what was dropped and is not yet recorded in the store."""
        return [Dropped(*row) for row in self._select("SELECT id, name, size, reason FROM dropped ORDER BY id")]

    def payload_totals(self) -> dict[Priority, PayloadTotals]:
        """Return number and bytes of payloads by priority."""
        found = {
            Priority(row[0]): PayloadTotals(*row[1:])
            for row in self._select("SELECT priority, files, bytes FROM total")
        }
        return {priority: found.get(priority, PayloadTotals()) for priority in Priority}

    def counts(self) -> tuple[int, int]:
        """Return how many payloads are stuck, and how many dropped ones are not yet recorded."""
        row = self._select(
            "SELECT (SELECT COUNT(*) FROM product WHERE sealed = 1 AND stuck > ''), (SELECT COUNT(*) FROM dropped)"
        )[0]
        return int(row[0]), int(row[1])

    def _insert(self, rows: Iterable[Entry]) -> None:
        self._db.executemany(
            "INSERT INTO product (name, file, size, digest, priority, sealed) VALUES (?, ?, ?, ?, ?, ?)",
            [(row.name, row.file, row.size, row.digest, row.priority, row.sealed) for row in rows],
        )

    def _delete(self, names: Iterable[str]) -> int:
        return self._db.executemany("DELETE FROM product WHERE name = ?", [(name,) for name in names]).rowcount

    def close(self) -> None:
        """Close the database."""
        self._db.close()
