from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefilter.core.chunk import Gap, Loss
from edgefilter.core.errors import FormatError
from edgefilter.sources.files import fbh5
from tests.helpers import recorded_files


def write(path: Path, numbers: Any, **fields: Any) -> Path:
    header: dict[str, Any] = {"fch1": 8420.0, "foff": -2.8e-6, "tsamp": 18.253611008, "tstart": 57650.78}
    header |= {"nchans": numbers.shape[2], "nifs": numbers.shape[1], "nbits": 8, "source_name": b"Voyager1"} | fields
    with h5py.File(path, "w") as file:
        file.attrs["CLASS"] = b"FILTERBANK"
        file.attrs["VERSION"] = b"1.0"
        data = file.create_dataset("data", data=numbers, chunks=(2, 1, numbers.shape[2]), **hdf5plugin.Bitshuffle())
        data.attrs.update({name: value for name, value in header.items() if value is not None})
    return path


@pytest.mark.parametrize("dtype", ["u1", "i1", "<u2", "<f4", ">f4"])
@pytest.mark.parametrize("ifs", [1, 2, 4])
def test_numbers_of_any_type_are_read(tmp_path: Path, dtype: str, ifs: int) -> None:
    numbers = np.random.default_rng(1).integers(0, 100, (7, ifs, 6)).astype(dtype)
    source = fbh5.open(write(tmp_path / "a.h5", numbers))
    assert (source.stream.source, source.stream.seconds(1)) == ("Voyager1", 18.253611008)
    chunk = source.read(-2, 9)
    assert chunk.gaps == (Gap(-2, 0, Loss.OUTSIDE), Gap(7, 9, Loss.OUTSIDE))
    read = chunk.data[2:9].view(np.dtype(dtype).newbyteorder("<")).reshape(7, 6, ifs)
    np.testing.assert_array_equal(read, numbers.transpose(0, 2, 1))
    np.testing.assert_array_equal(source.read(3, 5).data, chunk.data[5:7])
    source.close()


@pytest.mark.parametrize(
    ("fields", "says"),
    [({"tsamp": None}, "no attribute tsamp"), ({"tsamp": 0.0}, "tsamp is 0"), ({"nchans": 5}, "nchans 5")],
)
def test_attributes_out_of_range_are_refused(tmp_path: Path, fields: dict[str, Any], says: str) -> None:
    with pytest.raises(FormatError, match=says):
        fbh5.open(write(tmp_path / "a.h5", np.zeros((3, 1, 4), np.uint8), **fields))


def test_other_hdf5_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data"] = np.zeros(3)
    with pytest.raises(FormatError, match="expected CLASS 'FILTERBANK'"):
        fbh5.open(tmp_path / "a.h5")


@pytest.fixture(scope="module")
def whole_file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    numbers = np.arange(9 * 8, dtype=np.uint8).reshape(9, 1, 8)
    return write(tmp_path_factory.mktemp("fbh5") / "a.h5", numbers).read_bytes()


@settings(deadline=None, max_examples=40)
@given(cut=st.integers(0, 6000), flips=st.lists(st.tuples(st.integers(8, 2000), st.integers(0, 255)), max_size=2))
def test_any_damage_opens_or_is_a_format_error(whole_file: bytes, cut: int, flips: list[tuple[int, int]]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.h5"
        path.write_bytes(recorded_files.damage(whole_file, max(cut, 1), flips))
        try:
            source = fbh5.open(path)
            assert len(source.read(-1, 5).data) == 6
            source.close()
        except FormatError:
            return
