"""The SQLite database of the manifest: its tables, and transactions that survive a loss of power."""

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

from edgefilter.core.errors import SpoolError
from edgefilter.spool.disk_space import DiskFullError

_VERSION = 1
_BUSY_SECONDS = 60.0
_WAL_PAGES = 256  # a write-ahead log of at most 1 MiB: on a small disk it competes with products for space
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

Result = TypeVar("Result")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock a folder against other processes within the ``with`` block."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class Database:
    """A connection to the database.

    Parameters
    ----------
    path
        Its file.
    create
        Whether to create the file if it is missing; otherwise the file must exist.

    Raises
    ------
    SpoolError
        If the file is missing, damaged, or of another version.
    DiskFullError
        If the disk is full.
    """

    def __init__(self, path: Path, create: bool) -> None:
        self._path = path
        self._create = create
        # Reducer and forwarder open a new spool at the same time, and SQLite does not wait while another makes it.
        with _locked(path.parent) if create else nullcontext():
            self._connect()
            self._run(self._prepare)

    def _connect(self) -> None:
        mode = "rwc" if self._create else "rw"
        try:
            self._connection = sqlite3.connect(
                f"{self._path.absolute().as_uri()}?mode={mode}",
                uri=True,
                timeout=_BUSY_SECONDS,
                isolation_level=None,
                check_same_thread=False,
            )
        except sqlite3.Error as error:
            raise self._error(f"cannot be opened: {error}") from None

    def _prepare(self) -> None:
        execute = self._connection.execute
        execute("PRAGMA temp_store = MEMORY")
        execute("PRAGMA synchronous = FULL")
        if self._create:
            execute("PRAGMA journal_mode = WAL")
        execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
        version = execute("PRAGMA user_version").fetchone()[0]
        if version == 0 and self._create:
            self._connection.executescript(f"BEGIN EXCLUSIVE; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")
        elif version != _VERSION:
            raise self._error(f"has version {version}, this program reads version {_VERSION}")

    def _error(self, problem: str) -> SpoolError:
        return SpoolError(f"spool {self._path.parent}: {problem}")

    def _run(self, work: Callable[[], Result]) -> Result:
        """Run SQL; turn SQLite's errors into the spool's.

        After a failed ``fsync`` the kernel treats the unwritten pages as written, so that a second ``fsync`` of the
        same descriptor succeeds without writing them. Therefore all descriptors are closed, and the content of the
        write-ahead log is written again, into the database itself.
        """
        try:
            return work()
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0)
            self._rollback()
            if code == sqlite3.SQLITE_FULL:
                raise DiskFullError from None
            if code in _FSYNC_FAILED:
                self._reopen()
            raise self._error(str(error)) from None

    def _rollback(self) -> None:
        if not self._connection.in_transaction:
            return
        try:
            self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._connection.close()
            self._connect()

    def _reopen(self) -> None:
        self._connection.close()
        self._connect()
        problem = "the disk does not keep what is written to it"
        try:
            self._prepare()
            busy = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        except sqlite3.Error as error:
            raise self._error(f"{problem}: {error}") from None
        if busy:
            raise self._error(problem)

    def transaction(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Run a transaction: all its changes are on the disk when this returns, or none is made.

        Parameters
        ----------
        work
            Makes the changes on the connection that it is given; an exception undoes them.

        Returns
        -------
        Result
            What ``work`` returns.

        Raises
        ------
        DiskFullError
            If the disk is full.
        SpoolError
            If the disk or the database fails.
        """

        def whole() -> Result:
            self._connection.execute("BEGIN IMMEDIATE")
            result = work(self._connection)
            self._connection.execute("COMMIT")
            return result

        try:
            return self._run(whole)
        except BaseException:
            self._rollback()
            raise

    def select(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Run a query.

        Parameters
        ----------
        sql
            The query, with ``?`` for each of ``values``.
        *values
            Values of the query.

        Returns
        -------
        list of tuple
            The rows.
        """
        return self._run(lambda: self._connection.execute(sql, values).fetchall())

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
