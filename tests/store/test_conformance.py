"""The requirements of the interface, on every kind of store."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgefilter.core.errors import ConflictError, StoreError
from edgefilter.products.base import Product
from edgefilter.store.base import Store

NAME = "flags/node=a+b_c.d/date=2026-11-23/s-00000001-000000000001_000000000009-0123456789abcdef.parquet"


def test_put_object_is_listed_and_read(any_store: Store) -> None:
    assert list(any_store.names()) == []
    any_store.put(Product(NAME, b"bytes"))
    any_store.put(Product("streams/s.json", b""))
    assert any_store.get(NAME) == b"bytes"
    assert any_store.get("streams/s.json") == b""
    assert list(any_store.names()) == [NAME, "streams/s.json"]
    assert [(item.name, item.size) for item in any_store.listing()] == [(NAME, 5), ("streams/s.json", 0)]


@pytest.mark.parametrize("prefix", ["f", "flags", "flags/", "flags/node=a+b", NAME, "pulses/", "flagss"])
def test_prefix_need_not_end_at_a_folder(any_store: Store, prefix: str) -> None:
    for name in (NAME, "flags/x", "streams/s.json"):
        any_store.put(Product(name, b"1"))
    assert list(any_store.names(prefix)) == [n for n in (NAME, "flags/x", "streams/s.json") if n.startswith(prefix)]


def test_repeated_put_changes_nothing_and_other_bytes_are_refused(any_store: Store) -> None:
    for _ in range(2):
        any_store.put(Product(NAME, b"bytes"))
    for other in (b"other", b"", b"bytes and more"):
        with pytest.raises(ConflictError, match="other content"):
            any_store.put(Product(NAME, other))
    assert any_store.get(NAME) == b"bytes"
    assert list(any_store.names()) == [NAME]


def test_large_object_is_read_back(any_store: Store) -> None:
    content = bytes(range(256)) * 40_000  # 10 MB, which clients divide into parts by default
    any_store.put(Product("cutouts/large.h5", content))
    any_store.put(Product("cutouts/large.h5", content))
    assert any_store.get("cutouts/large.h5") == content
    with any_store.filesystem().open_input_file("cutouts/large.h5") as file:
        assert file.read_at(300, 5_000_000) == content[5_000_000:5_000_300]


def test_missing_object_is_a_one_line_error(any_store: Store) -> None:
    with pytest.raises(StoreError, match="holds no flags/") as caught:
        any_store.get(NAME)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "/x", "../x", "a//b", "a/", ".tmp/x", "a b", "a\0b", "ä", "a" * 256])
def test_names_that_lead_out_of_the_store_are_refused(any_store: Store, name: str) -> None:
    for use in (lambda: any_store.put(Product(name, b"")), lambda: any_store.get(name)):
        with pytest.raises(StoreError, match="not a name"):
            use()
    assert list(any_store.names()) == []


def test_deleted_object_is_gone_and_delete_may_be_repeated(any_store: Store) -> None:
    for name in (NAME, "flags/x"):
        any_store.put(Product(name, b"1"))
    any_store.delete([NAME, "flags/never"])
    any_store.delete([NAME])
    assert list(any_store.names()) == ["flags/x"]
    any_store.put(Product(NAME, b"other bytes now"))
    assert any_store.get(NAME) == b"other bytes now"


def test_concurrent_writers_of_the_same_and_of_different_names(any_store: Store) -> None:
    barrier = threading.Barrier(4)

    def write(writer: int) -> None:
        barrier.wait()
        for n in range(8):
            any_store.put(Product(f"all/{n}", bytes([n]) * 3000))
            any_store.put(Product(f"own/{writer}-{n}", bytes([writer])))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert len(list(any_store.names())) == 8 + 4 * 8
    assert all(any_store.get(f"all/{n}") == bytes([n]) * 3000 for n in range(8))


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["put", "get", "delete"]),
            st.sampled_from(["a/x", "a/y+", "b/x=1/z"]),
            st.binary(max_size=3),
        ),
        max_size=12,
    )
)
def test_store_behaves_like_a_sorted_map_of_constants(any_store: Store, steps: list[tuple[str, str, bytes]]) -> None:
    any_store.delete(list(any_store.names()))
    model: dict[str, bytes] = {}
    for verb, name, content in steps:
        if verb == "delete":
            any_store.delete([name])
            model.pop(name, None)
        elif verb == "put" and model.setdefault(name, content) == content:
            any_store.put(Product(name, content))
        elif verb == "put":
            with pytest.raises(ConflictError):
                any_store.put(Product(name, content))
        elif name in model:
            assert any_store.get(name) == model[name]
        else:
            with pytest.raises(StoreError):
                any_store.get(name)
    assert {name: any_store.get(name) for name in any_store.names()} == dict(sorted(model.items()))


def test_folders_directly_below_a_prefix(any_store: Store) -> None:
    for name in (NAME, "flags/node=b/date=2026-11-24/x", "flags/node=b/date=2026-11-25/x", "flags/x"):
        any_store.put(Product(name, b"1"))
    assert any_store.folders("flags/") == ["flags/node=a+b_c.d/", "flags/node=b/"]
    assert any_store.folders("flags/node=b/") == ["flags/node=b/date=2026-11-24/", "flags/node=b/date=2026-11-25/"]
    assert any_store.folders("pulses/") == []
