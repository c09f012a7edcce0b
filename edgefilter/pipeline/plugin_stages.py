"""The stages of plug-ins within a reduction: their windows of rows, their results, and their tables."""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from edgefilter.compute.threads import ThreadBackend
from edgefilter.core.cells import Rows
from edgefilter.core.config import NodeConfig
from edgefilter.core.errors import PluginError
from edgefilter.core.node_sections import StreamSection
from edgefilter.core.plan import Plan, resolve
from edgefilter.plugins import Plugin
from edgefilter.products.base import COMMON, START, BlockInputs, Priority, Table, block_schema, make_table
from edgefilter.products.naming import CONFIGS, CUTOUTS, STREAMS
from edgefilter.products.schemas import TABLES
from edgefilter.stages.base import Stage, StagePlugin

Columns = Mapping[str, Sequence[Any]]


class PluginStages:
    """The stages of plug-ins that the settings of a plan name.

    Parameters
    ----------
    plan
        Layout of the reduction.
    compute
        Threads that the stages may use.

    Attributes
    ----------
    blocks_before, blocks_after
        Blocks before and after a block whose rows the stages need.

    Raises
    ------
    PluginError
        If a stage is not installed, cannot be made, or declares no valid window.
    """

    def __init__(self, plan: Plan, compute: ThreadBackend) -> None:
        self._stages: list[tuple[Plugin, Stage]] = []
        sections = plan.settings.stages.sections().values()
        for settings, plugin in zip(sections, plan.settings.stages.plugins(), strict=True):
            made = load_stage(plugin)
            with plugin.errors_in_one_line("cannot be made"):
                stage = made.make(plan, settings, compute)
                windows = stage.history, stage.lookahead
            if any(not isinstance(rows, int | np.integer) or rows < 0 for rows in windows):
                raise PluginError(f"{plugin.title}: history and lookahead are {windows}, must be numbers of rows")
            self._stages.append((plugin, stage))
        self.blocks_before = -(-max((stage.history for _, stage in self._stages), default=0) // plan.rows_per_block)
        self.blocks_after = -(-max((stage.lookahead for _, stage in self._stages), default=0) // plan.rows_per_block)

    def reduce(self, block: int, nearby: Sequence[Rows | None], here: Rows) -> dict[str, Columns]:
        """Reduce a block.

        Parameters
        ----------
        block
            Number of the block.
        nearby
            Rows of the blocks ``[block - blocks_before, block + blocks_after]``; None where there is no block.
        here
            Rows of the block.

        Returns
        -------
        dict
            Columns of the table by the name of the stage, without the stages that returned None.

        Raises
        ------
        PluginError
            If a stage fails.
        """
        found = {}
        for plugin, stage in self._stages:
            with plugin.errors_in_one_line(f"failed at block {block}"):
                rows = Rows.join(nearby, here.start - stage.history, here.stop + stage.lookahead, here)
                result = stage.reduce(rows)
            if result is not None:
                found[plugin.name] = result
        return found


def check_stages(config: NodeConfig, section: StreamSection) -> None:
    """Check the stages of a node before its stream comes.

    They are made for the stream that the configuration describes, if it describes one: an expected header.

    Parameters
    ----------
    config
        Configuration of the node.
    section
        Section of the stream.

    Raises
    ------
    EdgefilterError
        If a stage cannot be imported, breaks its contract or cannot be made.
    """
    plugins = config.stages.plugins()
    for plugin in plugins:
        load_stage(plugin)
    if plugins and section.rate_hz is not None:
        stream = section.stream()
        with ThreadBackend(1) as compute:
            PluginStages(Plan(stream, resolve(config, stream)), compute)


def load_stage(plugin: Plugin) -> StagePlugin:
    """Import the stage of a plug-in and check what it declares.

    Parameters
    ----------
    plugin
        An entry point of the group ``edgefilter.stages``.

    Returns
    -------
    StagePlugin
        The stage.

    Raises
    ------
    PluginError
        If it cannot be imported, or its name or columns cannot be those of a table.
    """
    stage: StagePlugin = plugin.load_as(StagePlugin)
    taken = {*TABLES, CUTOUTS, STREAMS, CONFIGS}
    if not re.fullmatch(r"[a-z][a-z0-9_]*", plugin.name) or plugin.name in taken:
        raise PluginError(
            f"{plugin.title}: its name is that of its table, so it must be lower-case letters, digits and _, and none "
            f"of {', '.join(sorted(taken))}"
        )
    names = [field.name for field in (*COMMON, *START, *stage.columns)]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise PluginError(f"{plugin.title}: two columns are called {', '.join(twice)}")
    if bare := [field.name for field in stage.columns if not {b"unit", b"description"} <= set(field.metadata or {})]:
        raise PluginError(f"{plugin.title}: columns without unit and description: {', '.join(bare)}")
    return stage


def plugin_tables(plan: Plan) -> tuple[Table, ...]:
    """Return the tables of the stages that the settings of a plan name.

    Parameters
    ----------
    plan
        Layout of the reduction.

    Returns
    -------
    tuple of Table
        Sorted by name.
    """
    tables = []
    for plugin in plan.settings.stages.plugins():
        stage = load_stage(plugin)
        schema = block_schema(*START, *stage.columns)
        priority = Priority.EXTRA if stage.droppable else Priority.CANDIDATES
        tables.append(Table(plugin.name, schema, priority, partial(_build, plugin, stage, schema)))
    return tuple(tables)


def packages(plan: Plan) -> tuple[str, ...]:
    """Return the packages of others that take part in a reduction: those that read the stream, and those of stages.

    Parameters
    ----------
    plan
        Layout of the reduction.

    Returns
    -------
    tuple of str
        Packages and versions, sorted, each once.
    """
    return tuple(sorted({*plan.packages, *(plugin.provenance for plugin in plan.settings.stages.plugins())}))


def _build(plugin: Plugin, stage: StagePlugin, schema: pa.Schema, inputs: BlockInputs) -> pa.Table | None:
    columns = inputs.reduced.stage_results.get(plugin.name)
    if columns is None:
        return None
    if not isinstance(columns, Mapping):
        raise PluginError(f"{plugin.title}: returned a {type(columns).__name__}, must be columns by name")
    wanted = [field.name for field in stage.columns]
    if set(columns) != set(wanted):
        raise PluginError(f"{plugin.title}: returned columns {', '.join(columns)}, must be {', '.join(wanted)}")
    with plugin.errors_in_one_line("returned values that do not fit its columns"):
        if len(lengths := {len(values) for values in columns.values()}) != 1:
            raise PluginError(f"{plugin.title}: returned columns of {sorted(lengths)} values, all must be equally long")
        return make_table(schema, inputs.provenance, inputs.block, columns)
