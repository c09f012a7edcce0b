"""Charts of a run and of a pulse: axes, lines in percent of the axes, images, labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefilter.analysis.plots.pulse_diagnostic import PulseDiagnostic
from edgefilter.analysis.plots.style import RED, flagger_colour, outer_edges
from edgefilter.core.clock import NS, utc_iso
from edgefilter.core.plan import dispersion_delay
from edgefilter.report.data import Run
from edgefilter.report.picture import Axis, axis, dm_axis, heatmap, overlay, percentile_range, svg_path, time_axis
from edgefilter.report.waterfall import TimeGrid, Waterfall

_MAX_SWEEPS = 200  # sweeps of candidates on a waterfall: more would hide it
_MIN_BLOCKS_FOR_MEDIAN = 8  # a median in time needs so many blocks
_SWEEP_POINTS = 24
_SPECTRUM_BINS = 512


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of a waterfall that can be switched off: flagger or ``lost``, colour, image, share of all cells."""

    name: str
    colour: str
    picture: str
    share: float


@dataclass(frozen=True, slots=True)
class StackedArea:
    """An area of a stacked chart: flagger or ``lost``, colour, SVG path."""

    name: str
    colour: str
    outline: str


@dataclass(frozen=True, slots=True)
class Dot:
    """A candidate in DM against time: position in percent of the axes, diameter in pixels, rank."""

    x: float
    y: float
    size: float
    rank: int
    snr: float
    label: str


@dataclass(frozen=True, eq=False)
class BandCharts:
    """Charts of a run with a frequency axis.

    Parameters
    ----------
    frequency
        The frequency axis.
    power, power_range
        Image of the power, and the power at the ends of its colour scale, dB about the median.
    change, change_range
        Image of the power relative to the median of each channel, and the ends of its colour scale; empty if the run
        has too few blocks.
    layers
        Flagged and lost cells.
    sweeps
        SVG paths of the dispersion sweeps of candidates.
    bandpass, bandpass_axis
        SVG path of the mean power, and its axis.
    occupancy, occupancy_axis
        Shares of lost and flagged cells, and their axis.
    """

    frequency: Axis
    power: str
    power_range: tuple[float, float]
    change: str
    change_range: tuple[float, float]
    layers: list[Layer]
    sweeps: list[str]
    bandpass: str
    bandpass_axis: Axis
    occupancy: list[StackedArea]
    occupancy_axis: Axis


@dataclass(frozen=True, eq=False)
class RunCharts:
    """Charts of a run: candidates, lost and flagged cells over time; ``band`` is None if the run has no spectra."""

    time: Axis
    dm: Axis
    dots: list[Dot]
    account: list[StackedArea]
    account_axis: Axis
    band: BandCharts | None


def run_charts(run: Run, waterfall: Waterfall | None) -> RunCharts:
    """Return the charts of a run.

    Parameters
    ----------
    run
        The run.
    waterfall
        Its waterfall, None if it has no spectra.

    Returns
    -------
    RunCharts
        The charts.
    """
    time = time_axis(int(run.start_ns[0]), run.seconds)
    dm = dm_axis(1.1 * max((pulse["dm"] for pulse in run.pulses), default=100.0))
    account, account_axis = _flag_history(run)
    dots = [_candidate_dot(run, rank, pulse, time, dm) for rank, pulse in enumerate(run.pulses)]
    return RunCharts(
        time, dm, dots, account, account_axis, None if waterfall is None else _band_charts(run, waterfall, time)
    )


def dot_size(snr: float) -> float:
    """Return the diameter of the dot of a candidate; its area is proportional to the S/N.

    Parameters
    ----------
    snr
        Signal-to-noise ratio.

    Returns
    -------
    float
        Diameter, pixels, 8 to 44.
    """
    return round(float(np.clip(3.2 * np.sqrt(snr), 8, 44)), 1)


def _band_charts(run: Run, waterfall: Waterfall, time: Axis) -> BandCharts:
    frequency = axis(*outer_edges(waterfall.frequencies_mhz), "frequency (MHz)")
    power = _decibel(waterfall.power)
    power_range, change_range = percentile_range(power), percentile_range(waterfall.change, 0.5)
    first_channels = np.linspace(
        0, len(waterfall.frequencies_mhz), min(_SPECTRUM_BINS, len(waterfall.frequencies_mhz)), False, dtype=np.int64
    )
    edges = np.linspace(0, 100, len(first_channels) + 1)
    channels = np.diff([*first_channels, len(waterfall.frequencies_mhz)])
    good = np.isfinite(waterfall.spectrum)
    total, count = (
        np.add.reduceat(values, first_channels)
        for values in (np.where(good, waterfall.spectrum, 0.0), good.astype(float))
    )
    bandpass = _decibel(np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0))
    bandpass_axis = _padded_axis(bandpass, "power (dB)", 4, 0.06)
    occupancy_axis = axis(0.0, 100.0, "% of cells", 4)
    occupancy = {name: np.add.reduceat(part, first_channels) / channels for name, part in waterfall.occupancy.items()}
    return BandCharts(
        frequency=frequency,
        power=heatmap(power, *power_range),
        power_range=power_range,
        change=heatmap(waterfall.change, *change_range) if len(run.blocks) >= _MIN_BLOCKS_FOR_MEDIAN else "",
        change_range=change_range,
        layers=[
            Layer(name, flagger_colour(name), overlay(part, flagger_colour(name)), _share_of_cells(run, name))
            for name, part in waterfall.fractions.items()
            if np.nansum(part) > 0
        ],
        sweeps=[_sweep_path(run, pulse, time, frequency) for pulse in run.pulses[:_MAX_SWEEPS]],
        bandpass=svg_path((edges[:-1] + edges[1:]) / 2, bandpass_axis.percent(bandpass)),
        bandpass_axis=bandpass_axis,
        occupancy=_stack(occupancy, edges, occupancy_axis),
        occupancy_axis=occupancy_axis,
    )


