"""``edgefilter flags``: the flags of one block of a recording, with and without some flaggers."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from edgefilter.cli.options import FilesArgument, SetOption, ThreadsOption, read_settings
from edgefilter.core.errors import ConfigError

if TYPE_CHECKING:
    from edgefilter.analysis.flag_comparison import FlagCase

_FLAGGERS = ("mask", "zero_dm", "kurtosis", "power", "carrier", "channel")
"""Names of ``core.cells.FLAGGERS``, which would import numpy; a test compares them."""


def command(
    files: FilesArgument,
    without: Annotated[
        list[str] | None,
        typer.Option(metavar="FLAGGER", help=f"Also flag without this flagger: {', '.join(_FLAGGERS)}; repeatable."),
    ] = None,
    block: Annotated[int, typer.Option(min=0, help="Number of the block to flag, from 0.")] = 0,
    picture: Annotated[Path | None, typer.Option(help="PNG file to draw the flags to, case by case.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML configuration.", show_default="settings follow from the file header")
    ] = None,
    assignments: SetOption = None,
    threads: ThreadsOption = 0,
) -> None:
    """Show how much of a block each flagger flags, and what flagging costs real signals.

    The cost is measured on pulses and spectral lines of 0.5, 3 and 30 sigma that
    are injected into the block: the part of their signal-to-noise ratio that is
    lost.
    """
    for name in without or ():
        if name not in _FLAGGERS:
            raise ConfigError(f"--without {name}: must be one of {', '.join(_FLAGGERS)}")
    if picture is not None and picture.suffix.lower() != ".png":
        raise ConfigError(f"--picture {picture}: must end in .png")
    # Imported here: numba and scipy take seconds to import, and --help does not need them.
    from edgefilter.analysis.flag_comparison import compare_flaggers, plot_comparison
    from edgefilter.sources.files.recognise import open_files

    settings = read_settings(config, assignments)
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
    table = Table(title="cells flagged (%), and S/N that injected signals lose (%)", title_justify="left")
    table.add_column("")
    for case in cases:
        table.add_column(case.name, justify="right")
    for name in cases[0].flagged:
        table.add_row(name, *(f"{100 * case.flagged[name]:.3f}" for case in cases))
    for name in cases[0].cost:
        table.add_row(f"lost: {name}", *(f"{100 * case.cost[name]:.3f}" for case in cases))
    return table
