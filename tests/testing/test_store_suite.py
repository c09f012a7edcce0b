"""The conformance suite of stores: a directory passes it, and stores that break a rule fail.

``tests/store/test_conformance.py`` runs it on every kind of store, with real servers.
"""

import unittest
from pathlib import Path

import pytest

from edgefilter.core.errors import StoreError
from edgefilter.products.base import Product
from edgefilter.store.base import Store
from edgefilter.testing.store import StoreSuite
from tests.helpers.packages import Installer
from tests.helpers.store_models import DictStore


class TestDirectory(StoreSuite):
    def make_url(self, folder: Path) -> str:
        return f"file://{folder}/store"


class ModelSuite(StoreSuite):
    kind: type[Store] = DictStore

    def make_store(self, folder: Path) -> Store:
        return self.kind()


class TestModel(ModelSuite):
    pass


class Overwrites(DictStore):
    def put(self, product: Product) -> None:
        self.objects[product.name] = product.content


class RefusesARepetition(DictStore):
    def put(self, product: Product) -> None:
        if product.name in self.objects:
            raise StoreError("is there")
        super().put(product)


class TruncatesLargeObjects(DictStore):
    def get(self, name: str) -> bytes:
        return super().get(name)[: 8 << 20]


class ForgetsToList(DictStore):
    def names(self, prefix: str = ""):
        return (name for name in super().names(prefix) if name != "streams/s.json")


class ListsWholeFoldersOnly(DictStore):
    def names(self, prefix: str = ""):
        return super().names(prefix.rpartition("/")[0])


class IgnoresCase(DictStore):
    def names(self, prefix: str = ""):
        return iter(sorted(super().names(prefix), key=str.lower))


class TakesAnyName(DictStore):
    def put(self, product: Product) -> None:
        self.objects[product.name] = product.content


class CrashesWithoutObject(DictStore):
    def get(self, name: str) -> bytes:
        return self.objects[name]


class CannotDeleteTwice(DictStore):
    def delete(self, names) -> None:
        for name in names:
            if name not in self.objects:
                raise StoreError(f"holds no {name}")
            del self.objects[name]


class ListsAllFolders(DictStore):
    def folders(self, prefix: str) -> list[str]:
        return sorted({f"{name.rpartition('/')[0]}/" for name in self.names(prefix)} - {prefix})


@pytest.mark.parametrize(
    ("kind", "test", "says"),
    [
        (Overwrites, "a_repetition_changes_nothing_and_other_bytes_are_refused", "put of b'other' as well succeeds"),
        (Overwrites, "any_steps_give_what_a_sorted_map_gives", "succeeds, must raise ConflictError"),
        (RefusesARepetition, "threads_write_the_same_and_different_names", "is there"),
        (TruncatesLargeObjects, "a_large_object_is_read_back_and_read_in_part", "holds 8388608 B"),
        (ForgetsToList, "an_object_is_listed_and_read_back", "returns ['flags/"),
        (ListsWholeFoldersOnly, "a_prefix_need_not_end_at_a_folder", "names('f') returns"),
        (IgnoresCase, "names_of_all_allowed_letters_are_kept_and_sorted", "returns ['0', 'a+b'"),
        (TakesAnyName, "names_that_lead_out_of_the_store_are_refused", "put of the name '' succeeds"),
        (CrashesWithoutObject, "a_missing_object_is_an_error", "raises KeyError, must raise StoreError"),
        (CannotDeleteTwice, "a_deleted_object_is_gone_and_delete_may_be_repeated", "holds no flags/never"),
        (ListsAllFolders, "folders_are_those_directly_below", "folders('') returns"),
    ],
)
def test_a_store_that_breaks_a_rule_fails(tmp_path: Path, kind: type[Store], test: str, says: str) -> None:
    suite = ModelSuite()
    suite.kind = kind
    with pytest.raises((AssertionError, StoreError)) as caught:
        getattr(suite, f"test_{test}")(tmp_path)
    assert says in str(caught.value)


SHELVES = """
import os, time
from urllib.parse import urlsplit
from edgefilter.core.errors import StoreError
from edgefilter.store.directory import DirectoryStore

class Shelf(DirectoryStore):
    def __init__(self, url, create, timeout):
        super().__init__(urlsplit(url).path, create)

class WritesInPlace(Shelf):
    def _write(self, target, product):
        with target.open("wb") as file:
            for start in range(0, len(product.content), 1000):
                file.write(product.content[start : start + 1000])
                file.flush()
                time.sleep(1e-3)

class Private(Shelf):
    def __init__(self, url, create, timeout):
        super().__init__(f"{url}-{os.urandom(4).hex()}", create, timeout)
"""


@pytest.mark.parametrize(
    ("kind", "test", "says"),
    [
        ("WritesInPlace", "a_writer_that_is_killed_leaves_no_part_of_an_object", "expected 300000 B"),
        ("Private", "a_second_connection_sees_the_same", "no such directory"),
    ],
)
def test_connections_that_break_a_rule_fail(
    installer: Installer, tmp_path: Path, kind: str, test: str, says: str
) -> None:
    installer.install("ef-shelf", "edgefilter.stores", {"shelf": kind}, SHELVES)

    class ShelfSuite(StoreSuite):
        def make_url(self, folder: Path) -> str:
            return f"shelf://{folder}/store"

    with pytest.raises((AssertionError, StoreError)) as caught:
        getattr(ShelfSuite(), f"test_{test}")(tmp_path)
    assert says in str(caught.value)


def test_a_store_without_a_url_is_connected_to_once(tmp_path: Path) -> None:

    with pytest.raises(unittest.SkipTest, match="the store has no URL"):
        ModelSuite().test_a_second_connection_sees_the_same(tmp_path)
