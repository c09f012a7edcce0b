"""What the page draws of a run and of a pulse: axes, lines in percent of them, pictures, and what they say in words."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefilter.analysis.plots.pulse_diagnostic import PulseDiagnostic
from edgefilter.core.clock import NS, utc_iso
from edgefilter.core.plan import dispersion_delay
from edgefilter.report.data import Run
from edgefilter.report.picture import Axis, Tick, axis, dm_axis, heatmap, overlay, percentile_range, svg_path
from edgefilter.report.waterfall import TimeGrid, Waterfall

FLAGGER_COLOURS = ("#E69F00", "#D55E00", "#CC79A7", "#56B4E9", "#0072B2", "#F0E442")
"""Okabe and Ito's colours (2008), which colour-blind people can tell apart, in the order that flaggers get them; their
green is left to what was kept."""
LOST_COLOUR = "#7a7a7a"

_MAX_TRACKS = 200  # dispersion tracks on a waterfall: more would hide it
_MIN_BLOCKS_FOR_MEDIAN = 8  # fewer give no median in time to compare with
_TIME_STEPS = (60, 300, 600, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800)
_TRACK_POINTS = 24


@dataclass(frozen=True, slots=True)
class Layer:
    """A part of a waterfall that can be switched: its name, its colour, its picture."""

    name: str
    colour: str
    picture: str
    share: float


@dataclass(frozen=True, slots=True)
class StackedArea:
    """An area of a stacked chart: its name, its colour, its outline."""

    name: str
    colour: str
    outline: str


@dataclass(frozen=True, slots=True)
class Dot:
    """A candidate in DM against time: percents of the axes, diameter in pixels, its rank."""

    x: float
    y: float
    size: float
    rank: int
    snr: float
    label: str


def flag_colours(run: Run) -> dict[str, str]:
    """Give each flagger of a run a colour, the same in all charts, and ``lost`` grey."""
    return {"lost": LOST_COLOUR} | {
        name: FLAGGER_COLOURS[at % len(FLAGGER_COLOURS)] for at, name in enumerate(run.flagged)
    }


def time_axis(run: Run) -> Axis:
    """Seconds since the start of the run; marks are UTC where it is longer than a quarter of an hour."""
    start = utc_iso(int(run.start_ns[0]))
    if run.seconds < 900:
        return axis(0.0, run.seconds, f"s since {start[:23].replace('T', ' ')} UTC")
    hours, minutes, rest = start[11:].split(":")
    midnight = int(hours) * 3600 + int(minutes) * 60 + float(rest)
    step = next((step for step in _TIME_STEPS if run.seconds / step <= 6), _TIME_STEPS[-1])
    first = int(np.ceil(midnight / step))
    tick_seconds = np.arange(first, int((midnight + run.seconds) // step) + 1) * step
    ticks = tuple(Tick(float((at - midnight) / run.seconds * 100), _clock_label(int(at))) for at in tick_seconds)
    return Axis(0.0, run.seconds, ticks, f"UTC, from {start[:10]}")


def _clock_label(seconds: int) -> str:
    days, seconds = divmod(seconds, 86400)
    return f"{seconds // 3600:02d}:{seconds % 3600 // 60:02d}" + (f" +{days} d" if days else "")


def frequency_axis(centres_mhz: NDArray[np.float64], n_ticks: int = 5) -> Axis:
    """Frequencies from the lower edge of the lowest channel to the upper edge of the highest."""
    step = float(np.median(np.diff(centres_mhz))) if len(centres_mhz) > 1 else 1.0
    return axis(float(centres_mhz[0]) - step / 2, float(centres_mhz[-1]) + step / 2, "frequency (MHz)", n_ticks)


@dataclass(frozen=True, eq=False)
class RunCharts:
    """The charts of a run; those of its waterfall are None where the store holds no spectra of it."""

    time: Axis
    dm: Axis
    dots: list[Dot]
    account: list[StackedArea]
    account_axis: Axis
    frequency: Axis | None = None
    power: str = ""
    power_range: tuple[float, float] = (0.0, 1.0)
    change: str = ""
    change_range: tuple[float, float] = (0.0, 1.0)
    layers: tuple[Layer, ...] = ()
    tracks: tuple[str, ...] = ()
    bandpass: str = ""
    bandpass_axis: Axis | None = None
    occupancy: tuple[StackedArea, ...] = ()
    occupancy_axis: Axis | None = None


def run_charts(run: Run, waterfall: Waterfall | None) -> RunCharts:
    """Draw a run.

    Parameters
    ----------
    run
        The run.
    waterfall
        Its waterfall, if it has one.
    """
    highest = max((pulse["dm"] for pulse in run.pulses), default=100.0)
    time, dm = time_axis(run), dm_axis(highest * 1.1)
    account, top = _flag_history(run)
    charts: dict[str, Any] = {
        "time": time,
        "dm": dm,
        "dots": [_candidate_dot(run, rank, pulse, time, dm) for rank, pulse in enumerate(run.pulses)],
        "account": account,
        "account_axis": top,
    }
    if waterfall is None:
        return RunCharts(**charts)
    across = frequency_axis(waterfall.frequencies_mhz)
    power = 10 * np.log10(np.where(waterfall.power > 0, waterfall.power, np.nan))
    power -= np.nanmedian(power) if np.isfinite(power).any() else 0
    power_range, change_range = percentile_range(power), percentile_range(waterfall.change, 0.5)
    colours = flag_colours(run)
    return RunCharts(
        **charts,
        frequency=across,
        power=heatmap(power, *power_range),
        power_range=power_range,
        change=heatmap(waterfall.change, *change_range) if len(run.blocks) >= _MIN_BLOCKS_FOR_MEDIAN else "",
        change_range=change_range,
        layers=tuple(
            Layer(name, colours[name], overlay(part, colours[name]), _flagged_fraction(run, name))
            for name, part in waterfall.fractions.items()
            if name in colours and np.nansum(part) > 0
        ),
        tracks=tuple(_track_path(run, pulse, time, across) for pulse in run.pulses[:_MAX_TRACKS]),
        **_bandpass(waterfall, colours),
    )


def _seconds_into_run(run: Run, pulse: dict[str, Any]) -> float:
    return float(pulse["tai_ns"] - int(run.start_ns[0])) / NS


def _candidate_dot(run: Run, rank: int, pulse: dict[str, Any], time: Axis, dm: Axis) -> Dot:
    return Dot(
        x=float(time.percent(_seconds_into_run(run, pulse))),
        y=float(dm.percent(np.sqrt(max(pulse["dm"], 0.0)))),
        size=dot_size(pulse["snr"]),
        rank=rank + 1,
        snr=pulse["snr"],
        label=f"S/N {pulse['snr']:.1f}, DM {pulse['dm']:.1f}, {utc_iso(pulse['tai_ns'])[:23].replace('T', ' ')} UTC",
    )


def dot_size(snr: float) -> float:
    """Diameter of a candidate's dot in pixels; its area grows as the S/N."""
    return round(float(np.clip(3.2 * np.sqrt(snr), 8, 44)), 1)


