"""The recipes read a store in place, wherever it is, and agree."""

import runpy
from pathlib import Path

import pytest

from edgefilter.store.base import Store
from edgefilter.store.compact import compact
from edgefilter.store.connect import connect
from tests.helpers.spool_blocks import DATE
from tests.store.test_merged_tables import NEXT_DATE, NOW, fill

RECIPES = Path(__file__).parents[2] / "configs" / "recipes"
EXPECTED = [
    (DATE, "n1", 10.0, 50.0),
    (DATE, "n2", 10.0, 50.0),
    (NEXT_DATE, "n1", 13.0, 50.0),
    (NEXT_DATE, "n2", 13.0, 50.0),
]


def fill_two_nodes(store: Store) -> None:
    """Two nodes, and the rows of the first day are there in merged and replaced files at once."""
    for node in ("n1", "n2"):
        fill(store, node)
    compact(store, NEXT_DATE, NOW, grace=2 * NOW)


@pytest.mark.parametrize("tool", ["duckdb", "polars"])
def test_a_recipe_reads_a_bucket(tool: str, bucket: str) -> None:
    pytest.importorskip(tool)
    fill_two_nodes(connect(bucket))
    assert runpy.run_path(str(RECIPES / f"with_{tool}.py"))["strongest"](bucket) == EXPECTED


@pytest.mark.parametrize("tool", ["duckdb", "polars", "pyspark"])
@pytest.mark.filterwarnings("ignore")  # Spark's own
def test_a_recipe_reads_a_folder(tool: str, tmp_path: Path) -> None:
    pytest.importorskip(tool)
    fill_two_nodes(connect(tmp_path, create=True))
    assert runpy.run_path(str(RECIPES / f"with_{tool}.py"))["strongest"](str(tmp_path)) == EXPECTED
