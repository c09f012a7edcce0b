"""Names follow from what the objects are, and say it back."""

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefilter.core.errors import StoreError
from edgefilter.products.base import Provenance
from edgefilter.products.naming import ProductName, ProductNamer, digest, parse, range_product
from edgefilter.products.schemas import SCHEMAS
from edgefilter.store.base import check_name

nodes = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9+._-]{0,63}\Z")
streams = st.from_regex(r"\A[A-Za-z0-9+_-][A-Za-z0-9+._-]{0,63}-[0-9a-f]{8}\Z")
dates = st.dates().map(str)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from([*SCHEMAS, ""]), nodes, streams, st.integers(0, 10**13), dates, st.binary())
def test_parse_is_the_inverse_of_naming(
    table: str, node: str, stream: str, block: int, date: str, content: bytes
) -> None:
    namer = ProductNamer(node, Provenance(stream, "0" * 16, "1"))
    product = namer.table(table, block, date, content) if table else namer.cutout(block, date, content)
    check_name(product.name)
    assert product.content == content
    expected = ProductName(table or "cutouts", node if table else "", date, stream, block, digest(content), block)
    assert parse(product.name) == expected
    if table:
        several = range_product(expected, block, block + 7, content)
        check_name(several.name)
        assert parse(several.name) == replace(expected, last=block + 7, merged=True)
        one_block = range_product(expected, block, block, content)  # of several reductions
        assert parse(one_block.name) == replace(expected, merged=True)


def test_names_look_as_documented_and_sort_by_block() -> None:
    namer = ProductNamer("site-1", Provenance("sky-01234567", "0" * 16, "1"))
    head = hashlib.sha256(b"x").hexdigest()[:16]
    product = namer.table("pulses", 7, "2026-11-23", b"x")
    assert product.name == f"pulses/node=site-1/date=2026-11-23/sky-01234567-000000000007-{head}.parquet"
    assert namer.cutout(7, "2026-11-23", b"x").name == f"cutouts/date=2026-11-23/sky-01234567-000000000007-{head}.h5"
    assert namer.table("pulses", 9, "2026-11-23", b"x").name < namer.table("pulses", 10, "2026-11-23", b"x").name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "README",
        "pulses/x.parquet",
        "cutouts/../x.h5",
        "streams/a/b.json",
        "configs/xyz.json",
        "flags/node=/date=x/y",
    ],
)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(StoreError, match="not the name of a product"):
        parse(name)


@pytest.mark.parametrize("node", ["", ".", "..", "a/b", "a b", "a=b", ".hidden"])
def test_a_node_that_cannot_be_part_of_a_path_is_refused(node: str) -> None:
    with pytest.raises(StoreError, match="node"):
        ProductNamer(node, Provenance("sky-01234567", "0" * 16, "1"))
