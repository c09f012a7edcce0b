"""``edgefilter replay``: reduce recorded files to products."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from edgefilter.cli.options import (
    BackendOption,
    FilesArgument,
    ReportOption,
    SetOption,
    StoreOption,
    ThreadsOption,
    read_settings,
)
from edgefilter.cli.report import write_report_beside
from edgefilter.cli.show import candidates_table, compiling_line, settings_lines, summary_lines, warn

if TYPE_CHECKING:
    from edgefilter.batch.local import Replay
    from edgefilter.sources.base import Source


def command(
    files: FilesArgument,
    store: StoreOption = "store",
    config: Annotated[
        Path | None, typer.Option(help="TOML configuration.", show_default="settings follow from the file header")
    ] = None,
    dm: Annotated[
        str | None,
        typer.Option(
            metavar="LOW:HIGH",
            help="Range of dispersion measures to search, pc/cm3.",
            show_default="0:3000, or less for a short recording",
        ),
    ] = None,
    snr: Annotated[
        float | None,
        typer.Option(metavar="MIN", help="Lowest signal-to-noise ratio of a candidate.", show_default="7"),
    ] = None,
    assignments: SetOption = None,
    threads: ThreadsOption = 0,
    backend: BackendOption = None,
    report: ReportOption = True,
) -> None:
    """Reduce recorded files: flag interference, search for pulses, write a store.

    File formats: SIGPROC filterbank, PSRFITS search mode, FBH5; with the package
    "baseband" also GUPPI RAW, PSRDADA and VDIF; those of plug-ins:
    "edgefilter plugins" lists all.
    """
    # Imported here: numba and scipy take seconds to import, and --help does not need them.
    from edgefilter.batch.local import Replay
    from edgefilter.pipeline.backend import BackendSelector
    from edgefilter.sources.files.recognise import open_files

    settings = read_settings(config, assignments, dm, snr)
    source = open_files(files)
    try:
        for warning in source.warnings:
            warn(warning)
        selector = BackendSelector(
            backend or settings.node.backend,
            threads or settings.node.threads,
            lambda _, line: typer.echo(f"reducing on: {line}", err=True),
        )
        replay = Replay(source, settings, store, settings.node.name, selector)
        for line in settings_lines(replay.plan):
            typer.echo(line)
        _reduce(replay, source)
        Console().print(candidates_table(replay.totals, replay.plan))
        for line in summary_lines(replay.totals.counts, store):
            typer.echo(line)
        if report:
            typer.echo(write_report_beside(store))
    finally:
        source.close()


def _reduce(replay: "Replay", source: "Source") -> None:
    """Reduce all blocks; show progress as a bar on a terminal, else as a line for each tenth."""
    from edgefilter_kernels.jit import watch_compilations

    seconds = source.stream.seconds(source.samples)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.1f} of {task.total:.1f} s"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
        transient=True,
    )
    # A terminal's bar redirects standard error, so that lines appear above it.
    with bar, watch_compilations(lambda kernel: typer.echo(compiling_line(kernel), err=True)):
        task = bar.add_task("reducing", total=seconds)
        reported_tenths = 0
        for sample in replay.run():
            bar.update(task, completed=source.stream.seconds(sample))
            tenths = 10 * sample // source.samples
            if bar.disable and tenths > reported_tenths:
                reported_tenths = tenths
                typer.echo(f"reduced {tenths * 10} % of {seconds:.1f} s", err=True)
