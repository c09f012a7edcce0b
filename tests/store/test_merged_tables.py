"""Reading, verification, compaction and queries of a store, in a directory and in buckets."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from edgefilter.cli.store import app
from edgefilter.core.errors import EdgefilterError, StoreError
from edgefilter.products.base import Product, to_parquet
from edgefilter.products.merge import merge
from edgefilter.products.naming import parse, range_product
from edgefilter.products.schemas import SCHEMAS
from edgefilter.report.data import read_runs
from edgefilter.store import table_files
from edgefilter.store.base import Store
from edgefilter.store.compact import compact
from edgefilter.store.connect import connect
from edgefilter.store.query import query
from edgefilter.store.reader import StoreReader, open_store
from edgefilter.store.verify import verify
from tests.helpers.servers.process import Server
from tests.helpers.spool_blocks import DATE, HEADER, NEXT_DATE, STREAM, fill_store, header_products, products
from tests.helpers.store_models import DictStore, StoreWrapper

BLOCKS = 9
NOW = 4e9


@pytest.fixture
def local(tmp_path: Path) -> StoreReader:
    store = connect(tmp_path / "local", create=True)
    fill_store(store)
    return StoreReader(store)


@pytest.fixture(scope="module", params=["directory", "swift", "seaweed"])
def filled(request: pytest.FixtureRequest, memory_folder: Path, store_url: Callable[[Server], str]) -> Store:
    """A store with nine blocks, which the tests of this module share: they do not change it."""
    if request.param == "directory":
        store = connect(memory_folder / "filled", create=True)
    else:
        store = connect(store_url(request.getfixturevalue(f"{request.param}_server")))
    fill_store(store)
    return store


def test_bucket_and_directory_give_the_same_tables(filled: Store, local: StoreReader) -> None:
    reader = StoreReader(filled)
    held = {"pulses": 3, "spectra": 9, "flags": 18, "flag_cost": 0, "ledger": 9, "dropped": 0}
    assert reader.tables() == local.tables() == held
    for table in SCHEMAS:
        assert reader.table(table).equals(local.table(table), check_metadata=True)
        assert reader.dataset(table).to_table().num_rows == local.tables()[table]
    assert reader.streams() == local.streams() == {STREAM: HEADER}
    assert reader.configs() == local.configs()
    assert reader.cutouts() == local.cutouts()
    assert reader.account().equals(local.account())
    condition = (pc.field("node") == "n1") & (pc.field("block") >= 3) & (pc.field("snr") > 10.5)
    assert reader.table("pulses", ["block", "snr"], condition).to_pylist() == [{"block": 6, "snr": 13.0}]
    assert reader.table("ledger", ["block"], blocks={2, 7, 99}).column("block").to_pylist() == [2, 7]


class ReadRecorder(StoreWrapper):
    """Records which objects are read."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.read: list[str] = []

    def get(self, name: str) -> bytes:
        self.read.append(name)
        return super().get(name)


def test_files_without_matching_rows_are_not_opened(local: StoreReader) -> None:
    store = ReadRecorder(local._store)
    reader = StoreReader(store)
    for condition, blocks in (
        (pc.field("date") == NEXT_DATE, [6, 7, 8]),
        ((pc.field("block") > 1) & (pc.field("block") < 4), [2, 3]),
        (pc.field("node") == "n2", []),
        (pc.field("stream") == STREAM, list(range(9))),
    ):
        store.read.clear()
        assert reader.table("ledger", ["block"], condition).column("block").to_pylist() == blocks
        assert [parse(name).block for name in sorted(store.read)] == blocks
    store.read.clear()
    assert reader.table("ledger", blocks=range(4, 6)).num_rows == len(store.read) == 2


