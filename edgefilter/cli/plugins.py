"""``edgefilter plugins``: list the installed plug-ins, and say which are broken."""

import inspect
import json
from collections.abc import Callable
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgefilter.core.errors import PluginError
from edgefilter.plugins import Group, Plugin, find_plugins


def command(
    strict: Annotated[bool, typer.Option("--strict", help="Exit status 1 if one is broken.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the installed stages, file formats, live inputs, stores and exports.

    Each with its package and with what it brings, or why it cannot be used.
    """
    rows = [row for group in Group for row in _rows(group)]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    else:
        Console().print(_table(rows))
    if strict and any(row["problem"] for row in rows):
        raise typer.Exit(1)


def _rows(group: Group) -> list[dict[str, str]]:
    try:
        plugins = find_plugins(group).values()
    except PluginError as error:
        unknown = Plugin(group, "", "", "", "")
        return [_row(unknown, "", str(error))]
    return [_describe(plugin) for plugin in plugins]


def _describe(plugin: Plugin) -> dict[str, str]:
    try:
        summary = _load(plugin)
    except Exception as error:  # whatever the plug-in raises; of ours, what is not installed
        text = str(error) if isinstance(error, PluginError) else f"{type(error).__name__}: {error}"
        return _row(plugin, "", " ".join(text.removeprefix(plugin.title).lstrip(": ").split()))
    unused = f" (not used: {plugin.name} of {plugin.conflict})" if plugin.conflict else ""
    return _row(plugin, summary + unused, "")


def _row(plugin: Plugin, summary: str, problem: str) -> dict[str, str]:
    return {
        "kind": plugin.group.what,
        "name": plugin.name,
        "package": plugin.package,
        "version": plugin.version,
        "summary": summary,
        "problem": problem,
    }


def _load(plugin: Plugin) -> str:
    """Import a plug-in, and return what it brings in one line."""
    from edgefilter.analysis.export.base import Export
    from edgefilter.pipeline.plugin_stages import load_stage
    from edgefilter.sources.base import FileFormat
    from edgefilter.sources.live.base import LiveInput

    if plugin.group is Group.SOURCES:
        return str(plugin.load_as(FileFormat).summary)
    if plugin.group is Group.EXPORTS:
        return str(plugin.load_as(Export).summary)
    described: object
    if plugin.group is Group.STAGES:
        described = load_stage(plugin).settings
    elif plugin.group is Group.INPUTS:
        described = plugin.load_class(LiveInput)  # type: ignore[type-abstract]
    else:
        described = plugin.load_as(Callable)  # type: ignore[arg-type]
    return (inspect.getdoc(described) or "").partition("\n")[0].replace("``", "")


def _table(rows: list[dict[str, str]]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    for kind in dict.fromkeys(row["kind"] for row in rows):
        table.add_row(Text(f"{kind}s", "bold"))
        for row in rows:
            if row["kind"] == kind:
                what = Text(f"broken: {row['problem']}", "red") if row["problem"] else Text(row["summary"])
                table.add_row(Text(f"  {row['name']}"), Text(f"{row['package']} {row['version']}"), what)
    return table
