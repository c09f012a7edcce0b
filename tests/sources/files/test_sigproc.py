from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefilter.core import clock
from edgefilter.core.chunk import Gap, Loss
from edgefilter.core.errors import FormatError
from edgefilter.core.stream import Encoding
from edgefilter.sources.files import sigproc
from tests.helpers import recorded_files

DTYPES = {1: "u1", 2: "u1", 4: "u1", 8: "u1", 16: "<u2", 32: "<f4"}


def random_samples(bits: int, shape: tuple[int, ...], seed: int = 1) -> Any:
    rng = np.random.default_rng(seed)
    if bits == 32:
        return rng.normal(size=shape).astype("<f4")
    return rng.integers(0, 1 << bits, shape).astype(DTYPES[bits])


@settings(deadline=None, max_examples=40)
@given(
    bits=st.sampled_from([1, 2, 4, 8, 16, 32]),
    ifs=st.sampled_from([1, 2, 4]),
    octets=st.integers(1, 3),
    length=st.integers(1, 20),
    start=st.integers(-10, 30),
    count=st.integers(0, 40),
)
def test_any_range_of_any_shape_is_read(bits: int, ifs: int, octets: int, length: int, start: int, count: int) -> None:
    numbers = random_samples(bits, (length, ifs, 8 * octets))
    with TemporaryDirectory() as folder:
        source = sigproc.open(recorded_files.sigproc(Path(folder) / "a.fil", numbers, bits))
        chunk = source.read(start, start + count)
        source.close()
    assert source.samples == length
    assert chunk.start == start
    assert chunk.data.shape == (count, source.stream.sample_bytes)
    inside = [n for n in range(start, start + count) if 0 <= n < length]
    assert np.flatnonzero(chunk.valid()).tolist() == [n - start for n in inside]
    assert all(gap.reason is Loss.OUTSIDE for gap in chunk.gaps)
    for n in inside:
        raw = chunk.data[n - start]
        if bits < 8 and ifs == 1:
            raw = sigproc.unpack(raw[None], bits)[0]
        read = raw.view(DTYPES[bits]).reshape(8 * octets, ifs)
        np.testing.assert_array_equal(read, numbers[n].T)


def test_the_header_becomes_the_stream(tmp_path: Path) -> None:
    path = recorded_files.sigproc(tmp_path / "a.fil", random_samples(8, (3, 1, 4)), 8, tsamp=0.00126646875, foff=0.5)
    source = sigproc.open(path)
    stream = source.stream
    assert stream.rate == Fraction(32000000, 40527)
    assert stream.frequencies_hz.tolist() == [1500e6, 1500.5e6, 1501e6, 1501.5e6]
    assert (stream.name, stream.telescope, stream.products) == ("TEST", "Parkes", ("I",))
    assert clock.utc_iso(stream.epoch_tai_ns) == "2017-09-04T06:00:00.000000"
    assert source.warnings == ()
    source.close()


@pytest.mark.parametrize("mjd", [0.0, -60000.0, 140000.0, 1e300, float("nan")])
def test_a_file_with_any_start_date_opens(tmp_path: Path, mjd: float) -> None:
    source = sigproc.open(recorded_files.sigproc(tmp_path / "a.fil", random_samples(8, (3, 1, 4)), 8, tstart=mjd))
    assert clock.utc_iso(source.stream.epoch_tai_ns)
    assert len(source.warnings) == (0 if abs(mjd) < 1e6 else 1)
    source.close()


def test_the_signed_key(tmp_path: Path) -> None:
    source = sigproc.open(recorded_files.sigproc(tmp_path / "a.fil", random_samples(8, (3, 1, 4)), 8, signed=1))
    assert source.stream.encoding is Encoding.SIGNED
    source.close()


