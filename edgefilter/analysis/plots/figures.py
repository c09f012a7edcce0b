"""Pictures, drawn with matplotlib but without pyplot: each function returns a figure that nothing else holds.

Colours are those that colour-blind readers can tell apart (cividis, and Okabe & Ito's palette); grey is what was lost
or flagged. Backgrounds are white, so a picture reads in light and dark pages alike.
"""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from edgefilter.analysis.export.atomic_file import atomic_write
from edgefilter.core.errors import StoreError

if TYPE_CHECKING:
    import xarray as xr

    from edgefilter.analysis.archive import Archive
    from edgefilter.analysis.pulse import Pulses
    from edgefilter.analysis.spectra import BlockSpectra, Spectrum

BLUE, ORANGE, GREEN, RED, PURPLE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7"
"""Okabe & Ito's colours, https://jfly.uni-koeln.de/color/."""
UNUSED_COLOUR = "#B8B8B8"
"""What was lost or flagged."""

_MAX_BLOCKS = 2000  # that pictures of a run are made of, evenly spaced; a screen shows no more
_MAX_ROWS, _MAX_CHANNELS = 1000, 800  # of a waterfall

STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "lines.linewidth": 1.0,
    "legend.frameon": False,
    "image.interpolation": "nearest",
}
"""Settings of matplotlib that all pictures are drawn with."""


class NotebookFigure(Figure):
    """A figure that a notebook shows by itself, whatever its plotting backend is."""

    def _repr_png_(self) -> bytes:
        return figure_png(self)


