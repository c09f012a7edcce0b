"""Stores for tests: a dict, and wrappers of another store that are slow or fail."""

import random
import threading
import time
from collections.abc import Iterator, Sequence

import pyarrow.fs as pafs

from edgefilter.core.errors import ConflictError, StoreError, UnavailableError
from edgefilter.products.base import Product
from edgefilter.store.base import ObjectInfo, Store, check_name
from edgefilter.store.object_filesystem import ObjectFileSystem


class DictStore:
    """The simplest implementation of the interface."""

    location = "dict"

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.opened = time.time()
        self.lock = threading.Lock()

    def put(self, product: Product) -> None:
        check_name(product.name)
        with self.lock:
            if self.objects.setdefault(product.name, product.content) != product.content:
                raise ConflictError(f"{product.name} is there with other content, which stays as it is")

    def get(self, name: str) -> bytes:
        check_name(name)
        if name not in self.objects:
            raise StoreError(f"holds no {name}")
        return self.objects[name]

    def listing(self, prefix: str = "") -> Iterator[ObjectInfo]:
        for name in sorted(self.objects):
            if name.startswith(prefix):
                yield ObjectInfo(name, len(self.objects[name]), self.opened)

    def names(self, prefix: str = "") -> Iterator[str]:
        return (item.name for item in self.listing(prefix))

    def folders(self, prefix: str) -> list[str]:
        inside = (name.removeprefix(prefix).partition("/") for name in self.names(prefix))
        return sorted({f"{prefix}{folder}/" for folder, slash, _ in inside if slash})

    def delete(self, names: Sequence[str]) -> None:
        for name in names:
            self.objects.pop(name, None)

    def filesystem(self) -> pafs.FileSystem:
        return pafs.PyFileSystem(ObjectFileSystem(self))

    def url(self, name: str) -> str:
        return name


class StoreWrapper:
    """Passes all calls on to another store."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner

    @property
    def location(self) -> str:
        return self.inner.location

    def put(self, product: Product) -> None:
        self.inner.put(product)

    def get(self, name: str) -> bytes:
        return self.inner.get(name)

    def listing(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return self.inner.listing(prefix)

    def names(self, prefix: str = "") -> Iterator[str]:
        return self.inner.names(prefix)

    def folders(self, prefix: str) -> list[str]:
        return self.inner.folders(prefix)

    def delete(self, names: Sequence[str]) -> None:
        self.inner.delete(names)

    def filesystem(self) -> pafs.FileSystem:
        return self.inner.filesystem()

    def url(self, name: str) -> str:
        return self.inner.url(name)


class SlowStore(StoreWrapper):
    """Waits before each put and get."""

    def __init__(self, inner: Store, seconds: float) -> None:
        super().__init__(inner)
        self.seconds = seconds

    def put(self, product: Product) -> None:
        time.sleep(self.seconds)
        super().put(product)

    def get(self, name: str) -> bytes:
        time.sleep(self.seconds)
        return super().get(name)


class FailingStore(StoreWrapper):
    """Fails at random before or after it has stored an object."""

    def __init__(self, inner: Store, seed: int, failure_rate: float = 0.5) -> None:
        super().__init__(inner)
        self.rng = random.Random(seed)
        self.failure_rate = failure_rate
        self.failures = 0

    def put(self, product: Product) -> None:
        before, after = (self.rng.random() < self.failure_rate / 2 for _ in range(2))
        self.failures += before or after
        if before:
            raise UnavailableError("the request was lost")
        super().put(product)
        if after:
            raise UnavailableError("stored, but the answer was lost")
