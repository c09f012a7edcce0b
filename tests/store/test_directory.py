"""The directory store: objects are complete, unique and immutable, also after crashes."""

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefilter.core.errors import StoreError
from edgefilter.products.base import Product
from edgefilter.store.directory import DirectoryStore

NAME = "flags/node=a/date=2026-11-23/x.parquet"


def files(path: Path) -> list[str]:
    """Return all files below a store except its lock files."""
    found = (p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())
    return sorted(name for name in found if not name.endswith(".lock"))


def test_put_object_is_listed_and_read(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "new" / "store", create=True)
    store.put(Product(NAME, b"bytes"))
    store.put(Product("streams/s.json", b""))
    assert store.get(NAME) == b"bytes"
    assert list(store.names()) == [NAME, "streams/s.json"]
    assert list(store.names("flags/")) == list(store.names("flags/node=a/da")) == [NAME]
    assert list(store.names("pulses/")) == []
    assert store.location == str(tmp_path / "new" / "store")
    assert files(store.path) == [NAME, "streams/s.json"]


def test_file_mode_follows_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        DirectoryStore(tmp_path, create=True).put(Product(NAME, b"bytes"))
    finally:
        os.umask(before)
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o644


def test_repeated_put_does_not_touch_the_file(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path, create=True)
    store.put(Product(NAME, b"bytes"))
    before = (tmp_path / NAME).stat()
    store.put(Product(NAME, b"bytes"))
    DirectoryStore(tmp_path, create=True).put(Product(NAME, b"bytes"))
    after = (tmp_path / NAME).stat()
    assert files(tmp_path) == [NAME]
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


@pytest.mark.parametrize("other", [b"other", b"", b"bytes and more"])
def test_other_bytes_under_the_same_name_are_refused_and_the_first_stay(tmp_path: Path, other: bytes) -> None:
    store = DirectoryStore(tmp_path, create=True)
    store.put(Product(NAME, b"bytes"))
    with pytest.raises(StoreError, match="other content"):
        store.put(Product(NAME, other))
    assert store.get(NAME) == b"bytes"
    assert files(tmp_path) == [NAME]


@pytest.mark.parametrize(
    "name", ["", "/x", "../x", "a/../x", "a//b", "a/", ".tmp/x", "a/.x", "a b", "a\\b", "a\0b", "ä", "a" * 256]
)
def test_names_that_lead_out_of_the_store_are_refused(tmp_path: Path, name: str) -> None:
    store = DirectoryStore(tmp_path / "store", create=True)
    with pytest.raises(StoreError, match="not a name"):
        store.put(Product(name, b""))
    with pytest.raises(StoreError, match="not a name"):
        store.get(name)
    assert files(tmp_path) == []


@settings(deadline=None, max_examples=25)
@given(
    st.dictionaries(st.from_regex(r"\A[ab+=-]{1,3}/[ab.+-]{0,2}[ab]\Z"), st.binary(max_size=9), max_size=6), st.data()
)
def test_store_behaves_like_a_sorted_map(objects: dict[str, bytes], data: st.DataObject) -> None:
    objects = {name: content for name, content in objects.items() if "/." not in name}
    prefix = data.draw(st.sampled_from([name[:n] for name in objects for n in range(len(name) + 1)] or [""]))
    with tempfile.TemporaryDirectory() as folder:
        store = DirectoryStore(folder, create=True)
        for name, content in objects.items():
            store.put(Product(name, content))
        assert list(store.names(prefix)) == sorted(name for name in objects if name.startswith(prefix))
        assert {name: store.get(name) for name in store.names()} == objects


def test_missing_object_or_directory_is_a_one_line_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no such directory"):
        DirectoryStore(tmp_path / "absent")
    (tmp_path / "file").write_text("")
    for create in (False, True):
        with pytest.raises(StoreError, match="not a directory"):
            DirectoryStore(tmp_path / "file", create=create)
    with pytest.raises(StoreError, match="not a directory"):
        DirectoryStore(tmp_path / "file" / "below", create=True)
    store = DirectoryStore(tmp_path / "store", create=True)
    with pytest.raises(StoreError, match="holds no flags/"):
        store.get(NAME)
    (tmp_path / "store" / "flags").write_text("in the way")
    with pytest.raises(StoreError, match="flags is not a directory"):
        store.put(Product(NAME, b""))


