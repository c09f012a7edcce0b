"""Stages of plug-ins in a reduction: their windows, their tables, and one clear line for each mistake in one."""

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pytest

from edgefilter.compute.threads import ThreadBackend
from edgefilter.core.config import NodeConfig
from edgefilter.core.errors import EdgefilterError, PluginError
from edgefilter.core.plan import Plan, resolve
from edgefilter.core.stage_settings import ReductionSection
from edgefilter.core.validation import validate
from edgefilter.pipeline.plugin_stages import packages, plugin_tables
from edgefilter.pipeline.product_builder import ProductBuilder
from edgefilter.pipeline.reducer import Reducer
from edgefilter.pipeline.resource_budget import ResourceBudget
from edgefilter.products.base import Priority, column
from edgefilter.stages.base import StagePlugin
from tests.helpers.packages import make_package
from tests.helpers.recordings import POWER, MemorySource, power

VALUE = (column("value", pa.float64(), "K", "a number"),)


class Settings(ReductionSection):
    """One number."""

    rows: int = 0


class Stage:
    """Reports the first and the last row of its window that holds data."""

    def __init__(self, plan, settings, backend) -> None:
        self.history = self.lookahead = settings.rows

    def reduce(self, rows):
        seen = np.flatnonzero(rows.weight.any(axis=1))
        return {"first": [rows.start + int(seen[0])], "last": [rows.start + int(seen[-1])]}


WINDOW = StagePlugin(Settings, Stage, tuple(column(name, pa.int64(), "", "a row") for name in ("first", "last")), False)


def install(plugin: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str = "thing") -> None:
    module = ModuleType("brought")
    module.PLUGIN = plugin  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "brought", module)
    monkeypatch.syspath_prepend(make_package(tmp_path, "other", {"edgefilter.stages": {name: "brought:PLUGIN"}}))


def plan_with(stages: dict) -> tuple[Plan, MemorySource]:
    _, recording = power()
    settings = resolve(validate(NodeConfig, POWER | {"stages": stages}), recording.stream, recording.samples)
    return Plan(recording.stream, settings, ("reader 2.0",)), recording


def reduce(plan: Plan, recording: MemorySource) -> dict[int, dict]:
    builder, made = ProductBuilder(plan, "node", "1"), {}
    with ThreadBackend(1) as backend:
        reducer = Reducer(plan, backend)
        blocks = []
        while reducer.next_input_block * plan.samples_per_block < recording.samples:
            blocks += reducer.feed(recording.read(*reducer.window(reducer.next_input_block)))
        for block in [*blocks, *reducer.finish()]:
            made[block.block] = dict(block.stage_results)
            builder.build(block)
    return made


@pytest.mark.parametrize("rows", [0, 1, 512, 700])
def test_a_stage_gets_the_rows_that_it_declares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    install(WINDOW, tmp_path, monkeypatch)
    plan, recording = plan_with({"thing": {"rows": rows}})
    length, last_row = plan.rows_per_block, recording.samples // plan.samples_per_row - 1
    for block, results in reduce(plan, recording).items():
        first, last = block * length - rows, (block + 1) * length - 1 + rows
        assert results == {"thing": {"first": [max(first, 0)], "last": [min(last, last_row)]}}


def test_long_windows_count_in_latency_and_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(WINDOW, tmp_path, monkeypatch)
    small, large = (ResourceBudget.from_plan(plan_with({"thing": {"rows": rows}})[0]) for rows in (0, 512 * 20))
    assert large.history_blocks == 20
    assert large.latency_seconds > small.latency_seconds


def test_its_table_says_who_made_it_and_whether_it_may_be_dropped(tmp_path, monkeypatch) -> None:
    install(WINDOW, tmp_path, monkeypatch)
    plan, _ = plan_with({"thing": {}})
    (table,) = plugin_tables(plan)
    assert (table.name, table.priority) == ("thing", Priority.CANDIDATES)
    assert packages(plan) == ("other 1.0", "reader 2.0")
    assert [made.name for made in ProductBuilder(plan, "node", "1").tables][-2:] == ["thing", "ledger"]


def test_without_stages_nothing_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = NodeConfig().digest()
    install(object(), tmp_path, monkeypatch)  # broken, and not used
    assert NodeConfig().digest() == before
    plan, recording = plan_with({})
    assert set(map(len, reduce(plan, recording).values())) == {0}


def stage(reduce=None, make=None, columns=VALUE, settings=Settings) -> StagePlugin:
    made = make or (lambda *_: type("S", (), {"history": 0, "lookahead": 0, "reduce": staticmethod(reduce)})())
    return StagePlugin(settings, made, columns)


def fails(*_: object) -> None:
    raise ZeroDivisionError("oh\nno")


@pytest.mark.parametrize(
    ("plugin", "message"),
    [
        (stage(fails), "failed at block 0: ZeroDivisionError: oh no"),
        (stage(make=fails), "cannot be made: ZeroDivisionError: oh no"),
        (stage(lambda rows: {"other": [1]}), "returned columns other, must be value"),
        (stage(lambda rows: [1]), "returned a list, must be columns by name"),
        (stage(lambda rows: {"value": 1}), "returned values that do not fit its columns: TypeError"),
        (stage(lambda rows: {"value": ["a"]}), "returned values that do not fit its columns: ArrowInvalid"),
        (
            stage(lambda rows: {"value": [1], "b": [1, 2]}, columns=(*VALUE, column("b", pa.int64(), "", "x"))),
            "returned columns of [1, 2] values, all must be equally long",
        ),
        (stage(columns=(pa.field("value", pa.int64()),)), "columns without unit and description: value"),
        (stage(columns=(column("block", pa.int64(), "", "x"),)), "two columns are called block"),
        (stage(make=lambda *_: object()), "cannot be made: AttributeError"),
        (
            stage(make=lambda *_: type("S", (), {"history": -1, "lookahead": 0.5})()),
            "history and lookahead are (-1, 0.5), must be numbers of rows",
        ),
        (stage(settings=dict), "brought:PLUGIN.settings must be a subclass of ReductionSection"),
        ("text", "brought:PLUGIN.settings must be a subclass of ReductionSection"),
    ],
)
def test_a_mistake_of_a_stage_is_one_line(tmp_path, monkeypatch, plugin: object, message: str) -> None:
    install(plugin, tmp_path, monkeypatch)
    with pytest.raises(EdgefilterError) as caught:
        reduce(*plan_with({"thing": {}}))
    assert str(caught.value).startswith(("stage 'thing' of other 1.0", "settings: stages: stage 'thing' of other 1.0"))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["pulses", "cutouts", "Thing", "a-b"])
def test_the_name_of_a_stage_must_be_that_of_a_table(tmp_path, monkeypatch, name: str) -> None:
    install(WINDOW, tmp_path, monkeypatch, name)
    with pytest.raises(PluginError, match="its name is that of its table"):
        plugin_tables(plan_with({name: {}})[0])
