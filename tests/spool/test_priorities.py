"""What may be dropped for a ledger row, and what may not."""

from dataclasses import replace

import pytest

from edgefilter.products.base import Priority, Product
from edgefilter.products.schemas import TABLES
from edgefilter.spool.priorities import least_important, make_entry
from tests.helpers.spool_blocks import DATE, STREAM

PATH = f"node=n1/date={DATE}/{STREAM}-000000000001-0123456789abcdef.parquet"


def named(folder: str) -> Product:
    return Product(f"{folder}/{PATH}", b"")


def test_what_was_measured_beside_the_science_goes_first_and_the_account_never() -> None:
    products = [named(name) for name in ("ledger", "pulses", "spectra", "flag_cost", "flags")]
    assert least_important(products) == named("flag_cost")
    assert least_important(products[:3]) == named("spectra")
    assert least_important(products[:2]) is None


def test_a_table_that_this_version_does_not_know_may_be_dropped() -> None:
    assert least_important([named("ledger"), named("of_a_plugin")]) == named("of_a_plugin")


@pytest.mark.parametrize("name", ["streams/sky-01234567.json", "configs/0123456789abcdef.json"])
def test_what_describes_the_products_is_never_dropped(name: str) -> None:
    assert least_important([Product(name, b"")]) is None


@pytest.mark.parametrize("name", TABLES)
def test_the_manifest_has_the_priority_of_the_table(name: str) -> None:
    entry = make_entry(named(name), "file", None)
    assert entry.priority == TABLES[name].priority
    assert not entry.sealed


def test_cutouts_matter_as_much_as_their_pulses() -> None:
    entry = make_entry(Product(f"cutouts/date={DATE}/{STREAM}-000000000001-0123456789abcdef.h5", b""), "file", None)
    assert entry.priority == Priority.CANDIDATES == TABLES["pulses"].priority
    assert entry.sealed


def test_a_table_that_must_not_be_dropped_says_so() -> None:
    kept = replace(named("of_a_plugin"), priority=Priority.CANDIDATES)
    assert least_important([named("ledger"), kept]) is None
    assert make_entry(kept, "file", None).priority is Priority.CANDIDATES


def test_pieces_of_any_table_may_be_merged() -> None:
    assert not make_entry(named("of_a_plugin"), "file", None).sealed
    assert make_entry(Product("configs/0123456789abcdef.json", b""), "file", None).sealed