def figure_png(figure: Figure, dpi: float = 110) -> bytes:
    """Return the bytes of a figure as PNG, the same for the same figure."""
    memory = io.BytesIO()
    figure.savefig(memory, format="png", dpi=dpi, metadata={"Software": None})
    return memory.getvalue()


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure to a file whose ending names the format, such as ``.figure_png``, ``.svg`` or ``.pdf``.

    Raises
    ------
    StoreError
        If the format is not known, or the file cannot be written.
    """
    ending = Path(path).suffix.removeprefix(".").lower()
    known = Figure().canvas.get_supported_filetypes()
    if ending not in known:
        raise StoreError(f"{path}: a picture's name must end in one of {', '.join(f'.{name}' for name in known)}")
    with atomic_write(path) as part:
        figure.savefig(part, dpi=150)


def new_figure(width: float = 8.0, height: float = 5.0) -> NotebookFigure:
    """Make an empty figure, sizes in inches."""
    return NotebookFigure(figsize=(width, height), layout="constrained", facecolor="white")


def archive_figure(archive: "Archive", what: str, **options: Any) -> NotebookFigure:
    """Draw ``waterfall``, ``bandpass``, ``flags`` or ``candidates`` of a store.

    Of a run of more than 2000 blocks, 2000 evenly spaced ones are read, unless ``most`` says otherwise.

    Parameters
    ----------
    archive
        The store.
    what
        Which.
    **options
        Those of :meth:`edgefilter.analysis.archive.Archive.blocks`, to draw a part.

    Raises
    ------
    StoreError
        If there is no such picture, or nothing to draw.
    """
    options = {"max_blocks": _MAX_BLOCKS} | options
    if what == "waterfall":
        return waterfall_figure(archive.waterfall(**options, rows=_MAX_ROWS, channels=_MAX_CHANNELS), archive.pulses)
    if what == "bandpass":
        return bandpass_figure(archive.spectrum(**options))
    if what == "flags":
        return flags_figure(archive.blocks(**options))
    if what == "candidates":
        return candidates_figure(archive.pulses)
    raise StoreError(f"{what!r} is none of waterfall, bandpass, flags, candidates")


def waterfall_figure(dataset: "xr.Dataset", pulses: "Pulses | None" = None) -> NotebookFigure:
    """Draw power and occupancy over time and frequency.

    Power is shown relative to the median of each channel, so that what changes stands out of the bandpass; rows that
    the store lacks, and what was all lost or flagged, are grey.

    Parameters
    ----------
    dataset
        From :meth:`edgefilter.analysis.archive.Archive.waterfall`.
    pulses
        Candidates to mark at their times.
    """
    with mpl.rc_context(STYLE):
        figure = new_figure(9.5, 6.4)
        above, middle, below = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 0.8))
        times, frequencies = dataset["time"].values, dataset["frequency"].values
        down = frequencies[0] > frequencies[-1]
        half = float(dataset.attrs["row_seconds"]) / 2
        extent = (times[0] - half, times[-1] + half, *outer_edges(frequencies[::-1] if down else frequencies))
        power = dataset["power"].values.T
        with np.errstate(divide="ignore", invalid="ignore"):
            relative = 100 * (power / _row_median(power) - 1)
        colour_limit = _colour_limit(relative)
        layers = (
            (above, relative, "change from the\nchannel's median (%)", colour_map(), -colour_limit, colour_limit),
            (middle, 100 * dataset["flagged"].values.T, "cells flagged (%)", colour_map("magma_r"), 0, 100),
        )
        for axes, values, label, cmap, low, high in layers:
            image = axes.imshow(
                np.ma.masked_invalid(values),
                origin="upper" if down else "lower",
                aspect="auto",
                extent=extent,
                cmap=cmap,
                vmin=low,
                vmax=high,
            )
            axes.set_ylabel("frequency (MHz)")
            figure.colorbar(image, ax=axes, label=label, pad=0.01)
        lost = 100 * dataset["lost"].values
        known = np.isfinite(lost).any(axis=1)
        mean = np.where(known, np.nanmean(np.where(known[:, None], lost, 0), axis=1), np.nan)
        below.bar(times, mean, 2 * half, color="0.35")
        below.set_ylim(0, max(float(np.nanmax(mean, initial=0)) * 1.1, 1))
        below.set_ylabel("lost (%)")
        if not np.nanmax(mean, initial=0):
            below.text(0.5, 0.5, "nothing was lost", color="0.4", ha="center", va="center", transform=below.transAxes)
        below.set_xlabel("time since the stream's first sample (s)")
        _mark_pulses(above, pulses, extent)
        return figure


def bandpass_figure(spectrum: "Spectrum") -> NotebookFigure:
    """Draw the bandpass over the share of each channel that was lost or flagged, and by whom."""
    with mpl.rc_context(STYLE):
        figure = new_figure(9.5, 4.6)
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
        frequencies = spectrum.frequencies_mhz
        above.step(frequencies, spectrum.power, where="mid", color=BLUE)
        above.set_ylabel("mean power\n(units of the stream)")
        meta = spectrum.meta
        above.set_title(
            f"{meta['stream']}, Stokes {meta['stokes']}, {meta['start_s']:.5g} to {meta['stop_s']:.5g} s", loc="left"
        )
        _stack(below, frequencies, spectrum.share)
        below.set_xlabel("frequency (MHz)")
        return figure


def flags_figure(blocks: "BlockSpectra") -> NotebookFigure:
    """Draw what was lost and flagged, and by whom, over frequency and over time."""
    with mpl.rc_context(STYLE):
        figure = new_figure(9.5, 5.2)
        above, below = figure.subplots(2, 1)
        order = np.argsort(blocks.frequencies_mhz)
        _, by_channel = blocks.averaged(axis=0)
        _stack(above, blocks.frequencies_mhz[order], {name: share[order] for name, share in by_channel.items()})
        above.set_xlabel("frequency (MHz)")
        _, by_time = blocks.averaged(axis=1)
        # A block is a step from its start to its end.
        edges = np.append(blocks.seconds, blocks.seconds[-1] + blocks.duration)
        ends = {name: np.append(share, share[-1]) for name, share in by_time.items()}
        _stack(below, edges, ends, step="post")
        below.set_xlabel("time since the stream's first sample (s)")
        total = blocks.total.sum()
        lost = blocks.cells_by_flagger.get("lost", np.zeros(1)).sum()
        flagged = total - blocks.cells.sum() - lost
        above.set_title(
            f"{flagged / max(total, 1):.2%} of the cells flagged, {lost / max(total, 1):.2%} lost", loc="left"
        )
        return figure


def candidates_figure(pulses: "Pulses") -> NotebookFigure:
    """Draw candidates in DM against time, S/N as size and colour.

    Raises
    ------
    StoreError
        If there are none.
    """
    if not len(pulses):
        raise StoreError("there are no pulse candidates to draw")
    with mpl.rc_context(STYLE):
        figure = new_figure(9.5, 3.8)
        axes = figure.subplots()
        snr = pulses.column("snr")
        order = np.argsort(snr)
        shown = axes.scatter(
            pulses.column("seconds")[order],
            pulses.column("dm")[order],
            s=np.clip(snr[order], 5, 50) ** 2 / 4,
            c=snr[order],
            cmap="cividis_r",
            edgecolors="black",
            linewidths=0.5,
            alpha=0.85,
        )
        axes.set_xlabel("arrival at the top of the band (s since the stream's first sample)")
        axes.set_ylabel("DM (pc cm$^{-3}$)")
        axes.set_ylim(bottom=min(0.0, -0.04 * float(pulses.column("dm").max())))
        axes.set_title(f"{len(pulses)} pulse candidate{'s' if len(pulses) > 1 else ''}", loc="left")
        figure.colorbar(shown, ax=axes, label="S/N", pad=0.01)
        return figure


_FLAGGER_COLOURS = {
    "lost": "0.55", "mask": "0.8", "zero_dm": GREEN, "kurtosis": BLUE, "power": PURPLE, "carrier": RED,
    "channel": ORANGE,
}  # fmt: skip


def _stack(axes: Axes, x: Any, share: dict[str, Any], step: Any = "mid") -> None:
    """Stack the shares of those flaggers that did anything, as percentages."""
    base = np.zeros(len(x))
    other_colours = iter(("#56B4E9", "#F0E442", "black"))
    for name, part in share.items():
        part = 100 * np.nan_to_num(part)
        if not part.any():
            continue
        colour = _FLAGGER_COLOURS.get(name) or next(other_colours, "black")
        axes.fill_between(x, base, base + part, step=step, color=colour, lw=0, label=name)
        base = base + part
    axes.set_ylim(0, max(100 if base.max() > 50 else 1.15 * base.max(), 1))
    axes.set_xlim(float(np.min(x)), float(np.max(x)))
    axes.set_ylabel("cells not used (%)")
    if base.any():
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _row_median(power: Any) -> Any:
    """Median of each row, NaN for a row without a number."""
    level = np.full((len(power), 1), np.nan)
    known = np.isfinite(power).any(axis=1)
    level[known] = np.nanmedian(power[known], axis=1, keepdims=True)
    return level


def _colour_limit(values: Any) -> float:
    """Return the reach of a colour scale that shows all but the two per cent of the greatest values."""
    finite = np.abs(values[np.isfinite(values)])
    return max(float(np.percentile(finite, 98)), 0.1) if finite.size else 1.0


def _mark_pulses(axes: Axes, pulses: "Pulses | None", extent: tuple[float, ...]) -> None:
    """Mark the arrivals of pulses above a picture."""
    seconds = [pulse.seconds for pulse in pulses or () if extent[0] <= pulse.seconds <= extent[1]]
    if seconds:
        axes.plot(
            seconds, np.full(len(seconds), 1.03), marker="v", color=RED, ls="", ms=5,
            transform=axes.get_xaxis_transform(), clip_on=False,
        )  # fmt: skip
        axes.set_title(
            f"▼ {len(seconds)} pulse candidate{'s' if len(seconds) > 1 else ''}", loc="right", color=RED, pad=12
        )


def colour_map(name: str = "cividis") -> Colormap:
    """Return a colour map in which what was lost or flagged is grey."""
    return mpl.colormaps[name].with_extremes(bad=UNUSED_COLOUR)


def outer_edges(centres: NDArray[np.float64]) -> tuple[float, float]:
    """Return the outer edges of evenly spaced bins with these centres."""
    first, last = float(centres[0]), float(centres[-1])
    half = (last - first) / (len(centres) - 1) / 2 if len(centres) > 1 else 0.5
    return first - half, last + half
