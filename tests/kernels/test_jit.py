"""The cache of compiled kernels: several processes share it, and an entry becomes stale with its source."""

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
    """Return a copy of the package that a test may change."""
    folder = tmp_path / "kernels"
    shutil.copytree(Path(edgefilter_kernels.__file__).parent, folder / "edgefilter_kernels")
    return folder


def test_processes_can_compile_at_the_same_time(tmp_path: Path) -> None:
    kinds = ["uint16", "uint8", "int32"]
    for process in [start(tmp_path, kind) for kind in kinds]:
        assert compiled_kernels(process) == ["zero_nonfinite"]
    assert compiled_kernels(start(tmp_path, *kinds)) == []


def test_an_entry_is_stale_after_a_change_of_an_imported_file_only(tmp_path: Path, kernels: Path) -> None:
    assert compiled_kernels(start(tmp_path, kernels=kernels)) == ["zero_nonfinite"]
    for name, compiled in (("search/boxcar", []), ("jit", ["zero_nonfinite"])):
        path = kernels / "edgefilter_kernels" / f"{name}.py"
        path.write_text(path.read_text() + "\n")
        assert compiled_kernels(start(tmp_path, kernels=kernels)) == compiled


def test_all_forms_of_imports_are_followed() -> None:
    names = {path.stem for path in _sources(Path(edgefilter_kernels.__file__).parent / "filterbank" / "pfb.py")}
    assert names == {
        "checks", "detect_simd", "fft", "fir", "fir_simd", "float8", "jit", "memory", "pfb", "unpack", "workspace",
    }  # fmt: skip


def test_damaged_files_are_compiled_again(tmp_path: Path) -> None:
    assert compiled_kernels(start(tmp_path)) == ["zero_nonfinite"]
    for path in tmp_path.rglob("*.nb[ci]"):
        path.write_bytes(path.read_bytes()[:40])
    assert compiled_kernels(start(tmp_path)) == ["zero_nonfinite"]
    assert compiled_kernels(start(tmp_path)) == []


def test_without_a_writable_folder_kernels_are_compiled_again(
    tmp_path: Path, kernels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_folder = tmp_path / "file"
    no_folder.write_text("not a folder")
    beside_source = kernels / "edgefilter_kernels" / "filterbank" / "__pycache__"
    shutil.rmtree(beside_source, ignore_errors=True)
    beside_source.write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(no_folder))
    for _ in range(2):
        assert compiled_kernels(start(no_folder / "cache", kernels=kernels)) == ["zero_nonfinite"]
