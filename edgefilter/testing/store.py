"""Conformance suite for a store: objects are complete, never change, and are listed.

::

    from edgefilter.store.connect import connect
    from edgefilter.testing.store import StoreSuite

    class TestShelf(StoreSuite):
        def make_url(self, folder):
            return f"shelf://{folder}/store"    # of a store that is empty

Two more rules cannot be tested here: when ``put`` returns, the object survives a loss of power; and the store does not
replace an object, whoever writes it.
"""

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from unittest import SkipTest

from edgefilter.core.errors import ConflictError, StoreError
from edgefilter.products.base import Product
from edgefilter.store.base import Store
from edgefilter.store.connect import connect

NAME = "flags/node=a+b_c.d/date=2026-11-23/s-00000001-000000000001_000000000009-0123456789abcdef.parquet"
"""A name as products have it."""

_WRONG_NAMES = ("", "/x", "../x", "a/../x", "a//b", "a/", ".tmp/x", "a/.x", "a b", "a\\b", "a\0b", "ä", "a" * 256)
_ODD_NAMES = ("a" * 255, "a-b", "a.b", "a=b/c", "a/c", "a+b", "A/c", "0", "a_b/c=d/e+f-g.h")
_KILLED_BYTES = 300_000
_WAIT_SECONDS = 60.0
_WRITER = """
import sys
from edgefilter.products.base import Product
from edgefilter.store.connect import connect

store = connect(sys.argv[1], create=True)
for n in range(10_000):
    store.put(Product(f"{sys.argv[2]}/{n}", bytes([n % 256]) * int(sys.argv[3])))
"""


