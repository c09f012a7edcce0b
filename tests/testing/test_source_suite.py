"""The conformance suite of file formats: edgefilter's own pass it, and sources that break a rule fail."""

import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import baseband.data
import h5py
import hdf5plugin
import numpy as np
import pytest

from edgefilter.core.chunk import Chunk, Gap, Loss, clip_gaps
from edgefilter.core.errors import FormatError
from edgefilter.core.stream import Encoding, SampleKind, Stream
from edgefilter.sources.base import FiniteSource
from edgefilter.testing.source import Recording, SourceSuite
from tests.helpers import recorded_files

BASEBAND = Path(baseband.data.__file__).parent
NUMBERS = np.random.default_rng(8).integers(0, 256, (40_000, 1, 256), np.uint8)


class TestSigproc(SourceSuite):
    def make_recording(self, folder: Path) -> Recording:
        path = recorded_files.sigproc(folder / "a.fil", NUMBERS, 8, nsamples=len(NUMBERS))
        return Recording(path, NUMBERS[:, 0])


class TestSigprocWithoutALength(SourceSuite):
    states_length = False

    def make_recording(self, folder: Path) -> Recording:
        return Recording(recorded_files.sigproc(folder / "a.fil", NUMBERS[:100], 8), NUMBERS[:100, 0])


class TestPsrfits(SourceSuite):
    def make_recording(self, folder: Path) -> Recording:
        raw = NUMBERS[:12_000].reshape(60, 200, 1, 256)
        centres = [0.1 + 0.2 * row + (0.05 if row >= 30 else 0) for row in range(60)]
        path = recorded_files.psrfits(folder / "a.sf", raw, 8, centres=centres)
        data = np.zeros((12_050, 256), "<f4")
        data[:6000], data[6050:] = NUMBERS[:6000, 0], NUMBERS[6000:12_000, 0]
        return Recording(path, data.view(np.uint8), (Gap(6000, 6050, Loss.MISSING),))


class TestFbh5(SourceSuite):
    def make_recording(self, folder: Path) -> Recording:
        with h5py.File(folder / "a.h5", "w") as file:
            file.attrs["CLASS"] = b"FILTERBANK"
            data = file.create_dataset("data", data=NUMBERS, chunks=(500, 1, 256), **hdf5plugin.Bitshuffle())
            data.attrs.update({"fch1": 1500.0, "foff": -1.0, "tsamp": 0.001, "tstart": 58000.0, "nchans": 256})
        return Recording(folder / "a.h5", NUMBERS[:, 0])


class TestGuppi(SourceSuite):
    def make_recording(self, folder: Path) -> Recording:
        raw = (BASEBAND / "sample_puppi.raw").read_bytes()
        block = len(raw) // 4
        (folder / "a.raw").write_bytes(raw[:block] + raw[2 * block :])  # a block is lost
        return Recording(folder / "a.raw")


class TestDada(SourceSuite):
    def make_recording(self, folder: Path) -> Recording:
        (folder / "a.dada").write_bytes((BASEBAND / "sample.dada").read_bytes())
        return Recording(folder / "a.dada")


class TestVdif(SourceSuite):
    states_length = False

    def make_recording(self, folder: Path) -> Recording:
        (folder / "a.vdif").write_bytes((BASEBAND / "sample.vdif").read_bytes())
        return Recording(folder / "a.vdif")


STREAM = Stream("note", SampleKind.POWER, 0, Fraction(1000), 64, 1.4e9, -1e6, ("I",), 8, Encoding.UNSIGNED)
LOST = Gap(1000, 1500, Loss.MISSING)
COUNT = 150_000


