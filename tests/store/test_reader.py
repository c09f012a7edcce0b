"""Products are read back with schema and units, and the ledger is summed."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from edgefilter.core.config import Reduction
from edgefilter.core.errors import StoreError
from edgefilter.core.stream import Encoding, SampleKind, Stream
from edgefilter.products.base import BlockInfo, Product, Provenance, to_parquet
from edgefilter.products.cutout_file import encode
from edgefilter.products.ledger import check_balance, ledger_table
from edgefilter.products.naming import ProductNamer, config_product, stream_product
from edgefilter.products.pulses import PulseRow, pulses_table
from edgefilter.products.schemas import PATH_COLUMNS, SCHEMAS
from edgefilter.store.directory import DirectoryStore
from edgefilter.store.reader import StoreReader, open_store
from tests.helpers.cutouts import cutouts_equal, make_cutout, rounded

DATE = "2026-11-23"
TAI = 1_795_000_000_000_000_000


def pulse(number: int, cutout: str = "") -> PulseRow:
    return PulseRow(number, number / 1e3, 0.0, TAI, 100.0, 0.1, 0.001, 7.0 + number, 1100.0, 1500.0, 3, 0.0, cutout)


def account(lost: int) -> dict[str, int]:
    return {
        "sample_start": 0,
        "samples_expected": 1000,
        "samples_received": 1000 - lost,
        "lost_damaged": lost,
        "cells": 500,
        "cells_lost": 100,
        "flagged_zero_dm": 40,
        "cells_discarded": 350,
        "cells_kept": 10,
        "bytes_in": 1000,
        "bytes_out": 50,
        "candidates": 2,
        "candidates_overflow": 0,
    }


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    """Store with two nodes and two streams, whose blocks arrived out of order."""
    store = DirectoryStore(tmp_path / "store", create=True)
    for node, stream, block in (("n2", "b-00000001", 1), ("n1", "a-00000000", 11), ("n1", "a-00000000", 2)):
        provenance = Provenance(stream, "0" * 16, "0.1.0")
        namer, where = ProductNamer(node, provenance), BlockInfo(block, TAI, 1.0)
        cutout = namer.cutout(block, DATE, encode(make_cutout(seed=block)))
        rows = [pulse(9 - row, cutout.name if row else "") for row in range(3)]
        store.put(cutout)
        store.put(namer.table("pulses", block, DATE, to_parquet(pulses_table(provenance, where, rows))))
        store.put(namer.table("ledger", block, DATE, to_parquet(ledger_table(provenance, where, account(block)))))
    return store


@pytest.fixture
def reader(store: DirectoryStore) -> StoreReader:
    return open_store(store.path)


def test_tables_are_listed_with_their_rows(reader: StoreReader) -> None:
    assert reader.tables() == {"pulses": 9, "spectra": 0, "flags": 0, "flag_cost": 0, "ledger": 3, "dropped": 0}


def test_table_is_sorted_by_stream_and_block_and_keeps_the_order_of_rows(reader: StoreReader) -> None:
    table = reader.table("pulses")
    keys = list(zip(*(table.column(name).to_pylist() for name in ("stream", "block", "sample")), strict=True))
    blocks = [("a-00000000", 2), ("a-00000000", 11), ("b-00000001", 1)]
    assert keys == [(*block, sample) for block in blocks for sample in (9, 8, 7)]
    assert table.column("node").to_pylist() == ["n1"] * 6 + ["n2"] * 3
    assert table.column("date").unique().to_pylist() == [DATE]
    assert table.slice(0, 3).select(SCHEMAS["pulses"].names).to_pylist()[0]["cutout"] == ""


@pytest.mark.parametrize("name", SCHEMAS)
def test_table_without_files_has_its_schema_and_units(reader: StoreReader, name: str) -> None:
    schema = pa.schema([*SCHEMAS[name], *PATH_COLUMNS])
    table = reader.table(name)
    assert table.schema.equals(schema)
    assert [field.metadata for field in table.schema] == [field.metadata for field in schema]
    assert table.schema.metadata[b"edgefilter.schema"] == b"1"


def test_table_with_selected_columns_and_a_condition(reader: StoreReader) -> None:
    table = reader.table("pulses", columns=["node", "snr"], filter=(pc.field("snr") > 15.5) & (pc.field("block") < 5))
    assert table.to_pylist() == [{"node": "n1", "snr": 16.0}, {"node": "n2", "snr": 16.0}]
    assert table.schema.field("snr").metadata[b"description"]
    assert reader.table("spectra", columns=["stokes"]).schema.names == ["stokes"]
    assert reader.table("pulses", filter=pc.field("node") == "n2").num_rows == 3


def test_unknown_table_or_column_is_a_one_line_error(reader: StoreReader) -> None:
    with pytest.raises(StoreError, match=r"the tables are pulses, spectra, flags, flag_cost, ledger, dropped"):
        reader.table("pulse")
    with pytest.raises(StoreError, match=r"pulses has no column 'time_of_day'; its columns are stream, block"):
        reader.table("pulses", columns=["time_of_day"])
    with pytest.raises(StoreError, match=r"table pulses of .*nothing") as caught:
        reader.table("pulses", filter=pc.field("nothing") > 1)
    assert "\n" not in str(caught.value)


def test_cutout_is_found_by_its_name_in_the_pulses_table(reader: StoreReader) -> None:
    name = reader.table("pulses", filter=pc.field("block") == 11).column("cutout")[2].as_py()
    cutout = reader.cutout(name)
    assert cutouts_equal(cutout, rounded(make_cutout(seed=11)))
    assert len(cutout.seconds) == cutout.data.shape[0]
    assert len(cutout.frequencies_mhz) == cutout.data.shape[2]
    assert name in reader.cutouts()
    assert len(reader.cutouts()) == 3


def test_missing_cutout_is_a_one_line_error(reader: StoreReader) -> None:
    with pytest.raises(StoreError, match="holds no cutouts/"):
        reader.cutout(reader.cutouts()[0].replace(DATE, "2026-11-24"))
    with pytest.raises(StoreError, match="not the name of a product"):
        reader.cutout("../x")
    with pytest.raises(StoreError, match="not a cut-out"):
        reader.cutout("streams/a.json")


def test_the_account_sums_the_ledger_for_each_stream(reader: StoreReader) -> None:
    total = reader.account()
    rows = total.to_pylist()
    assert [(row["stream"], row["node"], row["blocks"], row["lost_damaged"]) for row in rows] == [
        ("a-00000000", "n1", 2, 13),
        ("b-00000001", "n2", 1, 1),
    ]
    assert rows[0]["samples_expected"] == 2000
    assert rows[0]["seconds"] == 2.0
    assert total.schema.field("bytes_in").metadata[b"unit"] == b"B"
    check_balance(total.append_column("block", total.column("blocks")))


def test_streams_and_settings_are_read_back(store: DirectoryStore, reader: StoreReader) -> None:
    stream = Stream("sky", SampleKind.POWER, TAI, 1000, 4, 1.4e9, -1e6, ("I",), 8, Encoding.UNSIGNED)  # type: ignore[arg-type]
    stream = Stream.from_json(stream.to_json())
    config = Reduction()
    store.put(stream_product(stream))
    store.put(config_product(config))
    assert reader.streams() == {stream.id: stream}
    assert reader.configs() == {config.digest(): json.loads(config.canonical())}


def test_empty_store_is_opened_by_its_url(tmp_path: Path) -> None:
    folder = tmp_path / "with space"
    folder.mkdir()
    reader = open_store(folder.as_uri())
    assert reader.tables() == dict.fromkeys(SCHEMAS, 0)
    assert reader.cutouts() == []
    assert reader.streams() == reader.configs() == {}
    assert reader.account().num_rows == 0
    with pytest.raises(StoreError, match="no store 'http' is installed; installed: file, s3"):
        open_store("http://bucket/store")
    with pytest.raises(StoreError, match="no such directory"):
        open_store(tmp_path / "absent")


@pytest.mark.parametrize("damage", ["empty", "cut", "page", "footer"])
def test_error_names_the_damaged_file_of_a_table(store: DirectoryStore, reader: StoreReader, damage: str) -> None:
    name = next(store.names("pulses/node=n1"))
    content = bytearray((store.path / name).read_bytes())
    if damage == "empty":
        content.clear()
    elif damage == "cut":
        del content[-100:]
    else:
        at = 40 if damage == "page" else len(content) - 20
        content[at] ^= 0xFF
    (store.path / name).write_bytes(content)
    with pytest.raises(StoreError, match=f"^{name}: damaged") as caught:
        reader.table("pulses")
    assert "\n" not in str(caught.value)
    assert reader.table("ledger").num_rows == 3


def test_error_names_the_damaged_cutout_stream_or_config(store: DirectoryStore, reader: StoreReader) -> None:
    name = reader.cutouts()[0]
    content = bytearray((store.path / name).read_bytes())
    content[-1] ^= 1
    (store.path / name).write_bytes(content)
    with pytest.raises(StoreError, match=f"^{name}: damaged"):
        reader.cutout(name)
    store.put(Product("streams/a-00000000.json", b"{}"))
    with pytest.raises(StoreError, match=r"^streams/a-00000000.json: damaged"):
        reader.streams()
    store.put(Product("configs/0123456789abcdef.json", b"{}"))
    with pytest.raises(StoreError, match=r"^configs/0123456789abcdef.json: damaged"):
        reader.configs()


def test_foreign_files_in_the_folders_are_ignored(store: DirectoryStore, reader: StoreReader) -> None:
    (store.path / "pulses" / "README.txt").write_text("hello")
    (store.path / "notes").mkdir()
    assert reader.tables()["pulses"] == 9


def test_column_that_an_older_file_lacks_is_null(store: DirectoryStore, reader: StoreReader) -> None:
    provenance = Provenance("c-00000002", "0" * 16, "0.0.9")
    older = pulses_table(provenance, BlockInfo(0, TAI, 1.0), [pulse(1)]).drop_columns(["members"])
    store.put(ProductNamer("n1", provenance).table("pulses", 0, DATE, to_parquet(older)))
    assert reader.table("pulses", columns=["stream", "members"]).to_pylist()[8:] == [
        {"stream": "b-00000001", "members": 3},
        {"stream": "c-00000002", "members": None},
    ]


def test_pyarrow_reads_the_folder_as_one_table(store: DirectoryStore) -> None:
    table = pq.read_table(store.path / "pulses", partitioning="hive")
    assert table.num_rows == 9
    assert set(table.column("node").to_pylist()) == {"n1", "n2"}
    assert np.all(np.asarray(table.column("dm")) == 100.0)