def _decibel(power: NDArray[Any]) -> NDArray[Any]:
    """Return power in dB about its median, NaN where it is not positive."""
    decibel = 10 * np.log10(np.where(power > 0, power, np.nan))
    return np.asarray(decibel - np.nanmedian(decibel)) if np.isfinite(decibel).any() else decibel


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


def _share_of_cells(run: Run, name: str) -> float:
    """Return the share of all cells of the run that a flagger flagged first, or that were lost, 0 to 1."""
    counts = run.cells_lost if name == "lost" else run.flagged.get(name, np.zeros(1))
    return float(counts.sum() / max(run.cells.sum(), 1))


def _flag_history(run: Run) -> tuple[list[StackedArea], Axis]:
    """Stack the shares of lost and flagged cells over time, from all blocks of the ledger."""
    grid = TimeGrid(run)
    cells = np.bincount(grid.slot_of_block, run.cells, grid.n_slots)
    shares = {
        name: grid.slots_to_columns(np.bincount(grid.slot_of_block, counts, grid.n_slots) / np.maximum(cells, 1), 0.0)
        for name, counts in {"lost": run.cells_lost, **run.flagged}.items()
    }
    highest = float(np.sum(list(shares.values()), axis=0).max())
    share_axis = axis(0.0, min(100.0, max(115 * highest, 1.0)), "% of cells", 4)
    return _stack(shares, grid.edges_percent, share_axis), share_axis


def _stack(shares: Mapping[str, NDArray[np.float64]], edges: NDArray[np.float64], y_axis: Axis) -> list[StackedArea]:
    """Stack the shares ``[bin]`` that are not all 0 as steps; ``edges`` are in percent of the axis."""
    x = np.repeat(edges, 2)[1:-1]
    areas, lower = [], np.zeros(len(edges) - 1)
    for name, share in shares.items():
        if not share.any():
            continue
        upper = lower + np.nan_to_num(share)
        outline = np.concatenate([np.repeat(upper, 2), np.repeat(lower, 2)[::-1]])
        path = svg_path(np.concatenate([x, x[::-1]]), y_axis.percent(outline * 100))
        areas.append(StackedArea(name, flagger_colour(name), path + "Z"))
        lower = upper
    return areas


def _sweep_path(run: Run, pulse: dict[str, Any], time: Axis, frequency: Axis) -> str:
    low, high = max(pulse["freq_low"], frequency.low, 1e-3), min(pulse["freq_high"], frequency.high)
    frequencies = np.linspace(low, max(high, low), _SWEEP_POINTS)
    # The arrival time is that of the centre of the highest channel, within half a channel of the edge of the band.
    delays = np.array([dispersion_delay(pulse["dm"], float(mhz), frequency.high) for mhz in frequencies])
    return svg_path(time.percent(_seconds_into_run(run, pulse) + delays), frequency.percent(frequencies))


@dataclass(frozen=True, eq=False)
class PulseCharts:
    """Charts of a pulse: profile, dynamic spectrum, spectrum, S/N over DM and time.

    Parameters
    ----------
    time, frequency, dm
        Axes that the charts share.
    profile, profile_axis
        SVG path of the profile, and its axis.
    dynamic
        Image of the dynamic spectrum.
    spectrum, spectrum_axis
        SVG path of the spectrum, and its axis.
    unused, unused_percent
        Image of the share of lost and flagged cells of each channel, and their share of all cells, percent.
    bow_tie
        Image of S/N over DM and time; empty if the frequencies are unknown.
    dm_percent
        Position of the DM of the pulse, in percent of the axis.
    snr
        S/N in the boxcar of the pulse.
    """

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
    """Return the charts of a pulse.

    Parameters
    ----------
    diagnostic
        Arrays to draw.

    Returns
    -------
    PulseCharts
        The charts.
    """
    times = diagnostic.times_ms
    time = axis(*outer_edges(times), "time (ms)")
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
        unused=overlay(diagnostic.unused[:, None], RED),
        bow_tie=heatmap(diagnostic.bow_tie, 0.0, max(percentile_range(diagnostic.bow_tie, 0)[1], 1.0))
        if len(trials)
        else "",
        dm=dm,
        dm_percent=float(dm.percent(diagnostic.dm)),
        snr=diagnostic.snr,
        unused_percent=100 * float(diagnostic.unused.mean()),
    )


def _padded_axis(values: NDArray[Any], name: str, n_ticks: int = 3, padding: float = 0.08) -> Axis:
    low, high = percentile_range(values, 0)
    margin = padding * max(high - low, 1.0)
    return axis(low - margin, high + margin, name, n_ticks)
