"""The spool: commits are durable and atomic, and the least important products are dropped first."""

import errno
import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from edgefilter.core.errors import SpoolBusyError, SpoolError, SpoolFullError
from edgefilter.products.base import Product
from edgefilter.spool import Cursor, Entry, PayloadTotals, Priority, Spool
from edgefilter.spool.database import Database
from edgefilter.spool.manifest import Manifest
from edgefilter.spool.priorities import make_entry
from tests.helpers.spools import LEDGER, entries, make_product, payload_files, product_names


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def test_committed_products_are_there_after_reopening(path: Path) -> None:
    block = [
        make_product("cutouts", 1),
        make_product("pulses", 1),
        make_product("spectra", 1),
        make_product("ledger", 1),
    ]
    with Spool.open(path, role="reducer") as spool:
        assert spool.cursor("s") is None
        assert spool.commit(block, "s", Cursor(2000, 100, "digest"), {"blocks": 1, "received": 900})
        assert spool.commit([], "s", Cursor(3000, 100, "digest"), {"blocks": 1, "received": 50})
    with Spool.open(path, role="forwarder") as spool:
        assert str(spool.recovered) == "0 orphaned files removed, 0 damaged products dropped"
        assert spool.cursor("s") == Cursor(3000, 100, "digest")
        assert spool.run_totals("s") == {"blocks": 2, "received": 950}
        assert spool.run_totals("t") == {}
        assert product_names(spool) == sorted(product.name for product in block)
        contents = {spool.read(entry) for entry in entries(spool)}
        assert contents == {product.content for product in block}
        assert spool.payload_totals()[Priority.CANDIDATES] == PayloadTotals(2, 2000)
        assert spool.payload_totals()[Priority.EXTRA] == PayloadTotals()


def test_repeated_commit_changes_nothing_and_cursor_never_moves_back(path: Path) -> None:
    with Spool.open(path, role="reducer") as spool:
        assert spool.commit([make_product("ledger", 1)], "s", Cursor(2000), {"blocks": 1})
        before = payload_files(path)
        assert not spool.commit([make_product("ledger", 1)], "s", Cursor(2000), {"blocks": 1})
        assert not spool.commit([make_product("ledger", 0)], "s", Cursor(1000), {"blocks": 1})
        assert spool.commit([make_product("ledger", 0)], "t", Cursor(1000))
        assert spool.cursors() == {"s": Cursor(2000), "t": Cursor(1000)}
        assert spool.run_totals("s") == {"blocks": 1}
        assert set(before) < set(payload_files(path))


def test_other_bytes_under_the_same_name_are_refused(path: Path) -> None:
    with Spool.open(path, role="reducer") as spool:
        spool.put(Product("streams/s-00000001.json", b"{}"))
        spool.put(Product("streams/s-00000001.json", b"{}"))
        spool.commit([LEDGER], "s", Cursor(1))
        with pytest.raises(SpoolError, match="other content"):
            spool.commit([Product(LEDGER.name, b"other")], "s", Cursor(2))
        assert spool.cursor("s") == Cursor(1)
        assert product_names(spool) == [LEDGER.name, "streams/s-00000001.json"]