def test_reader_changes_nothing(tmp_path: Path) -> None:
    DirectoryStore(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_missing_permission_is_a_one_line_error() -> None:
    program = (
        "import os, sys\nfrom edgefilter.store.directory import DirectoryStore\n"
        "if os.getuid() == 0: os.setuid(65534)\n"
        "DirectoryStore(sys.argv[1] + '/sub', create=True)"
    )
    with tempfile.TemporaryDirectory() as shut:
        Path(shut).chmod(0o555)
        done = subprocess.run([sys.executable, "-c", program, shut], capture_output=True, text=True, check=False)
        Path(shut).chmod(0o755)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(f"store {shut}/sub: cannot be used: Permission denied")


@pytest.mark.parametrize("step", ["write", "fsync", "rename"])
def test_failed_put_leaves_no_file_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    store = DirectoryStore(tmp_path, create=True)
    store.put(Product("flags/node=a/date=2026-11-23/first.parquet", b"first"))  # makes the folders

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        if step == "rename":
            patch.setattr(Path, "rename", fail)
        elif step == "fsync":
            patch.setattr(os, "fsync", fail)
        else:
            patch.setattr(Path, "open", fail)
        with pytest.raises(StoreError, match=f"cannot write {NAME}: no space left"):
            store.put(Product(NAME, b"bytes"))
    assert files(tmp_path) == ["flags/node=a/date=2026-11-23/first.parquet"]
    store.put(Product(NAME, b"bytes"))
    assert store.get(NAME) == b"bytes"


def test_put_on_a_full_disk_leaves_no_file(tmp_path: Path) -> None:
    spaces = shutil.which("unshare")
    if not spaces or subprocess.run([spaces, "-Urm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no user namespaces: cannot mount a small file system")
    program = (
        "import os, sys\n"
        "from edgefilter.core.errors import StoreError\nfrom edgefilter.products.base import Product\n"
        "from edgefilter.store.directory import DirectoryStore\n"
        "store = DirectoryStore(sys.argv[1], create=True)\n"
        "store.put(Product('a/small', b'1' * 100_000))\n"
        "try: store.put(Product('a/large', os.urandom(1_000_000)))\n"
        "except StoreError as error: print(error)\n"
        "print(*store.names(), sorted(f for f in os.listdir(sys.argv[1] + '/.tmp') if f.endswith('.part')))\n"
        "store.put(Product('a/second', b'2' * 100_000))\n"
        "print(*store.names())\n"
    )
    script = 'mount -t tmpfs -o size=512k none "$1" && exec "$2" -c "$3" "$1"'
    done = subprocess.run(
        [spaces, "-Urm", "sh", "-c", script, "sh", str(tmp_path), sys.executable, program],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        f"store {tmp_path}: cannot write a/large: no space left",
        "a/small []",
        "a/second a/small",
    ]


def test_file_above_the_size_limit_leaves_no_file(tmp_path: Path) -> None:
    program = (
        "import resource, sys\nfrom edgefilter.products.base import Product\n"
        "from edgefilter.store.directory import DirectoryStore\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, (4096, {resource.RLIM_INFINITY}))\n"
        "DirectoryStore(sys.argv[1], create=True).put(Product('a/large', bytes(100_000)))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].endswith("cannot write a/large: File too large")
    assert files(tmp_path) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from edgefilter.products.base import Product
from edgefilter.store.directory import DirectoryStore

store = DirectoryStore(sys.argv[1], create=True)
store.put(Product("a/first", b"first"))
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "sync":
    os.fsync = die
elif sys.argv[2] == "rename":
    Path.rename = die
else:
    rename = Path.rename
    Path.rename = lambda *to: (rename(*to), die())
store.put(Product("a/second", b"second"))
"""


@pytest.mark.parametrize("step", ["sync", "rename", "after"])
def test_part_file_of_a_killed_writer_is_not_listed_and_is_removed_by_the_next(tmp_path: Path, step: str) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), step], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    visible = ["a/first", "a/second"] if step == "after" else ["a/first"]
    assert list(DirectoryStore(tmp_path).names()) == visible
    assert len(files(tmp_path)) == 2

    store = DirectoryStore(tmp_path, create=True)
    assert files(tmp_path) == visible
    store.put(Product("a/second", b"second"))
    assert store.get("a/second") == b"second"


def test_opening_the_store_does_not_disturb_an_active_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = DirectoryStore(tmp_path, create=True)
    rename = Path.rename
    seen: list[int] = []

    def open_then_rename(source: Path, target: Path) -> Path:
        DirectoryStore(tmp_path, create=True)
        seen.append(len(files(tmp_path)))
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", open_then_rename)
    store.put(Product("a/x", b"x"))
    assert seen == [1]
    assert files(tmp_path) == ["a/x"]


WRITER = """
import sys
from edgefilter.core.errors import StoreError
from edgefilter.products.base import Product
from edgefilter.store.directory import DirectoryStore

writer = sys.argv[2]
sys.stdin.readline()
refused = 0
for n in range(40):
    store = DirectoryStore(sys.argv[1], create=True)
    store.put(Product(f"same/{n}", b"%d" % n * 1000))
    try:
        store.put(Product(f"race/{n}", writer.encode() * 1000))
    except StoreError:
        refused += 1
print(refused)
"""


@pytest.fixture
def writers(tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), writer],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for writer in "abc"
    ]
    yield started
    for process in started:
        process.kill()
        process.communicate()


def test_of_concurrent_writers_of_a_name_one_succeeds(tmp_path: Path, writers: list[subprocess.Popen[str]]) -> None:
    with ThreadPoolExecutor(3) as pool:
        outputs = list(pool.map(lambda process: process.communicate("go\n")[0], writers))
    refused = sum(map(int, outputs))
    assert [process.returncode for process in writers] == [0, 0, 0]
    assert refused == 80  # for each of 40 names one of three writers was first
    store = DirectoryStore(tmp_path, create=True)
    assert len(files(tmp_path)) == 80
    for n in range(40):
        assert store.get(f"same/{n}") == b"%d" % n * 1000
        assert store.get(f"race/{n}") in (b"a" * 1000, b"b" * 1000, b"c" * 1000)


def test_threads_of_one_store_write_concurrently(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path, create=True)
    barrier = threading.Barrier(4)

    def write(writer: int) -> None:
        barrier.wait()
        for n in range(20):
            store.put(Product(f"all/{n}", b"x" * 5000))
            store.put(Product(f"own/{writer}-{n}", b"y"))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert len(list(store.names())) == len(files(tmp_path)) == 100
