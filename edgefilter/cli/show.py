"""Text that several commands print: settings, candidates, totals, warnings."""

from collections import Counter
from typing import TYPE_CHECKING

import typer
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgefilter.core.plan import Plan
    from edgefilter.products.totals import RunTotals

_CANDIDATES_SHOWN = 20


def settings_lines(plan: "Plan") -> list[str]:
    """Describe the stream, its layout and the settings."""
    stream, settings = plan.stream, plan.settings
    low, high = plan.band_mhz
    return [
        f"stream {stream.id}: {stream.kind}, {low:.3f} to {high:.3f} MHz, {plan.channels} channels of "
        f"{abs(plan.channel_mhz) * 1e3:.6g} kHz, {'+'.join(stream.products)}, {stream.bits} bit {stream.encoding}",
        f"rows of {plan.row_seconds * 1e3:.6g} ms, blocks of {plan.rows_per_block} rows ({plan.block_seconds:.4g} s), "
        f"DM {plan.dm_range[0]:g} to {plan.dm_range[1]:g} pc/cm3, S/N >= {settings.pulses.snr:g}, "
        f"boxcars up to {plan.row_seconds * 2 ** (settings.pulses.widths - 1) * 1e3:.4g} ms",
        f"settings {settings.digest()}: {settings.canonical()}",
    ]


def compiling_line(kernel: str) -> str:
    """Report a kernel that is compiled at its first use."""
    return f"compiling {kernel} (once on this machine)"


def candidates_table(totals: "RunTotals", plan: "Plan") -> Table:
    """Return a table of the strongest candidates."""
    low, high = plan.band_mhz
    shown = totals.strongest(_CANDIDATES_SHOWN)
    more = totals.counts["candidates"] - len(shown)
    table = Table(
        title=f"{totals.counts['candidates']} candidates" + (f", the strongest {len(shown)}" if more else ""),
        title_justify="left",
    )
    for name in ("S/N", "DM (pc/cm3)", "time (s)", "width (ms)", "band (MHz)", "members"):
        table.add_column(name, justify="right")
    for pulse in shown:
        whole = pulse.freq_high - pulse.freq_low > 0.99 * (high - low)
        table.add_row(
            f"{pulse.snr:.1f}",
            f"{pulse.dm:.2f} ± {pulse.dm_error:.2f}",
            f"{pulse.seconds:.4f}",
            f"{pulse.width * 1e3:.3g}",
            "whole" if whole else f"{pulse.freq_low:.1f}-{pulse.freq_high:.1f}",
            str(pulse.members),
        )
    return table


def summary_lines(counts: "Mapping[str, int]", store: str) -> list[str]:
    """Describe the totals of a run, sums of :class:`~edgefilter.products.totals.BlockSummary`: a missing count is 0."""
    from edgefilter.products.totals import flagged_cells

    counts = Counter(counts)
    cells = counts["cells"]
    lost_by_reason = {name[5:]: count for name, count in sorted(counts.items()) if name.startswith("lost.")}
    lost = ", ".join(f"{count} {reason}" for reason, count in lost_by_reason.items() if count)
    flagged = flagged_cells(counts)
    by_flagger = ", ".join(f"{name} {_with_percentage(count, cells)}" for name, count in flagged.items() if count)
    lines = [
        f"samples: {counts['expected']} expected = {counts['received']} received + "
        f"{counts['expected'] - counts['received']} lost" + (f" ({lost})" if lost else ""),
        f"cells: {cells} = lost {_with_percentage(counts['cells_lost'], cells)} + flagged "
        f"{_with_percentage(sum(flagged.values()), cells)}{f' ({by_flagger})' if by_flagger else ''} + discarded "
        f"{_with_percentage(counts['cells_discarded'], cells)} + kept {_with_percentage(counts['cells_kept'], cells)}",
        f"bytes: {format_bytes(counts['bytes_in'])} in, {format_bytes(counts['bytes_out'])} of products "
        "beside the ledger" + (f", {counts['bytes_in'] / counts['bytes_out']:.4g} to 1" if counts["bytes_out"] else ""),
        f"products of {counts['blocks']} blocks are in {store}",
    ]
    if counts["card_blocks"]:
        near = _with_percentage(counts["guarded_flags"], counts["guarded_cells"])
        lines[-1:-1] = [
            f"reduced by: GPU {counts['card_blocks']} blocks, processor {counts['blocks'] - counts['card_blocks']}",
            f"so near to a threshold that the processor may decide otherwise: {counts['guarded_events']} events; "
            f"flags of {near} of {counts['guarded_cells']} cells (checked in one block of 16)",
        ]
    if counts["overflow"]:
        lines.insert(0, f"warning: {counts['overflow']} candidates dropped, too many in a block (see the ledger)")
    return lines


def counters_line(counters: "Mapping[str, int]") -> str:
    """Describe what the node received of a stream, and what it refused."""
    words = {
        "repeated": "samples received twice",
        "late": "samples that came too late",
        "unknown_stream": "messages of an unknown stream",
        "other_stream": "headers of another stream",
    }
    words |= {name: f"malformed messages ({name[10:]})" for name in sorted(counters) if name.startswith("malformed.")}
    words |= {name: name[6:].replace("_", " ") for name in sorted(counters) if name.startswith("input.")}
    rejected = "".join(f", {counters[name]} {what}" for name, what in words.items() if counters.get(name))
    ending = "the sender ended the stream" if counters.get("ended") else "the stream had not ended"
    frames, count, samples = (counters.get(name, 0) for name in ("frames", "bytes", "samples"))
    return f"received: {frames} frames, {format_bytes(count)}, {samples} samples{rejected}; {ending}"


def format_bytes(count: float) -> str:
    """Return a number of bytes with a unit: ``1.5 GB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.4g} {unit}"
        count /= 1000
    return f"{count:.4g} TB"


def _with_percentage(count: int, whole: int) -> str:
    return f"{count} ({count / whole:.2%})" if whole else str(count)


def warn(line: str) -> None:
    """Print a warning to standard error."""
    typer.echo(f"edgefilter: warning: {line}", err=True)
