"""What a user may do to the program: split files, odd stores, Ctrl-C, taken endpoints."""

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
FAST_OPTIONS = ("--dm", "0:300", "--set", "block.rows=512")


def sky(samples: int = 2000, at: float = 0.95, dm: float = 200.0) -> np.ndarray:
    """Noise of 64 channels from 1500 MHz down by 4, with a pulse that leaves 1500 MHz at a time."""
    numbers = np.random.default_rng(3).normal(100, 10, (samples, 1, 64))
    mhz = 1500.0 - 4.0 * np.arange(64)
    rows = np.round((at + DISPERSION * dm * (mhz**-2 - 1500.0**-2)) / TSAMP).astype(int)
    for delay in range(3):
        numbers[rows + delay, 0, np.arange(64)] += 25
    return np.clip(numbers, 0, 255).astype(np.uint8)


def write_part(path: Path, numbers: np.ndarray, start: int, stop: int, **fields: object) -> Path:
    """Write some samples of a recording as a file of their own."""
    header = {"tsamp": TSAMP, "foff": -4.0, "tstart": EPOCH + start * TSAMP / 86400} | fields
    return sigproc(path, numbers[start:stop], 8, **header)


def read_files(store: Path) -> dict[str, bytes]:
    found = (path for path in store.rglob("*") if path.is_file())
    return {str(path.relative_to(store)): path.read_bytes() for path in found if ".tmp" not in path.parts}


def test_a_pulse_across_two_files_is_found(run_cli, tmp_path):
    numbers = sky()
    first = write_part(tmp_path / "a.fil", numbers, 0, 1000)
    second = write_part(tmp_path / "b.fil", numbers, 1000, 2000)
    whole = write_part(tmp_path / "whole.fil", numbers, 0, 2000)
    assert run_cli("replay", second, first, "--store", tmp_path / "two", *FAST_OPTIONS)[0] == 0
    assert run_cli("replay", whole, "--store", tmp_path / "one", *FAST_OPTIONS)[0] == 0
    assert read_files(tmp_path / "two") == read_files(tmp_path / "one")
    top = max(edgefilter.open_store(tmp_path / "two").table("pulses").to_pylist(), key=lambda row: row["snr"])
    assert top["dm"] == pytest.approx(200, abs=10)
    assert top["seconds"] == pytest.approx(0.95, abs=0.005)


def test_a_gap_between_files_is_told_and_accounted(run_cli, tmp_path):
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
def test_files_that_do_not_belong_together_are_refused(run_cli, tmp_path, start, fields):
    numbers = sky()
    first = write_part(tmp_path / "a.fil", numbers, 0, 1000)
    second = write_part(tmp_path / "b.fil", numbers, start, 2000, **fields)
    status, _, err = run_cli("replay", first, second, "--store", tmp_path / "store", *FAST_OPTIONS)
    assert status == 1
    assert len(err.strip().splitlines()) == 1
    assert str(second) in err
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("store", ["", "file", "file/below"])
def test_a_store_that_cannot_be_is_refused_in_one_line(run_cli, tmp_path, store):
    (tmp_path / "file").touch()
    recording = write_part(tmp_path / "a.fil", sky(), 0, 1000)
    status, out, err = run_cli("replay", recording, "--store", tmp_path / store if store else "", *FAST_OPTIONS)
    assert status == 1
    assert not out
    assert len(err.strip().splitlines()) == 1
    assert "store" in err


def test_an_interrupted_replay_leaves_whole_objects_and_can_be_run_again(run_cli, tmp_path):
    numbers = np.random.default_rng(5).integers(80, 120, (8000, 1, 64), dtype=np.uint8)
    recording = write_part(tmp_path / "a.fil", numbers, 0, len(numbers))
    words = ["replay", str(recording), *FAST_OPTIONS, "--store"]
    assert run_cli(*words, tmp_path / "whole")[0] == 0
    # The process interrupts itself when its third block is done, so that it is always in the middle.
    script = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # what a background shell starts ignores it
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
    whole, cut = read_files(tmp_path / "whole"), read_files(tmp_path / "cut")
    assert 0 < len(cut) < len(whole)
    assert cut.items() <= whole.items()
    assert run_cli(*words, tmp_path / "cut")[0] == 0
    assert read_files(tmp_path / "cut") == whole


def test_help_does_not_wait_for_compilers():
    script = (
        "import sys, edgefilter.cli.program\n"
        "print(*sorted({'numba', 'scipy', 'astropy', 'pyarrow'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not done.stdout.strip()
