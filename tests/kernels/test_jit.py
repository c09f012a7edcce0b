"""Compiled kernels are kept where several processes find them, and never outlive their source."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import edgefilter_kernels
from edgefilter_kernels.jit import _sources

PROGRAM = """
import sys
import numpy as np
from edgefilter_kernels.jit import watch_compilations
from edgefilter_kernels.filterbank.unpack import zero_nonfinite
compiled = []
with watch_compilations(compiled.append):
    for kind in {kinds}:
        power = np.full((2, 3, 2), np.nan, np.float32)
        flags = np.zeros((2, 3), kind)
        zero_nonfinite(power, flags, 1)
        assert flags.all() and not power.any()
print(*compiled)
"""


def start(folder: Path, *kinds: str, kernels: Path | None = None) -> "subprocess.Popen[str]":
    environment = os.environ | {"NUMBA_CACHE_DIR": str(folder)}
    if kernels:
        environment["PYTHONPATH"] = str(kernels)
    program = PROGRAM.format(kinds=kinds or ["uint16"])
    return subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True)


def compiled_kernels(process: "subprocess.Popen[str]") -> list[str]:
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return out.split()


@pytest.fixture
def kernels(tmp_path: Path) -> Path:
    """A copy of the package that a test may change."""
    folder = tmp_path / "kernels"
    shutil.copytree(Path(edgefilter_kernels.__file__).parent, folder / "edgefilter_kernels")
    return folder


def test_processes_that_compile_at_once_all_leave_something_that_can_be_loaded(tmp_path: Path) -> None:
    kinds = ["uint16", "uint8", "int32"]
    for process in [start(tmp_path, kind) for kind in kinds]:
        assert compiled_kernels(process) == ["zero_nonfinite"]
    assert compiled_kernels(start(tmp_path, *kinds)) == []


def test_a_change_of_what_a_file_imports_makes_the_kept_code_stale_and_of_others_does_not(
    tmp_path: Path, kernels: Path
) -> None:
    assert compiled_kernels(start(tmp_path, kernels=kernels)) == ["zero_nonfinite"]
    for name, compiled in (("search/boxcar", []), ("jit", ["zero_nonfinite"])):
        path = kernels / "edgefilter_kernels" / f"{name}.py"
        path.write_text(path.read_text() + "\n")
        assert compiled_kernels(start(tmp_path, kernels=kernels)) == compiled


def test_imports_are_followed_however_they_are_written() -> None:
    names = {path.stem for path in _sources(Path(edgefilter_kernels.__file__).parent / "filterbank" / "pfb.py")}
    assert names == {"fft", "fir", "float8", "jit", "pfb", "unpack", "workspace"}


def test_damaged_files_are_compiled_anew(tmp_path: Path) -> None:
    assert compiled_kernels(start(tmp_path)) == ["zero_nonfinite"]
    for path in tmp_path.rglob("*.nb[ci]"):
        path.write_bytes(path.read_bytes()[:40])
    assert compiled_kernels(start(tmp_path)) == ["zero_nonfinite"]
    assert compiled_kernels(start(tmp_path)) == []


def test_where_nothing_can_be_written_it_costs_time_alone(
    tmp_path: Path, kernels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "file"
    place.write_text("not a folder")
    beside = kernels / "edgefilter_kernels" / "filterbank" / "__pycache__"
    shutil.rmtree(beside, ignore_errors=True)
    beside.write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(place))
    for _ in range(2):
        assert compiled_kernels(start(place / "cache", kernels=kernels)) == ["zero_nonfinite"]
