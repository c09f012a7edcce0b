"""Figures of a run: waterfall, bandpass, flags, candidates."""

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from edgefilter.analysis.plots.style import (
    BLUE,
    RED,
    STYLE,
    NotebookFigure,
    colour_map,
    flagger_colour,
    new_figure,
    outer_edges,
)
from edgefilter.core.errors import StoreError

if TYPE_CHECKING:
    import xarray as xr

    from edgefilter.analysis.spectra import BlockSpectra, Spectrum
    from edgefilter.analysis.tables import TableView


def waterfall_figure(dataset: "xr.Dataset", pulse_seconds: NDArray[np.float64]) -> NotebookFigure:
    """Draw power and flags over time and frequency, and loss over time.

    Power is relative to the median of each channel, so that changes are visible although the bandpass is not flat. Rows
    that the store lacks, and cells that were all lost or flagged, are grey.

    Parameters
    ----------
    dataset
        From :meth:`edgefilter.analysis.archive.Archive.waterfall`.
    pulse_seconds
        float64 ``[pulse]``: arrival times to mark, s since the first sample of the stream.

    Returns
    -------
    NotebookFigure
        The figure.
    """
    with mpl.rc_context(STYLE):
        figure = new_figure(9.5, 6.4)
        above, middle, below = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 0.8))
        times, frequencies = dataset["time"].values, dataset["frequency"].values
        down = frequencies[0] > frequencies[-1]
        half = float(dataset.attrs["row_seconds"]) / 2
        extent = (times[0] - half, times[-1] + half, *outer_edges(frequencies[::-1] if down else frequencies))
        power = np.ma.masked_invalid(dataset["power"].values.T)
        median = np.ma.median(power, axis=1, keepdims=True)  # type: ignore[no-untyped-call]
        change = (100 * (power / median - 1)).filled(np.nan)
        limit = _colour_limit(change)
        layers = (
            (above, change, "change from the\nchannel's median (%)", colour_map(), -limit, limit),
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
        lost = np.ma.masked_invalid(100 * dataset["lost"].values).mean(axis=1).filled(np.nan)
        highest = float(np.nanmax(lost, initial=0))
        below.bar(times, lost, 2 * half, color="0.35")
        below.set_ylim(0, max(highest * 1.1, 1))
        below.set_ylabel("lost (%)")
        if not highest:
            below.text(0.5, 0.5, "no loss", color="0.4", ha="center", va="center", transform=below.transAxes)
        below.set_xlabel("time since the stream's first sample (s)")
        _mark_pulses(above, pulse_seconds[(pulse_seconds >= extent[0]) & (pulse_seconds <= extent[1])])
        return figure


def bandpass_figure(spectrum: "Spectrum") -> NotebookFigure:
    """Draw the bandpass, and below it the share of each channel that was lost or flagged.

    Parameters
    ----------
    spectrum
        The bandpass.

    Returns
    -------
    NotebookFigure
        The figure.
    """
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
    """Draw the shares of lost and flagged cells by flagger, over frequency and over time.

    Parameters
    ----------
    blocks
        Spectra and flags of the blocks.

    Returns
    -------
    NotebookFigure
        The figure.
    """
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


def candidates_figure(pulses: "TableView") -> NotebookFigure:
    """Draw candidates in DM against time; size and colour show S/N.

    Parameters
    ----------
    pulses
        Rows of the table ``pulses``.

    Returns
    -------
    NotebookFigure
        The figure.

    Raises
    ------
    StoreError
        If there are no candidates.
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
        axes.set_title(_count_candidates(len(pulses)), loc="left")
        figure.colorbar(shown, ax=axes, label="S/N", pad=0.01)
        return figure


def _stack(axes: Axes, x: NDArray[np.float64], shares: dict[str, NDArray[np.float64]], step: Any = "mid") -> None:
    """Stack the shares of all flaggers that flagged anything, in percent."""
    base = np.zeros(len(x))
    for name, share in shares.items():
        percent = 100 * np.nan_to_num(share)
        if percent.any():
            axes.fill_between(x, base, base + percent, step=step, color=flagger_colour(name), lw=0, label=name)
            base = base + percent
    axes.set_ylim(0, max(100 if base.max() > 50 else 1.15 * base.max(), 1))
    axes.set_xlim(float(np.min(x)), float(np.max(x)))
    axes.set_ylabel("cells not used (%)")
    if base.any():
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _colour_limit(values: NDArray[np.float64]) -> float:
    """Return the 98th percentile of the absolute values, at least 0.1; 1 where no value is finite."""
    finite = np.abs(values[np.isfinite(values)])
    return max(float(np.percentile(finite, 98)), 0.1) if finite.size else 1.0


def _mark_pulses(axes: Axes, seconds: NDArray[np.float64]) -> None:
    """Mark arrival times above an image."""
    if len(seconds):
        axes.plot(
            seconds, np.full(len(seconds), 1.03), marker="v", color=RED, ls="", ms=5,
            transform=axes.get_xaxis_transform(), clip_on=False,
        )  # fmt: skip
        axes.set_title(f"▼ {_count_candidates(len(seconds))}", loc="right", color=RED, pad=12)


def _count_candidates(count: int) -> str:
    return f"{count} pulse candidate{'s' if count != 1 else ''}"
