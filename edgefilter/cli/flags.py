"""``edgefilter flags``: what would be flagged in a file, with and without some flaggers, and a picture of it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from edgefilter.cli.options import SetOption, ThreadsOption, overrides
from edgefilter.core.config import NodeConfig, load
from edgefilter.core.errors import ConfigError
from edgefilter.core.validation import validate

if TYPE_CHECKING:
    from edgefilter.analysis.flag_comparison import FlagCase

_FLAGGERS = ("mask", "zero_dm", "kurtosis", "power", "carrier", "channel")


def command(
    files: Annotated[list[Path], typer.Argument(help="Recorded files of one stream; the first block is looked at.")],
    without: Annotated[
        list[str] | None, typer.Option(help=f"Flagger to switch off: {', '.join(_FLAGGERS)}. May be given again.")
    ] = None,
    block: Annotated[int, typer.Option(min=0, help="Which block.")] = 0,
    picture: Annotated[Path | None, typer.Option(help="PNG of the masks side by side.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML configuration.")] = None,
    assignments: SetOption = None,
    threads: ThreadsOption = 0,
) -> None:
    """Show what each flagger takes of a block, and what it costs pulses and lines that are put in."""
    for name in without or ():
        if name not in _FLAGGERS:
            raise ConfigError(f"--without {name}: must be one of {', '.join(_FLAGGERS)}")
    if picture is not None and picture.suffix.lower() != ".png":
        raise ConfigError(f"--picture {picture}: must end in .png")
    # Imported here, because numba and scipy take seconds that --help need not wait.
    from edgefilter.analysis.flag_comparison import compare_flaggers, plot_comparison
    from edgefilter.sources.files.recognise import open_files

    values = overrides(assignments)
    settings = load(config, values) if config else validate(NodeConfig, {}, values, where="settings")
    source = open_files(files)
    try:
        cases = compare_flaggers(source, settings, tuple(without or ()), block, threads)
    finally:
        source.close()
    Console().print(_table(cases))
    if picture is not None:
        plot_comparison(cases, picture)
        typer.echo(f"picture: {picture}")


def _table(cases: list["FlagCase"]) -> Table:
    table = Table(title="cells flagged, and signal-to-noise ratio that put-in signals lose (%)", title_justify="left")
    table.add_column("")
    for case in cases:
        table.add_column(case.name, justify="right")
    for name in cases[0].flagged:
        table.add_row(name, *(f"{100 * case.flagged[name]:.3f}" for case in cases))
    for name in cases[0].cost:
        table.add_row(f"lost: {name}", *(f"{100 * case.cost[name]:.3f}" for case in cases))
    return table