class StoreSuite:
    """Tests of one kind of store; make a subclass with a name that begins with ``Test``.

    A subclass has :meth:`make_url`; if its stores have no URL, :meth:`make_store`, and the tests that connect to a
    store twice are skipped.
    """

    def make_url(self, folder: Path) -> str:  # noqa: ARG002 - for subclasses
        """Return the URL of an empty store.

        Parameters
        ----------
        folder
            An empty folder.

        Returns
        -------
        str
            The URL.

        Raises
        ------
        SkipTest
            If stores of this kind have no URL.
        """
        raise SkipTest("the store has no URL")

    def make_store(self, folder: Path) -> Store:
        """Return an empty store.

        Parameters
        ----------
        folder
            An empty folder.

        Returns
        -------
        Store
            The store.
        """
        return connect(self.make_url(folder), create=True)

    def test_an_object_is_listed_and_read_back(self, tmp_path: Path) -> None:
        """What was put is there at once, with its size."""
        store = self.make_store(tmp_path)
        _check_names(store, [])
        store.put(Product(NAME, b"bytes"))
        store.put(Product("streams/s.json", b""))
        _check_content(store, NAME, b"bytes")
        _check_content(store, "streams/s.json", b"")
        _check_names(store, [NAME, "streams/s.json"])
        listed = [(item.name, item.size) for item in store.listing()]
        assert listed == [(NAME, 5), ("streams/s.json", 0)], f"listing() returns {listed}"
        assert abs(next(store.listing()).modified - time.time()) < 86400, "modified must be s since 1970"

    def test_a_prefix_need_not_end_at_a_folder(self, tmp_path: Path) -> None:
        """Names are listed by any beginning."""
        store = self.make_store(tmp_path)
        for name in (NAME, "flags/x", "streams/s.json"):
            store.put(Product(name, b"1"))
        for prefix in ("f", "flags", "flags/", "flags/node=a+b", NAME, "pulses/", "flagss"):
            _check_names(store, [n for n in (NAME, "flags/x", "streams/s.json") if n.startswith(prefix)], prefix)
            listed = [item.name for item in store.listing(prefix)]
            assert listed == list(store.names(prefix)), f"listing({prefix!r}) has {listed}, other than names()"

    def test_a_repetition_changes_nothing_and_other_bytes_are_refused(self, tmp_path: Path) -> None:
        """A product that is made twice is stored once; an object never changes."""
        store = self.make_store(tmp_path)
        for _ in range(2):
            store.put(Product(NAME, b"bytes"))
        for other in (b"other", b"", b"bytes and more"):
            _must_raise(ConflictError, f"put of {other!r} as well", store.put, Product(NAME, other))
            _check_content(store, NAME, b"bytes")
        _check_names(store, [NAME])

    def test_a_large_object_is_read_back_and_read_in_part(self, tmp_path: Path) -> None:
        """10 MB, which clients divide into parts; analysis reads parts of tables through the file system."""
        store = self.make_store(tmp_path)
        content = bytes(range(256)) * 40_000
        for _ in range(2):
            store.put(Product("cutouts/large.h5", content))
        _check_content(store, "cutouts/large.h5", content)
        with store.filesystem().open_input_file("cutouts/large.h5") as file:
            part = file.read_at(300, 5_000_000)
        assert part == content[5_000_000:5_000_300], "filesystem() reads other bytes than were put"

    def test_a_missing_object_is_an_error(self, tmp_path: Path) -> None:
        """The message names the object."""
        store = self.make_store(tmp_path)
        error = _must_raise(StoreError, "get of a missing object", store.get, NAME)
        assert NAME in error, f"the error must name {NAME}: {error}"

    def test_names_that_lead_out_of_the_store_are_refused(self, tmp_path: Path) -> None:
        """Use :func:`edgefilter.store.base.check_name`."""
        store = self.make_store(tmp_path)
        for name in _WRONG_NAMES:
            _must_raise(StoreError, f"put of the name {name!r}", store.put, Product(name, b""))
            _must_raise(StoreError, f"get of the name {name!r}", store.get, name)
        _check_names(store, [])

    def test_names_of_all_allowed_letters_are_kept_and_sorted(self, tmp_path: Path) -> None:
        """Upper and lower case differ; the order is that of the whole names, by code point."""
        store = self.make_store(tmp_path)
        for name in _ODD_NAMES:
            store.put(Product(name, name.encode()))
        _check_names(store, sorted(_ODD_NAMES))
        for name in _ODD_NAMES:
            _check_content(store, name, name.encode())

    def test_a_deleted_object_is_gone_and_delete_may_be_repeated(self, tmp_path: Path) -> None:
        """A compaction deletes what it has replaced."""
        store = self.make_store(tmp_path)
        for name in (NAME, "flags/x"):
            store.put(Product(name, b"1"))
        store.delete([NAME, "flags/never"])
        store.delete([NAME])
        _check_names(store, ["flags/x"])
        store.put(Product(NAME, b"other bytes now"))
        _check_content(store, NAME, b"other bytes now")

    def test_folders_are_those_directly_below(self, tmp_path: Path) -> None:
        """Folders of nodes and dates are chosen by their names."""
        store = self.make_store(tmp_path)
        for name in (NAME, "flags/node=b/date=2026-11-24/x", "flags/node=b/date=2026-11-25/x", "flags/x"):
            store.put(Product(name, b"1"))
        for prefix, expected in (
            ("", ["flags/"]),
            ("flags/", ["flags/node=a+b_c.d/", "flags/node=b/"]),
            ("flags/node=b/", ["flags/node=b/date=2026-11-24/", "flags/node=b/date=2026-11-25/"]),
            ("pulses/", []),
        ):
            found = store.folders(prefix)
            assert found == expected, f"folders({prefix!r}) returns {found}, expected {expected}"

    def test_threads_write_the_same_and_different_names(self, tmp_path: Path) -> None:
        """Uploads run in parallel, and two nodes may send the same product."""
        store = self.make_store(tmp_path)
        barrier = threading.Barrier(4)

        def write(writer: int) -> None:
            barrier.wait()
            for n in range(8):
                store.put(Product(f"all/{n}", bytes([n]) * 3000))
                store.put(Product(f"own/{writer}-{n}", bytes([writer])))

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(write, range(4)))
        _check_names(
            store, sorted([*(f"all/{n}" for n in range(8)), *(f"own/{w}-{n}" for w in range(4) for n in range(8))])
        )
        for n in range(8):
            _check_content(store, f"all/{n}", bytes([n]) * 3000)

    def test_threads_that_write_other_bytes_leave_one_whole_object(self, tmp_path: Path) -> None:
        """Bytes of two writers never mix."""
        store = self.make_store(tmp_path)
        contents = [bytes([writer]) * 100_000 for writer in range(4)]
        barrier = threading.Barrier(4)

        def write(content: bytes) -> None:
            barrier.wait()
            with suppress(StoreError):
                store.put(Product("race/x", content))

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(write, contents))
        assert store.get("race/x") in contents, "the object is not one of the four that were written"

    def test_any_steps_give_what_a_sorted_map_gives(self, tmp_path: Path) -> None:
        """Random puts, gets and deletes, compared with a dictionary."""
        store = self.make_store(tmp_path)
        rng = random.Random(5)  # noqa: S311 - not for security
        model: dict[str, bytes] = {}
        for step in range(120):
            name, content = rng.choice(["a/x", "a/y+", "b/x=1/z"]), rng.choice([b"", b"1", b"22"])
            verb = rng.choice(["put", "get", "delete"])
            what = f"step {step}, {verb} of {name}"
            if verb == "delete":
                store.delete([name])
                model.pop(name, None)
            elif verb == "put" and model.setdefault(name, content) == content:
                store.put(Product(name, content))
            elif verb == "put":
                _must_raise(ConflictError, what, store.put, Product(name, content))
            elif name in model:
                _check_content(store, name, model[name])
            else:
                _must_raise(StoreError, what, store.get, name)
            _check_names(store, sorted(model))

    def test_a_second_connection_sees_the_same(self, tmp_path: Path) -> None:
        """A reader at the centre, and a forwarder that was started again."""
        url = self.make_url(tmp_path)
        first = connect(url, create=True)
        first.put(Product(NAME, b"bytes"))
        for second in (connect(url), connect(url, create=True)):
            _check_names(second, [NAME])
            _check_content(second, NAME, b"bytes")
        _must_raise(ConflictError, "put of other bytes", second.put, Product(NAME, b"other"))
        second.put(Product("flags/x", b"1"))
        _check_names(first, [NAME, "flags/x"])

    def test_a_writer_that_is_killed_leaves_no_part_of_an_object(self, tmp_path: Path) -> None:
        """Readers see an object completely or not at all, and it can be put again."""
        url = self.make_url(tmp_path)
        store = connect(url, create=True)
        for delay in (0.0, 0.02):
            folder = f"killed-{round(delay * 1000)}"
            _kill_writer(url, store, folder, delay)
            written = [item.name for item in store.listing(f"{folder}/")]
            for name in [*written, f"{folder}/{len(written)}"]:
                content = bytes([int(name.rpartition("/")[2]) % 256]) * _KILLED_BYTES
                if name in written:
                    _check_content(store, name, content)
                connect(url, create=True).put(Product(name, content))
                _check_content(store, name, content)


