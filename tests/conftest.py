"""Fixtures that all tests share."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

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
