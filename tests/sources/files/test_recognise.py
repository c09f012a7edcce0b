from pathlib import Path

import baseband.data
import numpy as np
import pytest

from edgefilter.core.errors import FormatError, SequenceError
from edgefilter.sources.files.recognise import open_files
from tests.helpers import recorded_files

FOLDER = Path(baseband.data.__file__).parent


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("sample_puppi.raw", "GuppiSource"),
        ("sample.dada", "BasebandStreamSource"),
        ("sample.vdif", "BasebandStreamSource"),
    ],
)
def test_voltages_are_recognised_under_any_name(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / "recording.fil"
    path.write_bytes((FOLDER / name).read_bytes())
    source = open_files([path])
    assert type(source).__name__ == kind
    source.close()


def test_power_is_recognised_under_any_name(tmp_path: Path) -> None:
    numbers = np.zeros((5, 1, 8), np.uint8)
    source = open_files([str(recorded_files.sigproc(tmp_path / "a.vdif", numbers, 8))])
    assert type(source).__name__ == "SigprocSource"
    source.close()
    source = open_files([recorded_files.psrfits(tmp_path / "b", numbers[None], 8)])
    assert type(source).__name__ == "PsrfitsSource"
    source.close()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty, expected one of FBH5"),
        (b"Dear reader,\nthis is no telescope.\n", "is a text file, expected one of FBH5"),
        ("Grüße\n".encode(), "is a text file"),
        (bytes(range(256)) * 40, "is not recognised, expected one of FBH5"),
        (b"\x0c\0\0\0HEADER_START\x05\0\0\0nch", "header is cut"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "is HDF5 that cannot be opened"),
        (b"SIMPLE  =                    T", "FITS"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=says) as caught:
        open_files([path])
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="no such file"):
        open_files([tmp_path / "none.fil"])
    with pytest.raises(FormatError, match="is a directory"):
        open_files([tmp_path])
    with pytest.raises(SequenceError, match="no files"):
        open_files([])


def test_several_files_are_one_stream(tmp_path: Path) -> None:
    numbers = np.arange(160, dtype=np.uint8).reshape(20, 1, 8)
    first = recorded_files.sigproc(tmp_path / "1.fil", numbers[:10], 8)
    second = recorded_files.sigproc(tmp_path / "2.fil", numbers[10:], 8, tstart=58000.25 + 0.010 / 86400)
    source = open_files([second, first])
    np.testing.assert_array_equal(source.read(0, 20).data, numbers[:, 0])
    source.close()
    with pytest.raises(FormatError, match="no such file"):
        open_files([first, tmp_path / "none.fil"])


def test_every_recording_opens(data: Path) -> None:
    files = sorted(path for folder in ("transients", "synthetic") for path in (data / folder).iterdir())
    files += [data / "narrowband/gbt_background_32bit.fil"]
    files += [data / "raw" / name for name in ("puppi_j1810.raw", "effelsberg_2016+28.dada", "evn_b1957+20.vdif")]
    for file in files:
        source = open_files([file])
        assert source.read(0, 10).valid().all(), file
        source.close()
