"""Folders that a condition on node or date excludes are not listed; the result is the same."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow.compute as pc
import pytest

from edgefilter.core.errors import StoreError
from edgefilter.products.base import BlockInfo, Provenance, to_parquet
from edgefilter.products.naming import ProductNamer
from edgefilter.products.pulses import PulseRow, pulses_table
from edgefilter.store.base import ObjectInfo
from edgefilter.store.directory import DirectoryStore
from edgefilter.store.query import query
from edgefilter.store.reader import StoreReader
from tests.helpers.store_models import StoreWrapper

NODES, DATES = ("a", "b", "c"), ("2026-01-01", "2026-01-02", "2026-12-31")
by_node, by_date, by_snr = (pc.field(name) for name in ("node", "date", "snr"))
ALL = {(node, date) for node in NODES for date in DATES}


class ListingRecorder(StoreWrapper):
    """Records which folders are listed."""

    def __init__(self, inner: DirectoryStore) -> None:
        super().__init__(inner)
        self.listed: set[str] = set()

    def listing(self, prefix: str = "") -> Iterator[ObjectInfo]:
        self.listed.add(prefix)
        return super().listing(prefix)


@pytest.fixture
def store(tmp_path: Path) -> ListingRecorder:
    """Store with one pulse for each day and node, whose S/N is the number of its block."""
    store = DirectoryStore(tmp_path, create=True)
    for node in NODES:
        for block, date in enumerate(DATES):
            row = PulseRow(0, 0.1, 0.0, 0, 100.0, 0.1, 0.001, float(block), 1100.0, 1500.0, 3, 0.0)
            provenance = Provenance(f"s-{node}", "0" * 16, "0.1.0")
            content = to_parquet(pulses_table(provenance, BlockInfo(block, 0, 1.0), [row]))
            store.put(ProductNamer(node, provenance).table("pulses", block, date, content))
    return ListingRecorder(store)


def folder(node: str, date: str | None = None) -> str:
    return f"pulses/node={node}/" + (f"date={date}/" if date else "")


@pytest.mark.parametrize(
    ("condition", "listed", "found"),
    [
        (None, {"pulses/"}, ALL),
        (by_snr >= 0, {"pulses/"}, ALL),
        (by_node == "b", {folder("b")}, {("b", date) for date in DATES}),
        (by_date == DATES[1], {folder(node, DATES[1]) for node in NODES}, {(node, DATES[1]) for node in NODES}),
        (
            (by_node == "b") & (by_date >= DATES[1]) & (by_snr < 2),
            {folder("b", DATES[1]), folder("b", DATES[2])},
            {("b", DATES[1])},
        ),
        (by_node.isin(["a", "c"]) & (by_date < DATES[1]), {folder("a", DATES[0]), folder("c", DATES[0])}, None),
        (
            (by_node == "a") & (by_date == DATES[0]) | (by_node == "b"),
            {folder("a"), folder("b")},
            {("a", DATES[0]), *(("b", date) for date in DATES)},
        ),
        (by_date != DATES[0], {"pulses/"}, {(node, date) for node in NODES for date in DATES[1:]}),
        (by_node == "nobody", set(), set()),
    ],
)
def test_only_folders_that_may_hold_rows_are_listed(
    store: ListingRecorder, condition: pc.Expression | None, listed: set[str], found: set[tuple[str, str]] | None
) -> None:
    table = StoreReader(store).table("pulses", ["node", "date"], condition)
    if found is None:
        found = {("a", DATES[0]), ("c", DATES[0])}
    assert {(row["node"], row["date"]) for row in table.to_pylist()} == found
    assert table.num_rows == len(found)
    assert store.listed == listed


def test_sql_lists_only_folders_of_its_condition(store: ListingRecorder) -> None:
    reader = StoreReader(store)
    sql = f"SELECT snr FROM pulses WHERE node = 'c' AND date BETWEEN '{DATES[1]}' AND '2026-06-30'"
    assert query(reader, sql).to_pylist() == [{"snr": 1.0}]
    assert store.listed == {folder("c", DATES[1])}
    store.listed.clear()
    joined = "SELECT count(*) AS n FROM pulses a JOIN pulses b USING (node, date) WHERE a.node = 'a'"
    assert query(reader, joined).to_pylist() == [{"n": 3}]
    assert query(reader, "SELECT count(*) AS n, max(snr) AS most FROM pulses").to_pylist() == [{"n": 9, "most": 2.0}]
    assert "pulses/" in store.listed


def test_condition_that_does_not_fit_the_table_is_an_error(store: ListingRecorder) -> None:
    reader = StoreReader(store)
    for condition in (pc.field("no_column") == 1, pc.field("node") == 1):
        with pytest.raises(StoreError, match="table pulses of"):
            reader.table("pulses", filter=condition)
        with pytest.raises(StoreError, match="table pulses of"):
            reader.dataset("pulses", condition)
