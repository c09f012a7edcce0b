"""``edgefilter check``: explain a configuration, and estimate what it needs of this machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from edgefilter.cli.options import SetOption, read_settings
from edgefilter.cli.show import format_bytes
from edgefilter.core.errors import ConfigError

if TYPE_CHECKING:
    from edgefilter.core.config import NodeConfig
    from edgefilter.core.plan import Plan
    from edgefilter.core.stream import Stream


def command(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="TOML configuration.")],
    like: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Take the stream from the header of this recorded file.")
    ] = None,
    measure: Annotated[bool, typer.Option(help="Reduce noise to measure how many cores the stream needs.")] = True,
    assignments: SetOption = None,
) -> None:
    """Explain a configuration: data rate, time steps, memory, latency, cores.

    The stream is that of section "stream" in CONFIG, or of the file --like.
    """
    # Imported here: numba and scipy take seconds to import, and --help does not need them.
    from edgefilter.core.plan import Plan, resolve
    from edgefilter.node.used_plugins import used_plugins
    from edgefilter.pipeline.backend import BackendSelector
    from edgefilter.pipeline.resource_budget import measure_cores

    settings = read_settings(config, assignments)
    plugins = used_plugins(settings)
    for plugin in plugins:
        plugin.load()  # a broken one must be found here, not on the node
    stream = _expected_stream(config, settings, like)
    plan = Plan(stream, resolve(settings, stream))
    table = Table(show_header=False, title=str(config), title_justify="left")
    for row in _rows(plan, settings):
        table.add_row(*row)
    table.add_row(
        "plug-ins", "\n".join(f"{plugin.group.what} {plugin.name}: {plugin.provenance}" for plugin in plugins)
    )
    Console().print(table)
    if settings.node.backend != "cpu":
        selector = BackendSelector(
            settings.node.backend, settings.node.threads, lambda _, line: typer.echo(f"reducing on: {line}")
        )
        selector.create_backend(plan).close()
    if measure:
        needed, available = measure_cores(plan, settings.node.threads)
        verdict = "enough" if needed <= available else "too few"
        typer.echo(f"cores: the stream needs {needed:.2g}, this machine has {available}: {verdict}")


def _expected_stream(config: Path, settings: "NodeConfig", like: Path | None) -> "Stream":
    from edgefilter.sources.files.recognise import open_files

    if like is not None:
        source = open_files([like])
        source.close()
        return source.stream
    if settings.stream[0].rate_hz is None:
        raise ConfigError(
            f"{config}: no section [stream] to estimate from: add one, or give a recorded file with --like"
        )
    return settings.stream[0].stream()


def _rows(plan: "Plan", settings: "NodeConfig") -> list[tuple[str, str]]:
    from edgefilter.pipeline.gpu_memory import estimate_gpu_memory
    from edgefilter.pipeline.resource_budget import ResourceBudget, ring_samples

    stream = plan.stream
    budget = ResourceBudget.from_plan(plan)
    ring = ring_samples(plan, settings.input)
    low, high = plan.band_mhz
    rows = [
        ("input", f"{stream.kind}, {low:.3f} to {high:.3f} MHz, {format_bytes(budget.bytes_per_second)}/s"),
        ("channels", f"{plan.channels} of {abs(plan.channel_mhz) * 1e3:.6g} kHz"),
        ("cell", f"{plan.spectra_per_cell} spectra, {stream.seconds(plan.samples_per_cell) * 1e3:.6g} ms"),
        ("row", f"{plan.cells_per_row} cells, {plan.row_seconds * 1e3:.6g} ms"),
        ("block", f"{plan.rows_per_block} rows, {plan.samples_per_block} samples, {plan.block_seconds:.4g} s"),
        (
            "search",
            f"DM {plan.dm_range[0]:g} to {plan.dm_range[1]:g} pc/cm3, {budget.trials} DM trials over all sub-bands",
        ),
        ("sweep", f"{budget.sweep_seconds:.4g} s across the band at the highest DM"),
        ("history", f"{budget.history_blocks} blocks, {budget.history_seconds:.4g} s; a restart reads them again"),
        (
            "ring, at least",
            f"{format_bytes(budget.restart_bytes)}, {stream.seconds(budget.restart_samples):.4g} s, "
            "for a restart without loss",
        ),
        ("ring", f"{format_bytes(ring * stream.sample_bytes)}, {stream.seconds(ring):.4g} s, {settings.input.policy}"),
        ("memory", f"about {format_bytes(budget.memory_bytes)}"),
        ("latency", f"at most {budget.latency_seconds:.4g} s from the arrival of a pulse to its product"),
        ("settings digest", plan.settings.digest()),
    ]
    if settings.node.backend != "cpu":
        needed = estimate_gpu_memory(plan)
        parts = ", ".join(f"{name} {format_bytes(part)}" for name, part in needed.items() if part)
        rows.append(("GPU memory", f"about {format_bytes(sum(needed.values()))}: {parts}"))
    return rows
