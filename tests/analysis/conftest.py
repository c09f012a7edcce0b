"""The run that all tests of the analysis read."""

import pytest

from edgefilter.analysis.archive import Archive
from tests.helpers.small_run import small_run


@pytest.fixture(scope="session")
def run() -> Archive:
    return small_run()
