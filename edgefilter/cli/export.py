"""``edgefilter export``: write products of a store in standard formats."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from edgefilter.cli.options import StoreArgument
from edgefilter.cli.plot import PulseArgument, StreamOption, pick_pulse
from edgefilter.core.errors import PluginError
from edgefilter.plugins import Group, Plugin, find_plugins, get_plugin


def command(
    what: Annotated[str, typer.Argument(metavar="FORMAT", help="Format, see above.")],
    store: StoreArgument,
    pulse: PulseArgument = "1",
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write.", show_default="FORMAT.csv, .vot, .fits, …")
    ] = None,
    stream: StreamOption = None,
) -> None:
    """Export candidates, spectra or one pulse in a standard format."""
    # Imported here: pyarrow takes seconds to import, and --help does not need it.
    from edgefilter.analysis.archive import open_store
    from edgefilter.analysis.export.base import Export, PulseExport

    plugin = get_plugin(Group.EXPORTS, what)
    export = plugin.load_as(Export)
    archive = open_store(store)
    path = out or Path(f"{what}.{export.suffix}")
    with plugin.errors_in_one_line():
        if isinstance(export, PulseExport):
            export.write(pick_pulse(archive, pulse), path)
        else:
            export.write(archive, path, stream)
    typer.echo(f"{what} of {archive.location} written to {path}")


class Command(TyperCommand):
    """The command, whose help lists the installed formats."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help; only here the plug-ins are loaded."""
        short = self.help
        self.help = "\n".join([f"{short}\n", *map(_help_line, find_plugins(Group.EXPORTS).values())])
        super().format_help(ctx, formatter)
        self.help = short


def _help_line(plugin: Plugin) -> str:
    from rich.markup import escape

    from edgefilter.analysis.export.base import Export

    try:
        summary = plugin.load_as(Export).summary + ("" if plugin.own else f" ({plugin.provenance})")
    except PluginError as error:
        summary = f"broken: {error}"
    return escape(f"{plugin.name:<12} {summary}")
