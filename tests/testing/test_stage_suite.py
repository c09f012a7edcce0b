"""The conformance suite of stages: it passes for the example, and fails for a stage that breaks a rule."""

import itertools
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pytest

from edgefilter.core.cells import Rows
from edgefilter.core.errors import PluginError
from edgefilter.core.stage_settings import ReductionSection
from edgefilter.products.base import column
from edgefilter.stages.base import StagePlugin
from edgefilter.testing.stage import StageSuite
from tests.helpers.packages import make_package

EXAMPLE = Path(__file__).parents[1] / "plugins" / "edgefilter-example"


class Settings(ReductionSection):
    """No settings."""


class Mean:
    """The mean of the rows of a block and of the eight before it; subclasses break one rule each."""

    history, lookahead = 8, 0

    def __init__(self, plan, settings, backend) -> None:
        self.backend = backend

    def reduce(self, rows: Rows):
        return {"value": [float(np.sum(rows.stokes * rows.weight) / max(1, np.sum(rows.weight)))]}


class Remembers(Mean):
    """Depends on earlier blocks, which a restart does not see."""

    total = 0.0

    def reduce(self, rows: Rows):
        self.total += super().reduce(rows)["value"][0]
        return {"value": [self.total]}


class Random(Mean):
    def reduce(self, rows: Rows):
        return {"value": [float(np.random.default_rng().normal())]}


class CountsCalls(Mean):
    """Depends on what the process did before."""

    calls = itertools.count()

    def reduce(self, rows: Rows):
        return {"value": [float(next(self.calls))]}


class CutsSums(Mean):
    """Adds up in ranges, which are cut elsewhere with another number of threads."""

    def reduce(self, rows: Rows):
        parts: list[tuple[int, np.float32]] = []
        values = (rows.stokes[0] * rows.weight).ravel()
        self.backend.parallel_for(
            len(values), lambda start, stop: parts.append((start, np.add.reduce(values[start:stop] / np.float32(3))))
        )
        return {"value": [float(sum(part for _, part in sorted(parts)))]}


class NoRows(Mean):
    def reduce(self, rows: Rows):
        return None


class Divides(Mean):
    """Fails where all is lost."""

    def reduce(self, rows: Rows):
        return {"value": [1 // int(np.sum(rows.weight) > 0)]}


BROKEN = {
    "test_a_reduction_gives_the_same_table_each_time": [Random, CountsCalls],
    "test_the_table_does_not_depend_on_the_first_block": [Remembers],
    "test_the_table_does_not_depend_on_the_number_of_threads": [CutsSums],
    "test_the_table_has_rows": [NoRows],
    "test_a_stream_of_which_all_is_lost": [Divides],
}
STAGES = {"mean": Mean, **{kind.__name__.lower(): kind for kinds in BROKEN.values() for kind in kinds}}


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a package with all stages of this module, and the example."""
    module = ModuleType("stages_of_others")
    for name, kind in STAGES.items():
        plugin = StagePlugin(Settings, kind, (column("value", pa.float64(), "", "a number"),))
        setattr(module, name, plugin)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    entries = {name: f"{module.__name__}:{name}" for name in STAGES} | {
        "gain_drift": "edgefilter_example.gain_drift:PLUGIN"
    }
    monkeypatch.syspath_prepend(make_package(tmp_path, "of-others", {"edgefilter.stages": entries}))
    monkeypatch.syspath_prepend(EXAMPLE)


class TestGainDrift(StageSuite):
    name = "gain_drift"
    settings = {"seconds": 0.3}  # noqa: RUF012 - as users write it


class TestMean(StageSuite):
    name = "mean"


@pytest.mark.parametrize(("test", "kind"), [(test, kind) for test, kinds in BROKEN.items() for kind in kinds])
def test_the_suite_finds_a_stage_that_breaks_a_rule(test: str, kind: type[Mean]) -> None:
    suite = type("Suite", (StageSuite,), {"name": kind.__name__.lower()})()
    with pytest.raises((AssertionError, PluginError)):
        getattr(suite, test)()