class Note(FiniteSource):
    """A right reader of a format: "NOTE", then samples, of which 500 are marked as lost. Subclasses break one rule."""

    opened = 0

    def __init__(self, path: Path) -> None:
        self.file = path.open("rb")
        size = path.stat().st_size - 4
        if self.file.read(4) != b"NOTE" or size < 64:
            self.file.close()
            raise FormatError(path, "is not a note")
        super().__init__(STREAM, size // 64, ("is cut",) if size != COUNT * 64 else ())
        self.path = path

    def _read_samples(self, start, stop, out):
        with self.path.open("rb") as file:
            file.seek(4 + start * 64)
            out.reshape(-1)[:] = np.frombuffer(file.read(out.size), np.uint8)
        return clip_gaps((LOST,), start, stop)

    def close(self) -> None:
        self.file.close()


class NoteSuite(SourceSuite):
    kind: type[Note] = Note

    def make_recording(self, folder: Path) -> Recording:
        data = np.resize(NUMBERS, (COUNT, 64))
        (folder / "a.note").write_bytes(b"NOTE" + data.tobytes())
        return Recording(folder / "a.note", data, (LOST,))

    def open(self, path: Path) -> Note:
        return self.kind(path)


class TestNote(NoteSuite):
    pass


class MislaysAGap(Note):
    def _read_samples(self, start, stop, out):
        gaps = super()._read_samples(start, stop, out)
        return gaps if start <= LOST.start else ()


class FillsAGap(Note):
    def _read_samples(self, start, stop, out):
        super()._read_samples(start, stop, out)
        return ()


class ReadsOthersAgain(Note):
    reads = 0

    def _read_samples(self, start, stop, out):
        gaps = super()._read_samples(start, stop, out)
        self.reads += 1
        out[0] ^= self.reads > 1
        return gaps


class SharesAPosition(Note):
    """Reads on from where another source of the class has stopped."""

    position = 0

    def _read_samples(self, start, stop, out):
        shift = type(self).position if self.opened > 1 else 0
        type(self).position = stop
        return super()._read_samples(min(start + shift, self.samples - len(out)), stop, out)

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        type(self).opened += 1

    def close(self) -> None:
        super().close()
        type(self).opened -= 1


class MissesTheOutside(Note):
    def read(self, start, stop):
        chunk = super().read(start, stop)
        return Chunk(chunk.start, chunk.data, tuple(gap for gap in chunk.gaps if gap.reason is not Loss.OUTSIDE))


class AllowsAnyRange(Note):
    def read(self, start, stop):
        return super().read(start, max(start, stop))


class ChangesItsHeader(Note):
    def _read_samples(self, start, stop, out):
        self._stream = replace(STREAM, source=str(start))
        return super()._read_samples(start, stop, out)


class ReadsTheWholeFile(Note):
    def _read_samples(self, start, stop, out):
        content = self.path.read_bytes()
        out.reshape(-1)[:] = np.frombuffer(content, np.uint8)[4 + start * 64 : 4 + stop * 64]
        return clip_gaps((LOST,), start, stop)


class StaysOpen(Note):
    def close(self) -> None:
        pass


class HidesACut(Note):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.warnings = ()


class InventsSamples(Note):
    """Takes the samples after a cut for zeros."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._samples = COUNT

    def _read_samples(self, start, stop, out):
        content = self.path.read_bytes()[4 + start * 64 : 4 + stop * 64]
        out.reshape(-1)[: len(content)] = np.frombuffer(content, np.uint8)
        return clip_gaps((LOST,), start, stop)


class Crashes(Note):
    def __init__(self, path: Path) -> None:
        {b"NOTE": 1}[path.read_bytes()[:4]]
        super().__init__(path)


class ReadsAnything(Note):
    def __init__(self, path: Path) -> None:
        content = path.read_bytes()
        path.write_bytes((b"NOTE" + content[4:]).ljust(68))
        super().__init__(path)


class NotThreadSafe(Note):
    """Reads with one handle, which other threads move."""

    def _read_samples(self, start, stop, out):
        for sample in range(start, stop, 100):
            self.file.seek(4 + sample * 64)
            time.sleep(1e-4)
            part = out[sample - start : sample - start + 100]
            part.reshape(-1)[:] = np.frombuffer(self.file.read(part.size).ljust(part.size), np.uint8)
        return clip_gaps((LOST,), start, stop)


@pytest.mark.parametrize(
    ("kind", "test", "says"),
    [
        (MislaysAGap, "any_part_is_read_as_in_the_whole", "is there, but missing in the whole recording"),
        (FillsAGap, "the_samples_are_those_that_were_written", "sample 1000 is there, but missing in what was written"),
        (ReadsOthersAgain, "any_part_is_read_as_in_the_whole", "sample 0 has other bytes than in the whole recording"),
        (SharesAPosition, "a_file_can_be_opened_twice", "has other bytes than in the other one"),
        (MissesTheOutside, "what_lies_outside_the_recording_is_a_gap", "sample -5 is there, but outside expected"),
        (AllowsAnyRange, "a_range_that_ends_before_it_starts_is_refused", "must raise ValueError"),
        (ChangesItsHeader, "the_header_is_constant", "header, length or warnings have changed"),
        (ReadsTheWholeFile, "memory_grows_with_the_range", "one sample of a recording of 9600000 B takes 9"),
        (StaysOpen, "closing_releases_the_file", "after close() the file is still open"),
        (HidesACut, "a_truncated_copy_is_reported", "has another length or header, but gives no warning"),
        (InventsSamples, "a_truncated_copy_is_reported", "has other bytes than in the file"),
        (Crashes, "a_damaged_copy_is_no_traceback", "opening raises KeyError, must be FormatError"),
        (ReadsAnything, "a_file_of_another_kind_is_refused", "an empty file: is read as a recording, must be refused"),
        (NotThreadSafe, "threads_read_at_once", "beside other threads: sample"),
    ],
)
def test_a_source_that_breaks_a_rule_fails(tmp_path: Path, kind: type[Note], test: str, says: str) -> None:
    suite = NoteSuite()
    suite.kind = kind
    with pytest.raises(AssertionError) as caught:
        getattr(suite, f"test_{test}")(tmp_path)
    assert says in str(caught.value)
