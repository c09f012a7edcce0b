"""``edgefilter replay`` with split files, invalid stores and Ctrl-C."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import edgefilter
from tests.helpers.recorded_files import sigproc

TSAMP = 0.001
DISPERSION = 4148.808  # s MHz2 cm3/pc
EPOCH = 58000.25
FAST_OPTIONS = ("--dm", "0:300", "--set", "block.rows=512", "--no-report")


def sky(samples: int = 2000, at: float = 0.95, dm: float = 200.0) -> np.ndarray:
    """Return 64 channels of noise, 1500 MHz and 4 MHz apart downwards, with a pulse at ``at`` s at 1500 MHz."""
    numbers = np.random.default_rng(3).normal(100, 10, (samples, 1, 64))
    mhz = 1500.0 - 4.0 * np.arange(64)
    rows = np.round((at + DISPERSION * dm * (mhz**-2 - 1500.0**-2)) / TSAMP).astype(int)
    for delay in range(3):
        numbers[rows + delay, 0, np.arange(64)] += 25
    return np.clip(numbers, 0, 255).astype(np.uint8)


def write_part(path: Path, numbers: np.ndarray, start: int, stop: int, **fields: object) -> Path:
    """Write samples ``[start, stop)`` of a recording to a file."""
    header = {"tsamp": TSAMP, "foff": -4.0, "tstart": EPOCH + start * TSAMP / 86400} | fields
    return sigproc(path, numbers[start:stop], 8, **header)


def read_objects(store: Path) -> dict[str, bytes]:
    found = (path for path in store.rglob("*") if path.is_file())
    return {str(path.relative_to(store)): path.read_bytes() for path in found if ".tmp" not in path.parts}


def test_a_pulse_across_two_files_is_found(run_cli, tmp_path):
    numbers = sky()
    first = write_part(tmp_path / "a.fil", numbers, 0, 1000)
    second = write_part(tmp_path / "b.fil", numbers, 1000, 2000)
    whole = write_part(tmp_path / "whole.fil", numbers, 0, 2000)
    assert run_cli("replay", second, first, "--store", tmp_path / "two", *FAST_OPTIONS)[0] == 0
    assert run_cli("replay", whole, "--store", tmp_path / "one", *FAST_OPTIONS)[0] == 0
    assert read_objects(tmp_path / "two") == read_objects(tmp_path / "one")
    top = max(edgefilter.open_store(tmp_path / "two").table("pulses").to_pylist(), key=lambda row: row["snr"])
    assert top["dm"] == pytest.approx(200, abs=10)
    assert top["seconds"] == pytest.approx(0.95, abs=0.005)


def test_a_gap_between_files_is_reported_and_in_the_account(run_cli, tmp_path):
    numbers = sky()
    first = write_part(tmp_path / "a.fil", numbers, 0, 1000)
    second = write_part(tmp_path / "b.fil", numbers, 1100, 2000)
    status, out, err = run_cli("replay", first, second, "--store", tmp_path / "store", *FAST_OPTIONS)
    assert status == 0
    assert "a gap of 100 samples" in err
    assert "2000 expected = 1900 received + 100 lost" in out


@pytest.mark.parametrize(
    ("start", "fields"), [(900, {}), (1000, {"fch1": 1400.0}), (1000, {"tstart": EPOCH + 30}), (1000, {"tsamp": 0.002})]
)
def test_files_of_different_streams_are_refused(run_cli, tmp_path, start, fields):
    numbers = sky()
    first = write_part(tmp_path / "a.fil", numbers, 0, 1000)
    second = write_part(tmp_path / "b.fil", numbers, start, 2000, **fields)
    status, _, err = run_cli("replay", first, second, "--store", tmp_path / "store", *FAST_OPTIONS)
    assert status == 1
    assert len(err.strip().splitlines()) == 1
    assert str(second) in err
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("store", ["", "file", "file/below"])
def test_an_invalid_store_is_one_line_of_error(run_cli, tmp_path, store):
    (tmp_path / "file").touch()
    recording = write_part(tmp_path / "a.fil", sky(), 0, 1000)
    status, out, err = run_cli("replay", recording, "--store", tmp_path / store if store else "", *FAST_OPTIONS)
    assert status == 1
    assert not out
    assert len(err.strip().splitlines()) == 1
    assert "store" in err


def test_an_interrupted_replay_leaves_whole_objects_and_can_be_repeated(run_cli, tmp_path):
    numbers = np.random.default_rng(5).integers(80, 120, (8000, 1, 64), dtype=np.uint8)
    recording = write_part(tmp_path / "a.fil", numbers, 0, len(numbers))
    words = ["replay", str(recording), *FAST_OPTIONS, "--store"]
    assert run_cli(*words, tmp_path / "whole")[0] == 0
    # The process interrupts itself after its third block, so that it always stops in the middle.
    script = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # processes of a background shell ignore it
        "from edgefilter.products.totals import RunTotals\n"
        "add = RunTotals.add\n"
        "def interrupting(self, block):\n"
        "    add(self, block)\n"
        "    if self.counts['blocks'] == 3: os.kill(os.getpid(), signal.SIGINT)\n"
        "RunTotals.add = interrupting\n"
        "from edgefilter.cli.main import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *words, str(tmp_path / "cut")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 130
    assert done.stderr.splitlines()[-1] == "edgefilter: interrupted"
    assert "Traceback" not in done.stderr
    whole, cut = read_objects(tmp_path / "whole"), read_objects(tmp_path / "cut")
    assert 0 < len(cut) < len(whole)
    assert cut.items() <= whole.items()
    assert run_cli(*words, tmp_path / "cut")[0] == 0
    assert read_objects(tmp_path / "cut") == whole