def _flagged_fraction(run: Run, name: str) -> float:
    """Return the part of all cells of the run that the ledger books under a flagger, or as lost."""
    counts = run.cells_lost if name == "lost" else run.flagged.get(name)
    return float(counts.sum() / max(run.cells.sum(), 1)) if counts is not None else 0.0


def _flag_history(run: Run) -> tuple[list[StackedArea], Axis]:
    """Stack lost and flagged parts of the cells against time, from every block of the ledger."""
    grid = TimeGrid(run)
    cells = np.bincount(grid.slot_of_block, run.cells, grid.n_slots)
    parts = {"lost": run.cells_lost, **run.flagged}
    colours = flag_colours(run)
    shares = {
        name: grid.slots_to_columns(np.bincount(grid.slot_of_block, counts, grid.n_slots) / np.maximum(cells, 1), 0.0)
        for name, counts in parts.items()
        if counts.sum()
    }
    highest = float(np.sum(list(shares.values()), axis=0).max()) if shares else 0.0
    top = axis(0.0, min(100.0, max(115 * highest, 1.0)), "% of cells", 4)
    return _stack(shares, grid.edges_percent, top, colours), top


def _stack(
    shares: dict[str, NDArray[np.float64]], edges: NDArray[np.float64], y_axis: Axis, colours: dict[str, str]
) -> list[StackedArea]:
    """Stack shares ``[bin]`` upon one another as stairs; ``edges`` are in percent of the axis."""
    across = np.repeat(edges, 2)[1:-1]
    areas, lower = [], np.zeros(len(edges) - 1)
    for name, share in shares.items():
        upper = lower + np.nan_to_num(share)
        outline = np.concatenate([np.repeat(upper, 2), np.repeat(lower, 2)[::-1]])
        points = svg_path(np.concatenate([across, across[::-1]]), y_axis.percent(outline * 100))
        areas.append(StackedArea(name, colours[name], points + "Z"))
        lower = upper
    return areas


