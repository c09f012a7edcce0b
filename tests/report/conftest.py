"""A small store, its page, and the program that writes it."""

import sys
from pathlib import Path

import pytest

from benchmarks.report import SimulatedRun, write_simulated_run
from edgefilter.cli.main import main
from edgefilter.report.page import write_report
from edgefilter.store.reader import StoreReader, open_store


@pytest.fixture(scope="session")
def simulated_run() -> SimulatedRun:
    return SimulatedRun(blocks=30, channels=64, cutouts=2)


@pytest.fixture(scope="session")
def store(simulated_run: SimulatedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "store"
    write_simulated_run(folder, simulated_run)
    return folder


@pytest.fixture(scope="session")
def reader(store: Path) -> StoreReader:
    return open_store(store)


@pytest.fixture(scope="session")
def page(reader: StoreReader, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(reader, tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture
def run_cli(monkeypatch, capsys):
    """Run the program; return exit status, standard output and standard error."""

    def run(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["edgefilter", *map(str, words)])
        status = 0
        try:
            main()
        except SystemExit as ending:
            status = int(ending.code or 0)
        return status, *capsys.readouterr()

    return run
