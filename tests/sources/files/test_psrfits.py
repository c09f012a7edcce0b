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
from edgefilter.sources.base import Source
from edgefilter.sources.files import psrfits
from tests.helpers import recorded_files


def random_samples(bits: int, shape: tuple[int, ...], *, signed: bool = False) -> Any:
    rng = np.random.default_rng(2)
    if bits == 32:
        return rng.normal(size=shape).astype("f4")
    low = -(1 << (bits - 1)) if signed else 0
    numbers = rng.integers(low, low + (1 << bits), shape)
    return numbers.astype("i2" if bits == 16 and signed else "u2" if bits == 16 else "i1" if signed else "u1")


def values(source: Source, start: int, stop: int) -> Any:
    """Float32 ``[time, channel, product]``."""
    stream = source.stream
    return source.read(start, stop).data.view("<f4").reshape(-1, stream.channels, len(stream.products))


@settings(deadline=None, max_examples=25)
@given(
    bits=st.sampled_from([1, 2, 4, 8, 16, 32]),
    pols=st.sampled_from([1, 2, 4]),
    rows=st.integers(1, 3),
    start=st.integers(-5, 20),
    count=st.integers(0, 25),
)
def test_any_range_of_any_packing_is_scaled_as_defined(bits: int, pols: int, rows: int, start: int, count: int) -> None:
    raw = random_samples(bits, (rows, 6, pols, 8))
    rng = np.random.default_rng(3)
    scale, offset = (rng.uniform(1, 2, (pols, 8)).astype(np.float32) for _ in range(2))
    pol_type = {1: "AA+BB", 2: "AABB", 4: "AABBCRCI"}[pols]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.sf"
        recorded_files.psrfits(
            path, raw, bits, columns={"DAT_SCL": scale, "DAT_OFFS": offset}, POL_TYPE=pol_type, ZERO_OFF=0.5
        )
        source = psrfits.open(path)
        read = values(source, start, start + count)
        valid = source.read(start, start + count).valid()
        source.close()
    truth = ((raw.astype(np.float64) - 0.5) * scale + offset).reshape(-1, pols, 8).transpose(0, 2, 1)
    inside = np.array([n for n in range(start, start + count) if 0 <= n < rows * 6], int)
    np.testing.assert_array_equal(np.flatnonzero(valid), inside - start)
    np.testing.assert_allclose(read[inside - start], truth[inside], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_signed_numbers(tmp_path: Path, bits: int) -> None:
    raw = random_samples(bits, (1, 5, 1, 4), signed=True)
    written = raw & 15 if bits == 4 else raw
    source = psrfits.open(recorded_files.psrfits(tmp_path / "a.sf", written, bits, SIGNINT=1))
    np.testing.assert_array_equal(values(source, 0, 5)[:, :, 0], raw[0, :, 0])
    source.close()


def test_a_weight_of_0_is_missing(tmp_path: Path) -> None:
    weights = np.array([1, 0, 0.5, 1], np.float32)
    source = psrfits.open(
        recorded_files.psrfits(tmp_path / "a.sf", random_samples(8, (1, 5, 1, 4)), 8, columns={"DAT_WTS": weights})
    )
    np.testing.assert_array_equal(np.isnan(values(source, 0, 5)[:, :, 0]).all(0), weights == 0)
    assert source.stream.encoding is Encoding.FLOAT
    source.close()


def test_a_table_without_weights_and_scales_holds_numbers_as_they_are(tmp_path: Path) -> None:
    raw = random_samples(8, (1, 5, 2, 4))
    path = recorded_files.psrfits(tmp_path / "a.sf", raw, 8, POL_TYPE="AABB")
    content = path.read_bytes()
    for name in (b"DAT_WTS", b"DAT_SCL", b"DAT_OFFS"):
        content = content.replace(b"'%s" % name, b"'OTHER%s" % name[5:])
    path.write_bytes(content)
    source = psrfits.open(path)
    np.testing.assert_array_equal(values(source, 0, 5), raw[0].transpose(0, 2, 1))
    source.close()


def test_offs_sub_places_the_rows(tmp_path: Path) -> None:
    # Rows of 10 ms; the second begins 15 ms after the first, and the first one 30 ms after the header's start.
    raw = random_samples(8, (3, 10, 1, 4))
    source = psrfits.open(recorded_files.psrfits(tmp_path / "a.sf", raw, 8, centres=[0.035, 0.050, 0.060]))
    assert source.samples == 35
    assert source.read(-1, 36).gaps == (
        Gap(-1, 0, Loss.OUTSIDE),
        Gap(10, 15, Loss.MISSING),
        Gap(35, 36, Loss.OUTSIDE),
    )
    np.testing.assert_array_equal(values(source, 15, 25)[:, :, 0], raw[1, :, 0])
    np.testing.assert_array_equal(values(source, 25, 35)[:, :, 0], raw[2, :, 0])
    assert clock.utc_iso(source.stream.epoch_tai_ns) == "2017-09-04T00:01:40.280000"
    source.close()


def test_rows_with_empty_offs_sub_are_contiguous(tmp_path: Path) -> None:
    source = psrfits.open(
        recorded_files.psrfits(tmp_path / "a.sf", random_samples(8, (3, 10, 1, 4)), 8, centres=[0.0] * 3)
    )
    assert source.samples == 30
    source.close()


def test_a_truncated_table_is_read_up_to_the_cut(tmp_path: Path) -> None:
    from astropy.io import fits

    raw = random_samples(8, (3, 1000, 1, 4))
    path = recorded_files.psrfits(tmp_path / "a.sf", raw, 8)
    with fits.open(path) as file:
        table, row = file["SUBINT"].fileinfo()["datLoc"], file["SUBINT"].header["NAXIS1"]
    # Two rows, and of the third all but DATA, 10 samples and a part of one.
    path.write_bytes(path.read_bytes()[: table + 2 * row + (row - 4000) + 4 * 10 + 3])
    source = psrfits.open(path)
    assert source.samples == 2010
    assert "cut short" in source.warnings[0]
    np.testing.assert_array_equal(values(source, 1995, 2010)[5:, :, 0], raw[2, :10, 0])
    source.close()


@pytest.mark.filterwarnings("ignore")  # astropy warns while the test writes an odd header
@pytest.mark.parametrize(("fields", "says"), [({"NBITS": 5}, "NBITS = 5"), ({"NSBLK": 99}, "NSBLK = 99")])
def test_a_header_out_of_range_is_refused(tmp_path: Path, fields: dict[str, int], says: str) -> None:
    from astropy.io import fits

    path = recorded_files.psrfits(tmp_path / "a.sf", random_samples(8, (2, 10, 1, 4)), 8)
    with fits.open(path, mode="update") as file:
        file["SUBINT"].header.update(fields)
    with pytest.raises(FormatError, match=says):
        psrfits.open(path)


def test_fits_without_a_subint_table(tmp_path: Path) -> None:
    from astropy.io import fits

    fits.PrimaryHDU().writeto(tmp_path / "a.fits")
    with pytest.raises(FormatError, match="without a SUBINT table"):
        psrfits.open(tmp_path / "a.fits")


@pytest.fixture(scope="module")
def whole_file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("psrfits") / "a.sf"
    return recorded_files.psrfits(path, random_samples(8, (2, 200, 1, 4)), 8).read_bytes()


@settings(deadline=None, max_examples=60)
@given(cut=st.integers(0, 20000), flips=st.lists(st.tuples(st.integers(0, 9000), st.integers(0, 255)), max_size=3))
def test_any_damage_opens_or_is_a_format_error(whole_file: bytes, cut: int, flips: list[tuple[int, int]]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.sf"
        path.write_bytes(recorded_files.damage(whole_file, cut, flips))
        try:
            source = psrfits.open(path)
        except FormatError:
            return
        assert len(source.read(-1, 5).data) == 6
        source.close()


def test_the_burst_is_at_its_published_time(data: Path) -> None:
    source = psrfits.open(data / "transients/FRB180417.fits")
    assert source.samples == 7 * 789
    power = values(source, 0, source.samples)[:, :, 0]
    power = power - np.median(power, axis=0)
    mhz = source.stream.frequencies_hz / 1e6
    delays = np.rint(4148.808 * 474.8 * (mhz**-2 - mhz.max() ** -2) * float(source.stream.rate)).astype(int)
    series = np.sum([np.roll(power[:, c], -delays[c]) for c in range(len(mhz))], axis=0)
    assert source.stream.seconds(int(series.argmax())) == pytest.approx(2.0289, abs=0.002)
    source.close()


def test_four_polarisations_in_4_bits(data: Path) -> None:
    from astropy.io import fits

    source = psrfits.open(data / "transients/parkes_uwl_crab_4pol.sf")
    assert source.stream.products == ("AA", "BB", "CR", "CI")
    assert (source.samples, source.stream.channels) == (4096, 416)
    with fits.open(data / "transients/parkes_uwl_crab_4pol.sf") as file:
        row = file["SUBINT"].data[1]
        packed = row["DATA"].reshape(-1)[: 416 * 4 // 2].astype(int)
        raw = np.stack([packed >> 4, packed & 15], axis=1).reshape(4, 416)
        truth = (raw - 7.5) * row["DAT_SCL"].reshape(4, 416) + row["DAT_OFFS"].reshape(4, 416)
    np.testing.assert_allclose(values(source, 2048, 2049)[0], truth.T, rtol=1e-4)
    source.close()