def test_large_files_are_read_in_parts(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = StoreReader(filled).table("spectra")
    store = ReadRecorder(filled)
    reader = StoreReader(store)
    monkeypatch.setattr(table_files, "_READ_WHOLE_BYTES", 100)
    part = reader.table("spectra", ["block", "node", "power"], pc.field("block") >= 4)
    assert part.equals(whole.select(["block", "node", "power"]).slice(4))
    assert reader.table("spectra", ["date", "stokes"]).equals(whole.select(["date", "stokes"]))
    assert store.read == []
    assert reader.table("spectra").equals(whole)
    assert len(store.read) == 9


def test_damaged_page_of_a_file_read_in_parts_is_an_error(local: StoreReader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_files, "_READ_WHOLE_BYTES", 100)
    name = next(iter(local._store.names("spectra/")))
    path = Path(local._store.url(name))
    content = bytearray(path.read_bytes())
    content[content.index(b"PAR1", 1) - 4000 if content.count(b"PAR1") > 2 else 60] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(StoreError, match=name):
        local.table("spectra", [field for field in SCHEMAS["spectra"].names if field != "time"])


def test_verify_finds_no_problem_in_a_complete_store(filled: Store) -> None:
    report = verify(filled)
    assert (report.problems, report.notes, report.blocks) == ([], [], BLOCKS)
    assert report.objects == len(list(filled.names()))


def problems(store: Store) -> str:
    return "\n".join(verify(store).problems)


def test_verify_names_missing_and_damaged_objects(local: StoreReader) -> None:
    store = local._store
    names = {table: list(store.names(f"{table}/")) for table in (*SCHEMAS, "cutouts", "streams", "configs")}
    store.delete([names["ledger"][4]])
    assert f"ledger of {STREAM} on n1: no row for blocks 4 to 4" in problems(store)
    assert f"flags of {STREAM} on n1, block 4: missing in the ledger" in problems(store)
    store.delete([names["spectra"][2], names["cutouts"][0], names["streams"][0], names["pulses"][1]])
    found = problems(store)
    assert f"spectra of {STREAM} on n1, block 2: 0 rows, but the ledger has spectra" in found
    assert f"{names['cutouts'][0]}: missing, but a pulse names it" in found
    assert f"{names['streams'][0]}: missing, but the ledger has blocks of this stream" in found
    assert f"pulses of {STREAM} on n1, block 3: 0 rows, but the ledger has 1 pulses" in found
    Path(store.url(names["flags"][0])).write_bytes(b"damaged")
    assert f"{names['flags'][0]}: damaged" in problems(store)
    (Path(store.location) / "notes.txt").write_text("hello")
    assert "notes.txt: in no folder of edgefilter" in verify(store).notes


def test_verify_finds_duplicate_rows(local: StoreReader) -> None:
    store = local._store
    pieces = [(name, store.get(name)) for name in list(store.names(f"ledger/node=n1/date={DATE}"))[:3]]
    table = pq.read_table(pa.BufferReader(merge(pieces).content))
    content = to_parquet(table.replace_schema_metadata({}))  # without the list of replaced files
    store.put(range_product(parse(pieces[0][0]), 0, 2, content))
    assert "rows of ledger, block 0, are also in another object" in problems(store)


@pytest.mark.parametrize("any_store", ["directory", "swift", "seaweed"], indirect=True)
def test_readers_see_every_row_once_before_during_and_after_a_compaction(any_store: Store) -> None:
    fill_store(any_store)
    reader = StoreReader(any_store)
    before = {table: reader.table(table) for table in SCHEMAS}
    done = compact(any_store, NEXT_DATE, NOW, grace=2 * NOW)
    assert (done.merged, done.written, done.deleted) == (2 + 6 + 6 + 6, 4, 0)
    assert any(parse(name).last == 5 for name in any_store.names("ledger/"))
    for table in SCHEMAS:
        assert reader.table(table).equals(before[table]), "merged and replaced files exist"
        assert reader.dataset(table).to_table().num_rows == before[table].num_rows
        assert len(reader.files(table)) <= 4
    assert verify(any_store).problems == []
    assert compact(any_store, NEXT_DATE, NOW, grace=2 * NOW).written == 0
    assert compact(any_store, NEXT_DATE, NOW, grace=0).deleted == 20
    for table in SCHEMAS:
        assert reader.table(table).equals(before[table]), "only the merged files exist"
    assert verify(any_store).problems == []
    assert len(list(any_store.names("ledger/"))) == 1 + 3
    # A node that did not get the answer sends a piece again that was merged long ago: it is not current, and deleted.
    for product in products(2):
        any_store.put(product)
    for table in SCHEMAS:
        assert reader.table(table).equals(before[table])
    assert compact(any_store, NEXT_DATE, NOW, grace=0).deleted == 3


def test_late_pieces_are_merged_with_a_merged_file(tmp_path: Path) -> None:
    store = connect(tmp_path, create=True)
    fill_store(store, blocks=range(0, 6, 2))
    compact(store, NEXT_DATE, NOW, grace=0)
    fill_store(store, blocks=range(1, 6, 2))
    late = StoreReader(store).table("spectra", ["block"])
    assert late.column("block").to_pylist() == list(range(6))
    compact(store, NEXT_DATE, NOW, grace=0)
    compact(store, NEXT_DATE, NOW, grace=0)
    assert len(list(store.names("spectra/"))) == 1
    assert StoreReader(store).table("spectra", ["block"]) == late
    assert verify(store).problems == []


def test_ledger_files_with_and_without_the_column_backend_are_read_together(tmp_path: Path) -> None:
    store = connect(tmp_path, create=True)
    for product in (*header_products(), *(one for block in range(6) for one in products(block, "n1", DATE))):
        name = parse(product.name) if product.name.startswith("ledger/") else None
        if name and name.block < 2:  # written before the column existed
            table = pq.ParquetFile(pa.BufferReader(product.content)).read().drop_columns(["backend"])
            product = range_product(name, name.block, name.block, to_parquet(table))
        store.put(product)
    reader = StoreReader(store)
    account = reader.account()
    for _ in ("as sent", "compacted"):
        assert reader.table("ledger").column("backend").to_pylist() == [None, None, "cpu", "cpu", "cpu", "cpu"]
        assert reader.account() == account
        assert verify(store).problems == []
        ((run,), _) = read_runs(reader)
        assert run.backends == {"cpu": 6}
        compact(store, NEXT_DATE, NOW, grace=0)
    assert len(list(store.names("ledger/"))) == 1


def test_node_that_lost_its_spool_and_sent_all_blocks_again_in_other_batches(tmp_path: Path) -> None:
    """Readers see each block once, ``verify`` reports it, and a compaction repairs it."""
    pieces: dict[str, list[tuple[str, bytes]]] = {}
    for block in range(6):
        for product in products(block):
            pieces.setdefault(product.name.partition("/")[0], []).append((product.name, product.content))
    store, once = (connect(tmp_path / name, create=True) for name in ("twice", "once"))
    fill_store(once, blocks=range(6))
    for product in (*header_products(), *(Product(*piece) for piece in pieces.pop("cutouts"))):
        store.put(product)
    for table in pieces.values():
        for batch in (table[:4], table[4:], table[:2], table[2:]):
            if batch:
                store.put(merge(batch))
    for table in SCHEMAS:
        assert StoreReader(store).table(table).equals(StoreReader(once).table(table))
    assert StoreReader(store).table("spectra", ["power"], pc.field("block") > 2).num_rows == 3
    assert "rows of ledger, block 2, are also in another object" in problems(store)
    compact(store, NEXT_DATE, NOW, grace=0)
    assert problems(store) == ""
    for table in SCHEMAS:
        assert StoreReader(store).dataset(table).to_table().num_rows == StoreReader(once).table(table).num_rows


class StoreFailingAfter(StoreWrapper):
    """Fails after a number of changes."""

    def __init__(self, inner: Store, changes: int) -> None:
        super().__init__(inner)
        self.remaining_changes = changes

    def _change(self) -> None:
        self.remaining_changes -= 1
        if self.remaining_changes < 0:
            raise StoreError("the compaction was killed")

    def put(self, product: Product) -> None:
        self._change()
        super().put(product)

    def delete(self, names: list[str]) -> None:  # type: ignore[override]
        for name in names:
            self._change()
            super().delete([name])


def test_compaction_killed_between_any_two_changes_shows_every_row_once(tmp_path: Path) -> None:
    store = connect(tmp_path / "store", create=True)
    fill_store(store)
    reader = StoreReader(store)
    before = {table: reader.table(table) for table in SCHEMAS}
    for changes in range(60):
        try:
            compact(StoreFailingAfter(store, changes % 4), NEXT_DATE, NOW, grace=0)
            if changes % 4 == 0:
                break
        except StoreError:
            pass
        for table in SCHEMAS:
            assert reader.table(table).equals(before[table])
    assert changes > 8
    assert verify(store).problems == []


def test_readers_see_every_row_once_while_nodes_write_during_a_compaction(tmp_path: Path) -> None:
    store = connect(tmp_path / "store", create=True)
    fill_store(store)
    reader = StoreReader(store)
    ended = threading.Event()
    seen: list[list[int]] = []

    def read() -> None:
        while True:
            last = ended.is_set()
            seen.append(reader.table("ledger", ["block"]).column("block").to_pylist())
            if last:
                return

    thread = threading.Thread(target=read)
    thread.start()
    for block in range(BLOCKS, BLOCKS + 6):
        for product in products(block, date=DATE):
            store.put(product)
        compact(store, NEXT_DATE, NOW, grace=2 * NOW)
    ended.set()
    thread.join()
    for blocks in seen:
        assert sorted(set(blocks)) == sorted(blocks)
        assert len(blocks) >= BLOCKS
    assert len(seen[-1]) == BLOCKS + 6


def test_merged_file_depends_on_its_pieces_only() -> None:
    store = DictStore()
    fill_store(store)
    pieces = [(name, store.objects[name]) for name in store.names(f"spectra/node=n1/date={DATE}")]
    whole = merge(pieces)
    assert merge(list(reversed(pieces))) == whole
    assert merge(pieces[:1]) == Product(*pieces[0])
    assert merge([(whole.name, whole.content), pieces[2]]).content != whole.content
    again = pq.read_table(pa.BufferReader(merge([(whole.name, whole.content), pieces[2]]).content))
    assert again.column("block").to_pylist() == list(range(6))
    with pytest.raises(StoreError, match="another table, node, date or stream"):
        merge([pieces[0], (name := next(store.names("flags/")), store.objects[name])])
    with pytest.raises(StoreError, match="damaged"):
        merge([pieces[0], (pieces[1][0], b"other")])


def test_sql_reads_a_store_in_place(filled: Store) -> None:
    reader = StoreReader(filled)
    sql = "SELECT node, date, count(*) AS n, sum(samples_received) AS s FROM ledger GROUP BY ALL ORDER BY date"
    assert query(reader, sql).to_pylist() == [
        {"node": "n1", "date": DATE, "n": 6, "s": 6000},
        {"node": "n1", "date": NEXT_DATE, "n": 3, "s": 3000},
    ]
    joined = "SELECT p.block FROM pulses p JOIN ledger l USING (stream, block) WHERE p.snr > 8 ORDER BY 1"
    assert query(reader, joined).column("block").to_pylist() == [3, 6]
    for wrong in ("SELEC", "SELECT * FROM nothing", "SELECT * FROM '/etc/hostname'"):
        with pytest.raises(StoreError, match=r"query: [A-Z].*"):
            query(reader, wrong)


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, done.output
    return done.output


def test_the_commands(local: StoreReader) -> None:
    where, objects = local.location, len(list(local._store.names()))
    assert run("verify", where) == f"{objects} objects, {size(local)} B, 9 blocks in the ledger: 0 problems, 0 notes\n"
    merge_all = ("compact", where, "--before", "2026-12-01", "--grace", "0")
    assert run(*merge_all) == "29 objects merged into 7; 0 replaced ones deleted\n"
    assert run(*merge_all) == "0 objects merged into 0; 29 replaced ones deleted\n"
    sql = "SELECT block, cells FROM ledger WHERE block < 2 ORDER BY block"
    lines = [json.loads(line) for line in run("query", where, sql, "--format", "json").splitlines()]
    assert lines == [{"block": 0, "cells": 960}, {"block": 1, "cells": 960}]
    assert run("query", where, "SELECT 1 AS one", "--format", "csv") == '"one"\n1\n'
    assert run("query", where, "SELECT 1 AS one").split() == ["one", "1"]
    gaps = "SELECT * FROM (VALUES (1, 0.5::DOUBLE, 'a'), (NULL, NULL, NULL)) AS t (n, x, s)"
    assert run("query", where, gaps).split() == ["n", "x", "s", "1", "0.5", "a", "NULL", "NULL", "NULL"]
    assert run("query", where, gaps, "--format", "csv").splitlines()[1:] == ['1,0.5,"a"', ",,"]
    lines = run("query", where, gaps, "--format", "json").splitlines()
    assert lines == ['{"n":1,"x":0.5,"s":"a"}', '{"n":null,"x":null,"s":null}']
    for arguments in (
        ("compact", where, "--before", "yesterday"),
        ("query", where, "SELEC"),
        ("verify", f"{where}/absent"),
    ):
        error = CliRunner().invoke(app, arguments).exception
        assert isinstance(error, EdgefilterError)
        assert "\n" not in str(error)


def test_verify_of_a_store_with_problems_ends_with_status_1(local: StoreReader) -> None:
    Path(local._store.url(next(iter(local._store.names("ledger/"))))).unlink()
    command = [sys.executable, "-m", "edgefilter.cli.main", "store", "verify", local.location]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("problem: ")


def size(reader: StoreReader) -> int:
    return sum(item.size for item in reader._store.listing())


def test_open_store_takes_urls(bucket: str) -> None:
    store = connect(bucket)
    fill_store(store, blocks=range(3))
    reader = open_store(bucket)
    assert reader.location == bucket
    assert reader.table("ledger").num_rows == 3
    assert reader.files("ledger")[0].startswith(f"{bucket}/ledger/node=n1/date={DATE}/")
