"""Stores of other packages, by the scheme of their URLs."""

from pathlib import Path

import pytest

from edgefilter.analysis.archive import Archive
from edgefilter.core.errors import StoreError
from edgefilter.products.base import Product
from edgefilter.store.connect import connect
from edgefilter.store.directory import DirectoryStore
from tests.helpers.packages import Installer

GROUP = "edgefilter.stores"

# A store below a folder that the URL names; the others are broken.
MODULE = """
from urllib.parse import urlsplit
from edgefilter.core.errors import StoreError
from edgefilter.store.directory import DirectoryStore

CALLS = []

class Shelf(DirectoryStore):
    def __init__(self, url, create, timeout):
        CALLS.append((url, create, timeout))
        super().__init__(urlsplit(url).path, create)

class NoFilesystem(Shelf):
    def filesystem(self):
        raise StoreError(f"store {self.location}: parts of objects cannot be read")

def crash(url, create, timeout):
    raise KeyError(url)

def nothing(url, create, timeout):
    return None

TEXT = "text"
"""


@pytest.fixture
def shelf(installer: Installer) -> None:
    installer.install("ef-shelf", GROUP, {"shelf": "Shelf", "plain": "NoFilesystem"}, MODULE)


def test_a_foreign_scheme_names_a_store(shelf: None, tmp_path: Path) -> None:
    url = f"shelf://room:80{tmp_path}/store"
    connect(url, create=True, timeout=7.0).put(Product("a/x", b"1"))
    assert connect(url.replace("shelf", "SHELF")).get("a/x") == b"1"
    import ef_shelf

    assert ef_shelf.CALLS[0] == (url, True, 7.0)


def test_a_file_url_and_a_path_are_a_directory(tmp_path: Path) -> None:
    assert isinstance(connect(f"file://{tmp_path}/a%20b", create=True), DirectoryStore)
    assert connect(tmp_path / "a b").location == str(tmp_path / "a b")
    with pytest.raises(StoreError, match=r"^store file://…: must be file:///PATH"):
        connect("file://elsewhere/x")


def test_an_unknown_scheme_is_refused_with_the_installed_ones(shelf: None) -> None:
    message = "^store gs://…: no store 'gs' is installed; installed: file, s3, plain, shelf$"
    with pytest.raises(StoreError, match=message):
        connect("gs://bucket/secret")


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("MISSING", "'bad' of ef-bad 1.5 cannot be loaded from ef_bad:MISSING: AttributeError: "),
        ("TEXT", "'bad' of ef-bad 1.5: ef_bad:TEXT is of type str, must be Callable"),
        ("crash", "'bad' of ef-bad 1.5 failed: KeyError: 'bad://…'"),
        ("nothing", "'bad' of ef-bad 1.5 connects to a NoneType, must be a Store"),
    ],
)
def test_a_broken_store_is_one_line_without_its_url(installer: Installer, target: str, says: str) -> None:
    installer.install("ef-bad", GROUP, {"bad": target}, MODULE)
    with pytest.raises(StoreError) as caught:
        connect("bad://host/x?token=secret")
    assert str(caught.value).startswith("store bad://…: store ")
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("where", ["user:secret@host/x", "user:sec/ret@host/x", "user:1secret@host", ":secret@host/x"])
@pytest.mark.parametrize("scheme", ["shelf", "s3", "file", "gs"])
def test_a_url_with_a_password_is_refused_and_not_shown(shelf: None, scheme: str, where: str) -> None:
    with pytest.raises(StoreError, match=f"^store {scheme}://…: a URL must not contain keys"):
        connect(f"{scheme}://{where}")


def test_commands_work_on_a_foreign_store(shelf: None, run: Archive, run_cli, tmp_path: Path) -> None:
    url = f"shelf://room{run.location}"
    pulses = len(run.pulses)
    assert run_cli("store", "query", url, "select count(*) as n from pulses")[1].split() == ["n", str(pulses)]
    assert run_cli("store", "verify", url)[0] == 0
    assert run_cli("export", "heimdall", url, "--out", tmp_path / "x.csv")[0] == 0
    assert run_cli("report", url, "--out", tmp_path / "x.html")[0] == 0


def test_a_store_without_a_file_system_cannot_be_queried(shelf: None, run: Archive, run_cli) -> None:
    status, _, err = run_cli("store", "query", f"plain://room{run.location}", "select count(*) from pulses")
    assert status == 1
    assert "parts of objects cannot be read" in err
    assert len(err.splitlines()) == 1
