"""A small store and its page."""

from pathlib import Path

import pytest

from benchmarks.report import SimulatedRun, write_simulated_run
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
