"""``edgefilter replay``: recorded files become products."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from edgefilter.cli.options import BackendOption, ReportOption, SetOption, StoreOption, ThreadsOption, overrides
from edgefilter.cli.report import write_report_beside
from edgefilter.cli.show import candidates_table, compiling_line, settings_lines, summary_lines
from edgefilter.core.config import NodeConfig, load
from edgefilter.core.validation import validate


def command(
    files: Annotated[
        list[Path], typer.Argument(help="Recorded files; several that follow one another are one stream.")
    ],
    store: StoreOption = "store",
    config: Annotated[
        Path | None, typer.Option(help="TOML configuration; without it, the file's header decides.")
    ] = None,
    dm: Annotated[str | None, typer.Option(metavar="LOW:HIGH", help="Dispersion measures to search, pc/cm3.")] = None,
    snr: Annotated[float | None, typer.Option(metavar="MIN", help="Threshold in S/N.  [default: 7]")] = None,
    assignments: SetOption = None,
    threads: ThreadsOption = 0,
    backend: BackendOption = None,
    report: ReportOption = True,
) -> None:
    """Reduce recorded files: SIGPROC, PSRFITS search mode, FBH5, GUPPI RAW, PSRDADA, VDIF."""
    # Imported here, because numba and scipy take seconds that --help need not wait.
    from edgefilter.batch.local import Replay
    from edgefilter.pipeline.backend import BackendSelector
    from edgefilter.sources.files.recognise import open_files
    from edgefilter_kernels.jit import watch_compilations

    values = overrides(assignments, dm, snr)
    settings = load(config, values) if config else validate(NodeConfig, {}, values, where="settings")
    console, notes = Console(), Console(stderr=True)
    source = open_files(files)
    try:
        for warning in source.warnings:
            notes.print(f"edgefilter: warning: {warning}", markup=False, highlight=False, soft_wrap=True)

        def print_backend(_: str, line: str) -> None:
            notes.print(f"reducing on: {line}", markup=False, highlight=False, soft_wrap=True)

        backend_selector = BackendSelector(
            backend or settings.node.backend, threads or settings.node.threads, print_backend
        )
        replay = Replay(source, settings, store, settings.node.name, backend_selector)
        for line in settings_lines(replay.plan):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.1f} of {task.total:.1f} s"),
            TimeRemainingColumn(),
            console=notes,
            disable=not sys.stderr.isatty(),
            transient=True,
        )
        with bar, watch_compilations(lambda kernel: notes.print(compiling_line(kernel), highlight=False)):
            task = bar.add_task("reducing", total=source.stream.seconds(source.samples))
            reported_tenths = 0
            for sample in replay.run():
                bar.update(task, completed=source.stream.seconds(sample))
                tenth = 10 * sample // source.samples
                if bar.disable and tenth > reported_tenths:
                    reported_tenths = tenth
                    notes.print(
                        f"reduced {tenth * 10} % of {source.stream.seconds(source.samples):.1f} s", highlight=False
                    )
        console.print(candidates_table(replay.totals, replay.plan))
        for line in summary_lines(replay.totals.counts, store):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        if report:
            console.print(write_report_beside(store), markup=False, highlight=False, soft_wrap=True)
    finally:
        source.close()
