"""The conformance suite, on every kind of store."""

from pathlib import Path

import pytest

from edgefilter.store.base import Store
from edgefilter.testing.store import StoreSuite


class TestEveryStore(StoreSuite):
    @pytest.fixture(autouse=True)
    def _take_store(self, any_store: Store, tmp_path: Path) -> None:
        self.store = any_store

    def make_store(self, folder: Path) -> Store:
        return self.store

    def make_url(self, folder: Path) -> str:
        if "://" in self.store.location or Path(self.store.location).is_absolute():
            return self.store.location
        return super().make_url(folder)
