"""Fixtures that all tests share."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from edgefilter.analysis.archive import Archive
from edgefilter.cli.main import main
from edgefilter.compute.gpu import GpuBackend
from edgefilter.core.errors import ConfigError
from edgefilter_kernels.cuda import raw
from tests.helpers.emulator import compiler
from tests.helpers.emulator.gpu import EmulatedGpuBackend
from tests.helpers.packages import Installer
from tests.helpers.small_run import small_run

RunCli = Callable[..., tuple[int, str, str]]

# The same examples in every run: a red check is one that a developer can repeat.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def data() -> Path:
    """Folder of real telescope data: required where EDGEFILTER_DATA points at it, otherwise the test skips."""
    folder = os.environ.get("EDGEFILTER_DATA")
    if not folder:
        pytest.skip("EDGEFILTER_DATA is not set: no real telescope data")
    path = Path(folder)
    if not (path / "transients").is_dir():
        pytest.fail(f"EDGEFILTER_DATA is {folder}, which holds no transients/ folder")
    return path


@pytest.fixture(params=["emulated", pytest.param("real", marks=pytest.mark.gpu)])
def gpu_backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> GpuBackend:
    """Return a backend: that of the emulated GPU, and that of a real one if there is one."""
    if request.param == "real":
        try:
            return GpuBackend()
        except ConfigError as error:
            pytest.skip(str(error))
    if shutil.which("g++") is None:
        pytest.skip("no g++ to compile the CUDA sources for the host with")
    monkeypatch.setattr(raw, "module", compiler.module)
    return EmulatedGpuBackend()


@pytest.fixture(scope="session")
def run() -> Archive:
    """Return the open store of a small run with three known pulses."""
    return small_run()


@pytest.fixture
def installer(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Installer:
    """Return an object that installs packages with plug-ins."""
    return Installer(tmp_path_factory.mktemp("installed"), monkeypatch)


@pytest.fixture
def run_cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> RunCli:
    """Return a function that runs the program and returns exit status, standard output and standard error."""

    def run_cli(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["edgefilter", *map(str, words)])
        status = 0
        try:
            main()
        except SystemExit as ending:
            status = int(ending.code or 0)
        return status, *capsys.readouterr()

    return run_cli
