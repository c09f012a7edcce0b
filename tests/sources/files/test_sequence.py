from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgefilter.core.chunk import Gap, Loss
from edgefilter.core.errors import SequenceError
from edgefilter.sources.files import sigproc
from edgefilter.sources.files.sequence import FileSequence
from tests.helpers import recorded_files

DAY = 86400.0


def write_part(folder: Path, name: str, numbers: Any, seconds: float, **fields: Any) -> sigproc.SigprocSource:
    path = recorded_files.sigproc(folder / name, numbers, 8, tstart=58000.25 + seconds / DAY, **fields)
    return sigproc.open(path)


@pytest.fixture
def numbers() -> Any:
    return np.random.default_rng(5).integers(0, 256, (60, 1, 8)).astype(np.uint8)


def test_contiguous_files_are_one_stream(tmp_path: Path, numbers: Any) -> None:
    # Out of order, and with the rounding of a float MJD.
    sequence = FileSequence(
        [
            write_part(tmp_path, "b", numbers[20:50], 0.020),
            write_part(tmp_path, "a", numbers[:20], 0.0),
            write_part(tmp_path, "c", numbers[50:], 0.0501),
        ]
    )
    assert sequence.samples == 60
    assert sequence.warnings == ()
    for start, stop in [(0, 60), (19, 21), (20, 50), (45, 55), (-3, 63), (60, 70), (-9, -1), (5, 5)]:
        chunk = sequence.read(start, stop)
        first, last = max(start, 0), min(stop, 60)
        if first < last:
            np.testing.assert_array_equal(chunk.data[first - start : last - start], numbers[first:last, 0])
        assert chunk.valid().sum() == max(0, last - first)
    sequence.close()


def test_a_gap_between_files_is_reported(tmp_path: Path, numbers: Any) -> None:
    sequence = FileSequence(
        [write_part(tmp_path, "a", numbers[:20], 0.0), write_part(tmp_path, "b", numbers[20:], 0.0252)], ["a", "b"]
    )
    assert sequence.samples == 65
    assert sequence.read(10, 70).gaps == (Gap(20, 25, Loss.FILE_GAP), Gap(65, 70, Loss.OUTSIDE))
    assert sequence.read(21, 24).gaps == (Gap(21, 24, Loss.FILE_GAP),)
    np.testing.assert_array_equal(sequence.read(25, 65).data, numbers[20:, 0])
    (warning,) = sequence.warnings
    assert warning.startswith("b: begins 0.005")
    assert warning.endswith("s after a ends, a gap of 5 samples")
    sequence.close()


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"tsamp": 0.002}, "b: rate is 500, but 1000 in a"),
        ({"fch1": 1400.0}, "b: first_channel_hz is 1400000000.0, but 1500000000.0 in a"),
        ({"signed": 1}, "b: encoding is signed, but unsigned in a"),
    ],
)
def test_files_that_differ_are_refused(tmp_path: Path, numbers: Any, fields: dict[str, Any], says: str) -> None:
    with pytest.raises(SequenceError, match=says):
        FileSequence(
            [write_part(tmp_path, "a", numbers, 0.0), write_part(tmp_path, "b", numbers, 0.06, **fields)], ["a", "b"]
        )


@pytest.mark.parametrize(
    ("seconds", "says"), [(0.050, "must not overlap"), (0.0, "must not overlap"), (4000.0, "at most 3600 s apart")]
)
def test_files_that_overlap_or_lie_far_apart_are_refused(
    tmp_path: Path, numbers: Any, seconds: float, says: str
) -> None:
    with pytest.raises(SequenceError, match=says):
        FileSequence([write_part(tmp_path, "a", numbers, 0.0), write_part(tmp_path, "b", numbers, seconds)], ["a", "b"])


def test_no_files_are_refused() -> None:
    with pytest.raises(SequenceError, match="no files"):
        FileSequence([])