def test_payloads_are_synchronised_then_renamed_then_their_rows_inserted(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def synced_kind(handle: int) -> str:
        return "folder" if Path(f"/proc/self/fd/{handle}").readlink().name == "payload" else "payload"

    with Spool.open(path, role="reducer") as spool:
        monkeypatch.setattr(os, "fsync", lambda handle: (steps.append(f"sync {synced_kind(handle)}"), fsync(handle))[1])
        monkeypatch.setattr(Path, "rename", lambda a, b: (steps.append("rename"), rename(a, b))[1])
        spool._manifest._database._connection.set_trace_callback(lambda sql: steps.append(sql.split()[0]))
        spool.commit([LEDGER], "s", Cursor(1))
    first = steps.index("sync payload")
    assert steps[first : first + 4] == ["sync payload", "rename", "sync folder", "BEGIN"]
    assert steps.index("COMMIT") > steps.index("BEGIN")


def test_oldest_of_the_lowest_priority_is_dropped_first_and_recorded(path: Path) -> None:
    with Spool.open(path, role="reducer", budget_bytes=6000) as spool:
        for number in range(3):
            spool.commit([make_product("spectra", number), make_product("ledger", number)], "s", Cursor(number + 1))
        assert spool.dropped() == []
        spool.commit([make_product("pulses", 3), make_product("ledger", 3)], "s", Cursor(4))
        assert [record.name for record in spool.dropped()] == [make_product("spectra", n).name for n in (0, 1)]
        assert {(record.size, record.reason) for record in spool.dropped()} == {(1000, "budget")}
        # Without a less important product in the spool, the incoming one is dropped.
        spool.commit([make_product("spectra", 4), make_product("ledger", 4)], "s", Cursor(5))
        assert [record.name for record in spool.dropped()][2:] == [make_product("spectra", n).name for n in (2, 4)]
        spool.commit([make_product("spectra", 5)], "s", Cursor(6))
        assert [record.name for record in spool.dropped()][4:] == [make_product("spectra", 5).name]
        assert spool.ready == (True, "")
        assert sum(total.bytes for total in spool.payload_totals().values()) <= 6000
        assert len(payload_files(path)) == sum(total.files for total in spool.payload_totals().values())


def test_commit_without_room_for_a_ledger_fails_and_succeeds_later(path: Path) -> None:
    with Spool.open(path, role="reducer", budget_bytes=2500) as spool:
        spool.commit([make_product("ledger", 0), make_product("cutouts", 0)], "s", Cursor(1))
        with pytest.raises(SpoolFullError, match="must not be dropped"):
            spool.commit([make_product("ledger", 1), make_product("spectra", 1)], "s", Cursor(2))
        assert spool.ready[0] is False
        assert spool.cursor("s") == Cursor(1)
        assert spool.dropped() == []
        assert len(payload_files(path)) == 2
        with Spool.open(path, role="forwarder") as other:
            other.mark_delivered(other.next_entries(1)[0])
        assert spool.commit([make_product("ledger", 1), make_product("spectra", 1)], "s", Cursor(2))
        assert spool.ready == (True, "")
        assert [record.name for record in spool.dropped()] == [make_product("spectra", 1).name]


def test_each_role_has_one_owner_whose_lock_ends_with_its_process(path: Path) -> None:
    with Spool.open(path, role="reducer", name="a") as spool:
        with pytest.raises(SpoolBusyError, match="reducer a"):
            Spool.open(path, role="reducer", name="a")
        Spool.open(path, role="reducer", name="b").close()
        spool.commit([LEDGER], "s", Cursor(1))
    program = (
        "import os, sys\nfrom edgefilter.spool import Spool\n"
        "spool = Spool.open(sys.argv[1], role='reducer', name='a')\nprint('open', flush=True)\nsys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(SpoolBusyError):
            Spool.open(path, role="reducer", name="a", wait=0.1)
        other.kill()
        Spool.open(path, role="reducer", name="a", wait=30).close()


def test_reader_needs_a_spool_and_changes_nothing(path: Path) -> None:
    with pytest.raises(SpoolError, match="there is no spool"):
        Spool.open(path)
    assert not path.exists()
    with Spool.open(path, role="reducer") as spool, Spool.open(path) as reader:
        spool.commit([LEDGER], "s", Cursor(1))
        assert reader.cursor("s") == Cursor(1)
        assert reader.payload_totals()[Priority.LEDGER].files == 1


def test_orphaned_files_are_removed_and_damaged_products_dropped(path: Path) -> None:
    block = [
        make_product("cutouts", 1),
        make_product("ledger", 1),
        make_product("ledger", 2),
        make_product("ledger", 3),
    ]
    with Spool.open(path, role="reducer") as spool:
        spool.commit(block, "s", Cursor(1))
        files = {entry.name: path / "payload" / entry.file for entry in entries(spool)}
    files[block[0].name].unlink()
    files[block[1].name].write_bytes(b"cut")
    files[block[2].name].write_bytes(b"x" * 1000)  # same length: the damage is found by reading
    orphan = files[block[3].name].name
    (path / "payload" / f"{orphan[:-1]}{'0' if orphan[-1] != '0' else '1'}").write_bytes(b"no row")
    (path / "payload" / f"{orphan[:-1]}{'2' if orphan[-1] != '2' else '3'}.part").write_bytes(b"half")
    (path / "payload" / "operator.txt").write_text("not ours")
    with Spool.open(path, role="reducer") as spool:
        assert len(spool.recovered.orphans) == 2
        assert sorted(spool.recovered.lost) == sorted(product.name for product in block[:2])
        by_name = {entry.name: entry for entry in spool.unsealed()}
        assert spool.read(by_name[block[2].name]) is None
        assert spool.read(by_name[block[3].name]) == block[3].content
        assert {(record.name, record.reason) for record in spool.dropped()} == {(p.name, "damaged") for p in block[:3]}
        assert product_names(spool) == [block[3].name]
    assert "operator.txt" in payload_files(path)
    with Spool.open(path, role="reducer") as spool:
        assert spool.recovered.orphans == spool.recovered.lost == ()


def test_files_of_a_running_owner_are_not_orphaned(path: Path) -> None:
    with Spool.open(path, role="reducer", name="a") as spool:
        written = spool._payloads.write([("ledger/x", b"about to get its row")])
        with Spool.open(path, role="forwarder") as other:
            assert other.recovered.orphans == ()
        assert payload_files(path) == written
    with Spool.open(path, role="forwarder") as other:
        assert list(other.recovered.orphans) == written


def test_file_whose_row_is_inserted_during_a_recovery_stays(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other_owner = Spool.open(path, role="reducer")
    manifest_entries = Manifest.entries

    def read_then_commit_and_die(self: Manifest, where: str = "", *values: object, limit: int = -1) -> list[Entry]:
        found = manifest_entries(self, where, *values, limit=limit)
        monkeypatch.setattr(Manifest, "entries", manifest_entries)
        other_owner._manifest.commit(rows)
        other_owner.close()
        return found

    files = other_owner._payloads.write([(LEDGER.name, LEDGER.content)])
    rows = [make_entry(LEDGER, file, None) for file in files]
    monkeypatch.setattr(Manifest, "entries", read_then_commit_and_die)
    with Spool.open(path, role="forwarder") as spool:
        assert spool.recovered.orphans == spool.recovered.lost == ()
        (entry,) = spool.unsealed()
        assert spool.read(entry) == LEDGER.content


def test_merged_pieces_are_replaced_by_the_merged_product(path: Path) -> None:
    with Spool.open(path, role="reducer") as spool, Spool.open(path, role="forwarder") as other:
        spool.commit([make_product("ledger", 1), make_product("ledger", 2), make_product("ledger", 3)], "s", Cursor(1))
        pieces = other.unsealed()
        other.merge(pieces[:2], make_product("ledger", 9))
        other.seal(pieces[2:])
        assert other.unsealed() == []
        assert [entry.name for entry in other.next_entries(9)] == [make_product("ledger", n).name for n in (3, 9)]
        assert len(payload_files(path)) == 2
        with pytest.raises(SpoolError, match="changed meanwhile"):
            other.merge(pieces[:2], make_product("ledger", 10))
        assert len(payload_files(path)) == 2


def test_quarantined_product_stays_and_can_be_released(path: Path) -> None:
    with Spool.open(path, role="forwarder") as spool:
        spool.commit([make_product("cutouts", 1), make_product("cutouts", 2)])
        first, second = spool.next_entries(9)
        assert spool.next_entries(9, {first.name}) == [second]
        spool.quarantine(first, "other bytes")
        assert [entry.stuck for entry in spool.stuck()] == ["other bytes"]
        assert spool.next_entries(9) == [second]
        assert spool.counts() == (1, 0)
        spool.mark_delivered(second)
        assert not spool.is_empty()
        assert spool.release() == 1
        spool.mark_delivered(spool.next_entries(1)[0])
        assert spool.is_empty()
        assert payload_files(path) == []


def test_product_dropped_during_its_upload_leaves_no_record_once_delivered(path: Path) -> None:
    with Spool.open(path, role="reducer", budget_bytes=1000) as spool, Spool.open(path, role="forwarder") as other:
        spool.commit([make_product("spectra", 1)], "s", Cursor(1))
        other.seal(other.unsealed())
        uploading = other.next_entries(1)[0]
        spool.commit([make_product("ledger", 2)], "s", Cursor(2))
        assert [record.name for record in spool.dropped()] == [make_product("spectra", 1).name]
        assert other.read(uploading) is None
        other.mark_delivered(uploading)
        assert spool.dropped() == []


def test_failed_fsync_is_an_error_and_the_file_is_written_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []

    def fail(handle: int) -> None:
        synced.append(os.fstat(handle).st_ino)
        raise OSError(errno.EIO, "Input/output error")

    with Spool.open(path, role="reducer") as spool:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fail)
            with pytest.raises(SpoolError, match="Input/output error"):
                spool.commit([LEDGER], "s", Cursor(1))
        assert len(synced) == len(set(synced)) == 1
        assert payload_files(path) == []
        assert spool.cursor("s") is None
        assert spool.commit([LEDGER], "s", Cursor(1))


def test_manifest_is_reopened_and_written_again_after_a_failed_fsync(path: Path) -> None:
    with Spool.open(path, role="reducer") as spool:
        spool.commit([LEDGER], "s", Cursor(1))
        database = spool._manifest._database
        before = database._connection

        def fail() -> None:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
            raise error

        assert (path / "manifest.sqlite-wal").stat().st_size > 0
        with pytest.raises(SpoolError, match="disk I/O error"):
            database._run(fail)
        assert database._connection is not before
        assert (path / "manifest.sqlite-wal").stat().st_size == 0  # its content is in the database
        assert spool.cursor("s") == Cursor(1)


@pytest.mark.parametrize("content", [b"not a database, but long enough to be taken for one" * 20, b"SQLite"])
def test_file_that_is_no_manifest_is_a_one_line_error(path: Path, content: bytes) -> None:
    path.mkdir()
    (path / "manifest.sqlite").write_bytes(content)
    with pytest.raises(SpoolError, match=r"spool .*not a database") as caught:
        Spool.open(path, role="reducer")
    assert "\n" not in str(caught.value)


def test_manifest_of_a_later_version_is_refused(path: Path) -> None:
    Spool.open(path, role="reducer").close()
    with sqlite3.connect(path / "manifest.sqlite") as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(SpoolError, match="version 99"):
        Spool.open(path, role="reducer")


def test_a_new_spool_may_be_opened_by_several_processes_at_once(tmp_path: Path) -> None:
    at_once = threading.Barrier(4)
    errors: list[BaseException] = []

    def open_database(path: Path) -> None:
        at_once.wait()
        try:
            Database(path, create=True)
        except SpoolError as error:
            errors.append(error)

    for number in range(20):
        path = tmp_path / f"{number}.sqlite"
        threads = [threading.Thread(target=open_database, args=(path,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == []
