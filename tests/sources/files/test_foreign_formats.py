"""File formats of other packages: found by the content of a file, and never in the way of edgefilter's own."""

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from edgefilter.core.errors import EdgefilterError, FormatError, PluginError
from edgefilter.sources.files.recognise import open_files
from tests.helpers import recorded_files
from tests.helpers.packages import Installer

GROUP = "edgefilter.sources"

# A format of 8 bytes, NOTE and the epoch in s, and samples of 4 channels of one byte. The others are broken or greedy.
MODULE = """
from fractions import Fraction
import numpy as np
from edgefilter.core.stream import Encoding, SampleKind, Stream
from edgefilter.sources.base import FileFormat, FiniteSource

class NoteSource(FiniteSource):
    def __init__(self, content):
        epoch = int(content[4:8]) * 10**9
        self.numbers = np.frombuffer(content[8:], np.uint8).reshape(-1, 4)
        stream = Stream("n", SampleKind.POWER, epoch, Fraction(10), 4, 1.4e9, -1e6, ("I",), 8, Encoding.UNSIGNED)
        super().__init__(stream, len(self.numbers), ("a warning",))

    def _read_samples(self, start, stop, out):
        out[:] = self.numbers[start:stop]
        return ()

    def close(self):
        pass

def is_note(file, head):
    return head.startswith(b"NOTE")

class Fragile(NoteSource):
    def _read_samples(self, start, stop, out):
        raise ZeroDivisionError("a bug")

def read(path):
    return NoteSource(path.read_bytes())

NOTE = FileFormat("Note", (".note",), is_note, read)
EAGER = FileFormat("Eager", (".eager",), lambda file, head: True, read)
WEAK = FileFormat("Weak", (".weak",), lambda file, head: True, read, weak=True)
HDF5 = FileFormat("Other HDF5", (".h5",), lambda file, head: head.startswith(b"\\x89HDF"), lambda path: 1 / 0)
FITS = FileFormat("Other FITS", (".fits",), lambda file, head: head.startswith(b"SIMPLE"), lambda path: 1 / 0)
RAISES = FileFormat("Raises", (), lambda file, head: head[10**6], read)
CRASHES = FileFormat("Crashes", (), is_note, lambda path: {}["key"])
FRAGILE = FileFormat("Fragile", (), is_note, lambda path: Fragile(path.read_bytes()))
NO_SOURCE = FileFormat("No source", (), is_note, lambda path: None)
TEXT = "text"
"""


@pytest.fixture
def note(tmp_path: Path) -> Path:
    path = tmp_path / "a.note"
    path.write_bytes(b"NOTE0000" + bytes(range(200, 240)))
    return path


@pytest.fixture
def sigproc(tmp_path: Path) -> Path:
    return recorded_files.sigproc(tmp_path / "a.fil", np.zeros((5, 1, 8), np.uint8), 8)


def test_a_foreign_format_is_read_and_its_package_is_named(installer: Installer, note: Path) -> None:
    installer.install("ef-note", GROUP, {"note": "NOTE"}, MODULE)
    with open_files([note]) as source:
        np.testing.assert_array_equal(source.read(0, 10).data.ravel(), np.arange(200, 240))
        assert source.packages == ("ef-note 1.5",)
        assert source.warnings == ("a warning",)


def test_files_of_a_foreign_format_are_one_stream(installer: Installer, note: Path, tmp_path: Path) -> None:
    installer.install("ef-note", GROUP, {"note": "NOTE"}, MODULE)
    (tmp_path / "b.note").write_bytes(b"NOTE0001" + bytes(40))
    with open_files([tmp_path / "b.note", note]) as source:
        assert source.samples == 20
        assert source.packages == ("ef-note 1.5",)


def test_own_formats_come_first_and_the_others_are_not_even_imported(installer: Installer, sigproc: Path) -> None:
    installer.install("ef-eager", GROUP, {"eager": "EAGER", "aaa": "MISSING"}, MODULE)
    with open_files([sigproc]) as source:
        assert type(source).__name__ == "SigprocSource"
        assert (source.packages, source.warnings) == ((), ())
    assert "ef_eager" not in sys.modules


def test_a_foreign_format_may_use_hdf5_or_fits(installer: Installer, tmp_path: Path) -> None:
    from astropy.io import fits

    installer.install("ef-containers", GROUP, {"hdf5": "HDF5", "fits": "FITS"}, MODULE)
    with h5py.File(tmp_path / "a", "w") as file:
        file["beams"] = np.zeros(3)
    fits.PrimaryHDU(np.zeros((3, 3))).writeto(tmp_path / "b")
    for name, kind in (("a", "hdf5"), ("b", "fits")):
        with pytest.raises(PluginError, match=f"{kind}' of ef-containers 1.5 failed: ZeroDivisionError"):
            open_files([tmp_path / name])


def test_a_weak_format_is_asked_last_and_not_about_a_text(installer: Installer, note: Path, tmp_path: Path) -> None:
    installer.install("ef-weak", GROUP, {"weak": "WEAK"}, MODULE)
    with open_files([note]) as source:
        assert source.packages == ("ef-weak 1.5",)
    (tmp_path / "b.txt").write_text("words")
    with pytest.raises(FormatError, match="is a text file"):
        open_files([tmp_path / "b.txt"])
    installer.install("ef-note", GROUP, {"zzz": "NOTE"}, MODULE)
    with open_files([note]) as source:
        assert source.packages == ("ef-note 1.5",)


def test_a_file_that_two_formats_claim_is_refused(installer: Installer, note: Path) -> None:
    installer.install("ef-note", GROUP, {"note": "NOTE"}, MODULE)
    installer.install("ef-eager", GROUP, {"eager": "EAGER"}, MODULE)
    with pytest.raises(FormatError, match=r"is claimed by .*'eager' of ef-eager 1.5 and .*'note' of ef-note 1.5"):
        open_files([note])


def test_two_packages_of_one_name_are_named(installer: Installer, note: Path) -> None:
    for package in ("ef-one", "ef-two"):
        installer.install(package, GROUP, {"note": "NOTE"}, MODULE)
    with pytest.raises(FormatError, match=r"'note' of ef-.* 1.5: ef-.* brings the same name"):
        open_files([note])


def test_messages_list_foreign_formats_too(installer: Installer, note: Path) -> None:
    installer.install("ef-note", GROUP, {"note": "NOTE"}, MODULE)
    note.write_bytes(bytes(range(256)))
    with pytest.raises(FormatError, match="is not recognised, expected one of FBH5, GUPPI RAW, Note, PSRDADA, PSRFITS"):
        open_files([note])


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("MISSING", "cannot be loaded from ef_bad:MISSING: AttributeError: "),
        ("TEXT", "ef_bad:TEXT is of type str, must be FileFormat"),
        ("RAISES", "failed: IndexError: index out of range"),
    ],
)
@pytest.mark.parametrize("name", ["x.note", "x.h5"])
def test_a_broken_format_is_named_if_nobody_recognises_a_file(
    installer: Installer, tmp_path: Path, name: str, target: str, says: str
) -> None:
    installer.install("ef-bad", GROUP, {"bad": target}, MODULE)
    if name == "x.h5":
        with h5py.File(tmp_path / name, "w") as file:
            file["beams"] = np.zeros(3)
    else:
        (tmp_path / name).write_bytes(bytes(range(256)))
    with pytest.raises(FormatError) as caught:
        open_files([tmp_path / name])
    reason = "is HDF5 with CLASS ''" if name == "x.h5" else "is not recognised"
    assert f"{name}: {reason}, expected " in str(caught.value)
    assert "; file format 'bad' of ef-bad 1.5" in str(caught.value)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_broken_format_is_a_warning_if_another_recognises_a_file(installer: Installer, note: Path) -> None:
    installer.install("ef-bad", GROUP, {"bad": "RAISES"}, MODULE)
    installer.install("ef-note", GROUP, {"note": "NOTE"}, MODULE)
    with open_files([note]) as source:
        assert source.warnings[0] == "a warning"
        assert source.warnings[1].startswith("file format 'bad' of ef-bad 1.5 failed: IndexError")


@pytest.mark.parametrize(
    ("target", "says"),
    [("CRASHES", "failed: KeyError: 'key'"), ("NO_SOURCE", "opens .*a.note as a NoneType, must be a")],
)
def test_a_foreign_reader_that_fails_is_one_line(installer: Installer, note: Path, target: str, says: str) -> None:
    installer.install("ef-bad", GROUP, {"bad": target}, MODULE)
    with pytest.raises(EdgefilterError, match=f"file format 'bad' of ef-bad 1.5 {says}") as caught:
        open_files([note])
    assert "\n" not in str(caught.value)


def test_a_foreign_reader_that_fails_while_samples_are_read_is_one_line(installer: Installer, note: Path) -> None:
    installer.install("ef-bad", GROUP, {"bad": "FRAGILE"}, MODULE)
    with (
        open_files([note]) as source,
        pytest.raises(PluginError, match=r"'bad' of ef-bad 1.5 failed: ZeroDivisionError"),
    ):
        source.read(0, 2)