def _bandpass(waterfall: Waterfall, colours: dict[str, str]) -> dict[str, Any]:
    bins = min(512, len(waterfall.frequencies_mhz))
    starts = np.linspace(0, len(waterfall.frequencies_mhz), bins + 1).astype(np.int64)[:-1]
    count = np.diff([*starts, len(waterfall.frequencies_mhz)])
    edges = np.linspace(0, 100, bins + 1)
    good = np.isfinite(waterfall.spectrum)
    used = np.add.reduceat(good.astype(np.float64), starts)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.add.reduceat(np.where(good, waterfall.spectrum, 0), starts) / used
        decibel = 10 * np.log10(np.where(mean > 0, mean, np.nan))
    decibel -= np.nanmedian(decibel) if np.isfinite(decibel).any() else 0
    low, high = percentile_range(decibel, 0)
    margin = 0.06 * max(high - low, 1.0)
    y_axis = axis(low - margin, high + margin, "power (dB)", 4)
    shares = {
        name: np.add.reduceat(part, starts) / count
        for name, part in waterfall.occupancy.items()
        if name in colours and part.any()
    }
    part = axis(0.0, 100.0, "% of cells", 4)
    return {
        "bandpass": svg_path((edges[:-1] + edges[1:]) / 2, y_axis.percent(decibel)),
        "bandpass_axis": y_axis,
        "occupancy": tuple(_stack(shares, edges, part, colours)),
        "occupancy_axis": part,
    }


def _track_path(run: Run, pulse: dict[str, Any], time: Axis, across: Axis) -> str:
    low, high = max(pulse["freq_low"], across.low, 1e-3), min(pulse["freq_high"], across.high)
    frequencies = np.linspace(low, max(high, low), _TRACK_POINTS)
    # Arrival is told at the centre of the top channel of the whole band, within half a channel of its edge.
    delays = np.array([dispersion_delay(pulse["dm"], float(mhz), across.high) for mhz in frequencies])
    return svg_path(time.percent(_seconds_into_run(run, pulse) + delays), across.percent(frequencies))


@dataclass(frozen=True, eq=False)
class PulseCharts:
    """The picture of a pulse: dynamic spectrum under its profile, beside its spectrum; DM against time below."""

    time: Axis
    frequency: Axis
    profile: str
    profile_axis: Axis
    dynamic: str
    spectrum: str
    spectrum_axis: Axis
    unused: str
    bow_tie: str
    dm: Axis
    dm_percent: float
    snr: float
    unused_percent: float


def pulse_charts(diagnostic: PulseDiagnostic) -> PulseCharts:
    """Draw the picture of a pulse."""
    times = diagnostic.times_ms
    half = (times[1] - times[0]) / 2 if len(times) > 1 else 0.5
    time = axis(float(times[0] - half), float(times[-1] + half), "time (ms)")
    frequency = axis(*diagnostic.band_mhz, "frequency (MHz)")
    profile_axis = _padded_axis(diagnostic.profile, "S/N")
    spectrum_axis = _padded_axis(diagnostic.spectrum, "S/N", 2)
    trials = diagnostic.trial_dm
    dm = axis(float(trials[0]), float(trials[-1]), "DM (pc cm⁻³)") if len(trials) else axis(0, 1, "DM (pc cm⁻³)")
    return PulseCharts(
        time=time,
        frequency=frequency,
        profile=svg_path(time.percent(times), profile_axis.percent(diagnostic.profile)),
        profile_axis=profile_axis,
        dynamic=heatmap(diagnostic.dynamic, -1.5, max(percentile_range(diagnostic.dynamic, 0.5)[1], 4.0)),
        spectrum=svg_path(spectrum_axis.percent(diagnostic.spectrum), frequency.percent(diagnostic.frequencies_mhz)),
        spectrum_axis=spectrum_axis,
        unused=overlay(diagnostic.unused[:, None], FLAGGER_COLOURS[1]),
        bow_tie=heatmap(diagnostic.bow_tie, 0.0, max(percentile_range(diagnostic.bow_tie, 0)[1], 1.0))
        if len(trials)
        else "",
        dm=dm,
        dm_percent=float(dm.percent(diagnostic.dm)),
        snr=diagnostic.snr,
        unused_percent=100 * float(diagnostic.unused.mean()),
    )


def _padded_axis(values: NDArray[Any], name: str, n_ticks: int = 3) -> Axis:
    low, high = percentile_range(values, 0)
    margin = 0.08 * max(high - low, 1.0)
    return axis(low - margin, high + margin, name, n_ticks)
