from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import baseband.data
import numpy as np
import pytest
from baseband import dada, guppi, vdif
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefilter.core.chunk import Gap, Loss
from edgefilter.core.errors import FormatError
from edgefilter.core.stream import Encoding, SampleKind
from edgefilter.sources.base import Source
from edgefilter.sources.files import dada as dada_reader
from edgefilter.sources.files import guppi as guppi_reader
from edgefilter.sources.files import vdif as vdif_reader
from edgefilter.sources.files import voltages
from edgefilter.sources.files.sequence import FileSequence
from tests.helpers import recorded_files

FOLDER = Path(baseband.data.__file__).parent
GUPPI, DADA, VDIF = FOLDER / "sample_puppi.raw", FOLDER / "sample.dada", FOLDER / "sample.vdif"
OPENERS: dict[Path, Callable[[Path], Source]] = {
    GUPPI: guppi_reader.open,
    DADA: dada_reader.open,
    VDIF: vdif_reader.open,
}


def numbers(source: Source, start: int, stop: int) -> Any:
    """Voltages ``[time, channel, product]``."""
    stream = source.stream
    sample_dtype = np.int8 if stream.bits == 8 else np.dtype("<f4")
    flat = source.read(start, stop).data.view(sample_dtype).astype(np.float32)
    if stream.complex_samples:
        flat = flat.view(np.complex64)
    return flat.reshape(-1, stream.channels, len(stream.products))


def test_guppi(tmp_path: Path) -> None:
    source = guppi_reader.open(GUPPI)
    assert (source.stream.kind, source.stream.bits, source.stream.encoding) == (SampleKind.VOLTAGE, 8, Encoding.SIGNED)
    assert (source.samples, source.stream.rate, source.stream.products) == (3840, 250, ("X", "Y"))
    centre = source.stream.frequencies_hz.mean()
    assert centre == pytest.approx(356.6875e6)
    # The blocks of this sample file were shortened, so the 64 samples of overlap at the end of a block are not those at
    # the start of the next one: they must be read from the next one.
    with guppi.open(str(GUPPI), "rb") as reader:
        frames = [reader.read_frame().data.transpose(0, 2, 1) for _ in range(4)]
    truth = np.concatenate([frame[:960] for frame in frames])
    np.testing.assert_array_equal(numbers(source, 0, 3840), truth)
    # Across the boundary of two overlapping blocks.
    np.testing.assert_array_equal(numbers(source, 950, 970), truth[950:970])
    source.close()


def test_dropped_guppi_blocks_are_a_gap(tmp_path: Path) -> None:
    raw = GUPPI.read_bytes()
    block = len(raw) // 4
    path = tmp_path / "a.raw"
    path.write_bytes(raw[:block] + raw[2 * block :])
    source, whole = guppi_reader.open(path), guppi_reader.open(GUPPI)
    assert source.samples == 3840
    assert source.read(0, 3840).gaps == (Gap(960, 1920, Loss.MISSING),)
    np.testing.assert_array_equal(numbers(source, 1920, 3840), numbers(whole, 1920, 3840))


def test_guppi_files_of_one_recording_are_one_stream(tmp_path: Path) -> None:
    raw = GUPPI.read_bytes()
    half = len(raw) // 2
    (tmp_path / "a.0000.raw").write_bytes(raw[:half])
    (tmp_path / "a.0001.raw").write_bytes(raw[half:])
    joined = FileSequence([guppi_reader.open(tmp_path / f"a.000{i}.raw") for i in (1, 0)])
    assert joined.warnings == ()
    np.testing.assert_array_equal(numbers(joined, 0, 3840), numbers(guppi_reader.open(GUPPI), 0, 3840))


def test_dada() -> None:
    source = dada_reader.open(DADA)
    assert (source.samples, source.stream.rate, source.stream.bits) == (16000, 16_000_000, 8)
    assert source.stream.frequencies_hz.tolist() == [320e6]
    with dada.open(str(DADA), "rs", squeeze=False) as reader:
        truth = reader.read().transpose(0, 2, 1)
    np.testing.assert_array_equal(numbers(source, 100, 9000), truth[100:9000])
    source.close()


def test_real_dada() -> None:
    source = dada_reader.open(FOLDER / "sample_meerkat.dada")
    assert not source.stream.complex_samples
    assert source.stream.rate == 800_000_000
    assert source.stream.bandwidth_hz == 400e6
    source.close()


def test_vdif() -> None:
    source = vdif_reader.open(VDIF)
    assert (source.samples, source.stream.rate, source.stream.channels) == (40000, 32_000_000, 8)
    assert source.stream.products == ("X",)
    assert "does not give frequencies" in source.warnings[0]
    with vdif.open(str(VDIF), "rs", squeeze=False) as reader:
        truth = reader.read()
    np.testing.assert_array_equal(numbers(source, 19000, 21000)[:, :, 0], truth[19000:21000, :, 0])
    source.close()


def test_vdif_frames_marked_invalid_are_damaged(tmp_path: Path) -> None:
    raw = bytearray(VDIF.read_bytes())
    raw[3 * 5032 + 3] |= 0x80  # invalid bit of the fourth frame, a thread of the first frame set
    path = tmp_path / "a.vdif"
    path.write_bytes(raw)
    source = vdif_reader.open(path)
    assert source.read(0, 40000).gaps == (Gap(0, 20000, Loss.DAMAGED),)
    source.close()


@pytest.mark.parametrize("path", [GUPPI, DADA, VDIF], ids=lambda path: path.suffix)
def test_truncated_data_are_read_up_to_the_cut(tmp_path: Path, path: Path) -> None:
    cut = tmp_path / path.name
    cut.write_bytes(path.read_bytes()[:-1000])
    source, whole = OPENERS[path](cut), OPENERS[path](path)
    assert 0 < source.samples <= whole.samples
    assert any("read up to the cut" in line for line in source.warnings)
    chunk = source.read(0, source.samples)
    valid = chunk.valid()
    assert valid.any()
    np.testing.assert_array_equal(chunk.data[valid], whole.read(0, source.samples).data[valid])
    source.close()
    whole.close()


@pytest.mark.parametrize("path", [GUPPI, DADA, VDIF], ids=lambda path: path.suffix)
def test_any_damage_opens_or_is_a_format_error(path: Path) -> None:
    whole = path.read_bytes()

    @settings(deadline=None, max_examples=25)
    @given(
        cut=st.one_of(st.integers(1, 12000), st.just(len(whole))),
        flips=st.lists(st.tuples(st.integers(0, 6500), st.integers(0, 255)), max_size=3),
    )
    def damaged(cut: int, flips: list[tuple[int, int]]) -> None:
        with TemporaryDirectory() as folder:
            broken = Path(folder) / path.name
            broken.write_bytes(recorded_files.damage(whole, cut, flips))
            try:
                source = OPENERS[path](broken)
            except FormatError:
                return
            assert len(source.read(-1, 50).data) == 51
            source.close()

    damaged()


def test_without_baseband_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str, package: str | None = None) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(voltages, "import_module", missing)
    with pytest.raises(FormatError, match=r"pip install 'edgefilter\[voltages\]'"):
        guppi_reader.open(GUPPI)


def test_headers_without_data_and_a_damaged_file_are_refused(data: Path) -> None:
    with pytest.raises(FormatError, match="no whole GUPPI RAW block"):
        guppi_reader.open(data / "raw/guppi_headers_only.raw")
    with pytest.raises(FormatError, match="not a readable VDIF file"):
        vdif_reader.open(data / "raw/drao_corrupted.vdif")