def test_a_table_of_frequencies(tmp_path: Path) -> None:
    numbers = random_samples(8, (3, 1, 4))
    even = recorded_files.sigproc(tmp_path / "a.fil", numbers, 8, frequencies=[1400.0, 1398.0, 1396.0, 1394.0])
    source = sigproc.open(even)
    assert source.stream.frequencies_hz.tolist() == [1400e6, 1398e6, 1396e6, 1394e6]
    source.close()
    uneven = recorded_files.sigproc(tmp_path / "b.fil", numbers, 8, frequencies=[1400.0, 1398.0, 1390.0, 1388.0])
    with pytest.raises(FormatError, match="not equally spaced"):
        sigproc.open(uneven)


def test_an_incomplete_last_spectrum_is_left_out(tmp_path: Path) -> None:
    path = recorded_files.sigproc(tmp_path / "a.fil", random_samples(16, (5, 1, 4)), 16)
    path.write_bytes(path.read_bytes()[:-3])
    source = sigproc.open(path)
    assert source.samples == 4
    assert "middle of a spectrum" in source.warnings[0]
    assert source.read(3, 6).gaps == (Gap(4, 6, Loss.OUTSIDE),)
    source.close()


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"nchans": 0}, "nchans = 0"),
        ({"nchans": -5}, "nchans = -5"),
        ({"tsamp": 0.0}, "tsamp is 0"),
        ({"tsamp": float("nan")}, "tsamp is nan"),
        ({"nbits": 7}, "nbits = 7"),
        ({"nifs": 3}, "nifs = 3"),
        ({"foff": 0.0}, "step not zero"),
        ({"nonsense": "a"}, "unknown keyword 'nonsense'"),
        ({"nbits": 1}, "does not end on a byte"),
    ],
)
def test_a_header_out_of_range_is_refused_in_one_line(tmp_path: Path, fields: dict[str, Any], says: str) -> None:
    path = recorded_files.sigproc(tmp_path / "a.fil", random_samples(8, (3, 1, 4)), 8, **fields)
    with pytest.raises(FormatError, match=says) as caught:
        sigproc.open(path)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def whole_file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("sigproc") / "a.fil"
    return recorded_files.sigproc(path, random_samples(8, (9, 1, 8)), 8).read_bytes()


@settings(deadline=None, max_examples=120)
@given(cut=st.integers(0, 400), flips=st.lists(st.tuples(st.integers(0, 330), st.integers(0, 255)), max_size=3))
def test_any_damage_opens_or_is_a_format_error(whole_file: bytes, cut: int, flips: list[tuple[int, int]]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.fil"
        path.write_bytes(recorded_files.damage(whole_file, cut, flips))
        try:
            source = sigproc.open(path)
        except FormatError:
            return
        assert len(source.read(-1, 5).data) == 6
        source.close()


def test_a_file_that_shrinks_is_an_error_not_a_crash(tmp_path: Path) -> None:
    path = recorded_files.sigproc(tmp_path / "a.fil", random_samples(8, (50, 1, 8)), 8)
    source = sigproc.open(path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(FormatError, match="shrank"):
        source.read(0, 50)
    source.close()


def test_low_bit_files_agree_with_the_8_bit_one(data: Path) -> None:
    whole = sigproc.open(data / "transients/parkes_uwl_crab_8bit.fil")
    truth = whole.read(0, 1024).data.astype(float)
    for bits in (1, 2, 4):
        source = sigproc.open(data / f"transients/parkes_uwl_crab_{bits}bit.fil")
        assert (source.samples, source.stream.sample_bytes) == (4096, 832 * bits // 8)
        coarse = sigproc.unpack(source.read(0, 1024).data, bits).astype(float)
        live = (truth.std(0) > 0) & (coarse.std(0) > 0)
        alike = [np.corrcoef(truth[:, c], coarse[:, c])[0, 1] for c in np.flatnonzero(live)[::8]]
        # The wrong order of bits would pair each channel with a neighbour, whose noise is its own.
        assert np.median(alike) > 0.5
        source.close()
    whole.close()
