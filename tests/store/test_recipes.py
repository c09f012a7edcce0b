"""The recipes read a directory and a bucket in place, with the same result."""

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

from edgefilter.store.base import Store
from edgefilter.store.compact import compact
from edgefilter.store.connect import connect
from tests.helpers.servers.process import Server
from tests.helpers.spool_blocks import DATE, NEXT_DATE, fill_store

RECIPES = Path(__file__).parents[2] / "configs" / "recipes"
EXPECTED = [
    (DATE, "n1", 10.0, 50.0),
    (DATE, "n2", 10.0, 50.0),
    (NEXT_DATE, "n1", 13.0, 50.0),
    (NEXT_DATE, "n2", 13.0, 50.0),
]


def fill_two_nodes(store: Store) -> None:
    """Write two nodes, with the rows of the first day in merged and in replaced files."""
    for node in ("n1", "n2"):
        fill_store(store, node)
    compact(store, NEXT_DATE, now=0, grace=0)


@pytest.fixture(scope="module", params=["swift", "seaweed"])
def filled_bucket(request: pytest.FixtureRequest, store_url: Callable[[Server], str]) -> str:
    url = store_url(request.getfixturevalue(f"{request.param}_server"))
    fill_two_nodes(connect(url))
    return url


@pytest.fixture(scope="module")
def filled_folder(memory_folder: Path) -> Path:
    folder = memory_folder / "recipes"
    fill_two_nodes(connect(folder, create=True))
    return folder


@pytest.mark.parametrize("tool", ["duckdb", "polars"])
def test_recipe_reads_a_bucket(tool: str, filled_bucket: str) -> None:
    pytest.importorskip(tool)
    assert runpy.run_path(str(RECIPES / f"with_{tool}.py"))["strongest"](filled_bucket) == EXPECTED


@pytest.mark.parametrize("tool", ["duckdb", "polars", "pyspark"])
@pytest.mark.filterwarnings("ignore")  # of Spark
def test_recipe_reads_a_directory(tool: str, filled_folder: Path) -> None:
    pytest.importorskip(tool)
    assert runpy.run_path(str(RECIPES / f"with_{tool}.py"))["strongest"](str(filled_folder)) == EXPECTED
