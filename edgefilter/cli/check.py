"""``edgefilter check``: what a configuration means, and whether this machine can hold it."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from edgefilter.cli.options import SetOption, overrides
from edgefilter.cli.show import format_bytes
from edgefilter.core.config import load
from edgefilter.core.errors import ConfigError


def command(
    config: Annotated[Path, typer.Argument(help="TOML configuration.")],
    like: Annotated[Path | None, typer.Option(help="A recorded file whose header stands for the stream.")] = None,
    measure: Annotated[bool, typer.Option(help="Reduce some noise to see how many cores the stream needs.")] = True,
    assignments: SetOption = None,
) -> None:
    """Explain a configuration: rates, block length, history, memory, latency, cores."""
    # Imported here, because numba and scipy take seconds that --help need not wait.
    from edgefilter.core.plan import Plan, resolve
    from edgefilter.pipeline.backend import BackendSelector
    from edgefilter.pipeline.gpu_memory import estimate_gpu_memory
    from edgefilter.pipeline.resource_budget import ResourceBudget, measure_cores, ring_samples
    from edgefilter.sources.files.recognise import open_files

    settings = load(config, overrides(assignments))
    if like is not None:
        source = open_files([like])
        stream = source.stream
        source.close()
    elif settings.stream[0].rate_hz is not None:
        stream = settings.stream[0].stream()
    else:
        raise ConfigError(f"{config}: has no [stream] section to reckon with: add one, or name a file with --like")
    plan = Plan(stream, resolve(settings, stream))
    budget = ResourceBudget.from_plan(plan)
    ring = ring_samples(plan, settings.input)
    low, high = plan.band_mhz
    table = Table(show_header=False, title=str(config), title_justify="left")
    rows = [
        ("input", f"{stream.kind}, {low:.3f} to {high:.3f} MHz, {format_bytes(budget.bytes_per_second)}/s"),
        ("channels", f"{plan.channels} of {abs(plan.channel_mhz) * 1e3:.6g} kHz"),
        ("cell", f"{plan.spectra_per_cell} spectra, {stream.seconds(plan.samples_per_cell) * 1e3:.6g} ms"),
        ("row", f"{plan.cells_per_row} cells, {plan.row_seconds * 1e3:.6g} ms"),
        ("block", f"{plan.rows_per_block} rows, {plan.samples_per_block} samples, {plan.block_seconds:.4g} s"),
        ("search", f"DM {plan.dm_range[0]:g} to {plan.dm_range[1]:g} pc/cm3, {budget.trials} trials in all bands"),
        ("sweep", f"{budget.sweep_seconds:.4g} s at the highest DM"),
        (
            "history",
            f"{budget.history_blocks} blocks, {budget.history_seconds:.4g} s, are read again for a lossless restart",
        ),
        ("ring for a restart", f"{format_bytes(budget.restart_bytes)}, {stream.seconds(budget.restart_samples):.4g} s"),
        ("ring", f"{format_bytes(ring * stream.sample_bytes)}, {stream.seconds(ring):.4g} s, {settings.input.policy}"),
        ("memory", f"about {format_bytes(budget.memory_bytes)}"),
        ("latency", f"{budget.latency_seconds:.4g} s from the arrival of a pulse to its product at the latest"),
        ("settings", plan.settings.digest()),
    ]
    if settings.node.backend != "cpu":
        needed = estimate_gpu_memory(plan)
        parts = ", ".join(f"{name} {format_bytes(part)}" for name, part in needed.items() if part)
        rows.append(("card's memory", f"{format_bytes(sum(needed.values()))}: {parts}"))
    for name, value in rows:
        table.add_row(name, value)
    console = Console()

    def print_backend(_: str, line: str) -> None:
        console.print(f"reduces on: {line}", markup=False, highlight=False, soft_wrap=True)

    console.print(table)
    if settings.node.backend != "cpu":
        BackendSelector(settings.node.backend, settings.node.threads, print_backend).create_backend(plan).close()
    if measure:
        need, here = measure_cores(plan, settings.node.threads)
        verdict = "enough" if need <= here else "too few"
        console.print(f"needs {need:.2g} cores of the {here} here: {verdict}")
