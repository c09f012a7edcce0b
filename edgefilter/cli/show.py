"""What commands print: settings, candidates, the account. Units on everything."""

from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgefilter.core.plan import Plan
    from edgefilter.products.totals import RunTotals

_CANDIDATES_SHOWN = 20


def settings_lines(plan: "Plan") -> list[str]:
    """Say which stream is reduced with which settings."""
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
    """Say what a first start waits for."""
    return f"compiling {kernel} for this machine, once"


def candidates_table(totals: "RunTotals", plan: "Plan") -> Table:
    """Tabulate the strongest candidates."""
    low, high = plan.band_mhz
    shown = totals.strongest(_CANDIDATES_SHOWN)
    more = totals.candidates - len(shown)
    table = Table(
        title=f"{totals.candidates} candidates" + (f", the strongest {len(shown)}" if more else ""),
        title_justify="left",
    )
    for name in ("S/N", "DM pc/cm3", "time s", "width ms", "band MHz", "members"):
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


def summary_lines(totals: "RunTotals", store: str) -> list[str]:
    """Say what came, what was lost, discarded and kept, and where the products lie."""
    lost = ", ".join(f"{count} {reason}" for reason, count in sorted(totals.lost.items()) if count)
    flagged = ", ".join(
        f"{name} {_with_percentage(count, totals.cells)}" for name, count in totals.flagged.items() if count
    )
    lines = [
        f"samples: {totals.expected} expected = {totals.received} received + {totals.expected - totals.received} lost"
        + (f" ({lost})" if lost else ""),
        f"cells: {totals.cells} = lost {_with_percentage(totals.cells_lost, totals.cells)}"
        f" + flagged {_with_percentage(sum(totals.flagged.values()), totals.cells)}{f' ({flagged})' if flagged else ''}"
        f" + discarded {_with_percentage(totals.cells_discarded, totals.cells)}"
        f" + kept {_with_percentage(totals.cells_kept, totals.cells)}",
        f"bytes: {format_bytes(totals.bytes_in)} in, {format_bytes(totals.bytes_out)} out"
        + (f", reduced {totals.bytes_in / totals.bytes_out:.1f} times" if totals.bytes_out else ""),
        f"products of {totals.blocks} blocks lie in {store}",
    ]
    if totals.card_blocks:
        near_threshold = _with_percentage(totals.guarded_flags, totals.guarded_cells)
        lines[-1:-1] = [
            f"reduced by: card {totals.card_blocks} blocks, processor {totals.blocks - totals.card_blocks}",
            f"within the guard bands, where the processor may decide otherwise: {totals.guarded_events} events; "
            f"flags of {near_threshold} of {totals.guarded_cells} cells, those of one block in 16",
        ]
    if totals.overflow:
        lines.insert(
            0, f"warning: {totals.overflow} candidates beyond the bounded buffers were dropped (see the ledger)"
        )
    return lines


def counters_line(counters: "Mapping[str, int]") -> str:
    """Say what came over the wire, and what of it was refused."""
    words = {
        "repeated": "samples sent twice",
        "late": "samples too late",
        "unknown_stream": "messages of an unknown stream",
        "other_stream": "descriptions of another stream",
    }
    words |= {name: f"malformed messages ({name[10:]})" for name in sorted(counters) if name.startswith("malformed.")}
    rejected = "".join(f", {counters[name]} {what}" for name, what in words.items() if counters.get(name))
    ending = "the sender ended the stream" if counters.get("ended") else "the stream had not ended"
    frames, count, samples = (counters.get(name, 0) for name in ("frames", "bytes", "samples"))
    return f"received: {frames} frames, {format_bytes(count)}, {samples} samples{rejected}; {ending}"


def format_bytes(count: float) -> str:
    """Show a number of bytes, ``1.5 GB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.4g} {unit}"
        count /= 1000
    return f"{count:.4g} TB"


def _with_percentage(count: int, whole: int) -> str:
    return f"{count} ({count / whole:.2%})" if whole else str(count)