def _kill_writer(url: str, store: Store, folder: str, delay: float) -> None:
    """Start a process that puts objects, and kill it ``delay`` s after the first one is there."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", _WRITER, url, folder, str(_KILLED_BYTES)]
    with subprocess.Popen(command, env=environment) as writer:  # noqa: S603 - this Python
        try:
            end = time.monotonic() + _WAIT_SECONDS
            while not list(store.names(f"{folder}/")):
                assert writer.poll() is None, f"a process that puts objects into {url} has ended with an error"
                assert time.monotonic() < end, f"a process has put no object into {url} within {_WAIT_SECONDS:g} s"
                time.sleep(0.005)
            time.sleep(delay)
        finally:
            writer.kill()


def _check_names(store: Store, expected: list[str], prefix: str = "") -> None:
    found = list(store.names(prefix))
    assert found == expected, f"names({prefix!r}) returns {found}, expected {expected}"


def _check_content(store: Store, name: str, expected: bytes) -> None:
    found = store.get(name)
    assert found == expected, (
        f"{name} holds {len(found)} B {found[:20]!r}, expected {len(expected)} B {expected[:20]!r}"
    )


def _must_raise(kind: type[StoreError], what: str, call: Callable[..., object], *arguments: object) -> str:
    """Check that a call raises an error of one line, and return the line."""
    try:
        call(*arguments)
    except kind as error:
        line = str(error)
    except Exception as error:
        raise AssertionError(f"{what} raises {type(error).__name__}, must raise {kind.__name__}: {error}") from error
    else:
        raise AssertionError(f"{what} succeeds, must raise {kind.__name__}")
    assert len(line.splitlines()) == 1, f"{what}: the error must be one line: {line}"
    return line
