"""The diagnostic figure of a pulse."""

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes

from edgefilter.analysis.plots.pulse_diagnostic import PulseDiagnostic
from edgefilter.analysis.plots.style import (
    BLUE,
    ORANGE,
    RED,
    STYLE,
    NotebookFigure,
    colour_map,
    new_figure,
    outer_edges,
)


def pulse_figure(diagnostic: PulseDiagnostic, title: str = "") -> NotebookFigure:
    """Draw the diagnostic of a pulse.

    The dedispersed dynamic spectrum is on the left, with the pulse profile above it and the spectrum beside it. S/N
    over DM and time ("bow tie") is on the right. Lost and flagged cells are grey. Dotted lines show the edges of the
    band in which the search found the pulse.

    Parameters
    ----------
    diagnostic
        From :func:`edgefilter.analysis.plots.pulse_diagnostic.diagnose`.
    title
        Title of the figure.

    Returns
    -------
    NotebookFigure
        The figure.
    """
    with mpl.rc_context(STYLE):
        figure = new_figure(9.5, 5.2)
        grid = figure.add_gridspec(2, 3, width_ratios=(3.0, 0.9, 2.6), height_ratios=(1, 3))
        below = figure.add_subplot(grid[1, 0])
        above = figure.add_subplot(grid[0, 0], sharex=below)
        beside = figure.add_subplot(grid[1, 1], sharey=below)
        bow = figure.add_subplot(grid[1, 2])
        note = figure.add_subplot(grid[0, 1:])
        _draw_profile(above, diagnostic)
        _draw_dynamic(below, diagnostic)
        _draw_spectrum(beside, diagnostic)
        _draw_bow_tie(bow, diagnostic)
        _draw_parameters(note, diagnostic)
        if title:
            figure.suptitle(title, fontsize=10, x=0.01, ha="left")
        return figure


def _draw_profile(axes: Axes, diagnostic: PulseDiagnostic) -> None:
    """Draw S/N against time; the boxcar of the pulse is shaded."""
    half = diagnostic.pulse.width * 500
    axes.axvspan(-half, half, color=ORANGE, alpha=0.3, lw=0)
    axes.step(diagnostic.times_ms, diagnostic.profile, where="mid", color=BLUE)
    axes.axhline(0, color="0.6", lw=0.6, zorder=0)
    axes.set_ylabel("S/N per bin")
    axes.tick_params(labelbottom=False)


def _draw_dynamic(axes: Axes, diagnostic: PulseDiagnostic) -> None:
    """Draw the dedispersed dynamic spectrum."""
    finite = diagnostic.dynamic[np.isfinite(diagnostic.dynamic)]
    top = max(float(np.percentile(finite, 99.8)), 4.0) if finite.size else 4.0
    axes.imshow(
        np.ma.masked_invalid(diagnostic.dynamic),
        origin="lower",
        aspect="auto",
        extent=(*outer_edges(diagnostic.times_ms), *diagnostic.band_mhz),
        cmap=colour_map(),
        vmin=-2,
        vmax=top,
    )
    axes.set_xlabel(f"time after {diagnostic.pulse.seconds:.4f} s (ms)")
    axes.set_ylabel("frequency (MHz)")
    axes.spines[["top", "right"]].set_visible(True)
    _mark_band(axes, diagnostic)
    _mark_unused(axes, diagnostic)


def _draw_spectrum(axes: Axes, diagnostic: PulseDiagnostic) -> None:
    """Draw S/N against frequency, with frequency on the vertical axis."""
    axes.step(diagnostic.spectrum, diagnostic.frequencies_mhz, where="mid", color=BLUE)
    axes.axvline(0, color="0.6", lw=0.6, zorder=0)
    axes.set_xlabel("S/N per sub-band")
    axes.tick_params(labelleft=False)
    _mark_band(axes, diagnostic)
    _mark_unused(axes, diagnostic)


def _draw_bow_tie(axes: Axes, diagnostic: PulseDiagnostic) -> None:
    """Draw S/N over DM and time; a dispersed pulse has the shape of a bow tie."""
    axes.set_xlabel("time at mid-sweep (ms)")
    axes.set_ylabel("DM (pc cm$^{-3}$)")
    if not len(diagnostic.trial_dm):
        axes.text(0.5, 0.5, "frequencies unknown:\nno dispersion measure", ha="center", va="center")
        axes.set(xticks=[], yticks=[])
        return
    image = axes.imshow(
        np.ma.masked_invalid(diagnostic.bow_tie),
        origin="lower",
        aspect="auto",
        extent=(*outer_edges(diagnostic.trial_times_ms), *outer_edges(diagnostic.trial_dm)),
        cmap=colour_map(),
        vmin=0,
    )
    axes.spines[["top", "right"]].set_visible(True)
    for low, high in ((0.0, 0.12), (0.88, 1.0)):  # at both sides, so that the lines do not hide the pulse
        axes.axhline(diagnostic.dm, low, high, color="white", lw=1.0)
    if axes.figure is not None:
        axes.figure.colorbar(image, ax=axes, label="S/N of the boxcar", pad=0.02)


def _draw_parameters(axes: Axes, diagnostic: PulseDiagnostic) -> None:
    pulse = diagnostic.pulse
    lines = [
        ("S/N", f"{pulse.snr:.1f}  (in the cut-out {diagnostic.snr:.1f})"),
        ("DM", f"{pulse.dm:.2f} ± {pulse.dm_error:.2f} pc cm$^{{-3}}$"),
        ("width", f"{pulse.width * 1e3:.3g} ms"),
        ("arrival", f"{pulse.seconds:.4f} s at {diagnostic.band_mhz[1]:.1f} MHz"),
        ("found in", f"{pulse.freq_low:.1f} to {pulse.freq_high:.1f} MHz"),
        ("unused", f"{pulse.flagged:.1%} of the cells under the sweep"),
    ]
    if diagnostic.dm != pulse.dm:
        lines.insert(2, ("shown at", f"DM {diagnostic.dm:.2f} pc cm$^{{-3}}$"))
    axes.set_axis_off()
    marked = bool((diagnostic.unused > 0.5).any())
    for at, (name, value) in enumerate(lines):
        y = 1 - at / (len(lines) + marked)
        axes.text(0.02, y, name, color="0.4", va="top", transform=axes.transAxes)
        axes.text(0.16, y, value, va="top", transform=axes.transAxes)
    if marked:
        y = 1 / (len(lines) + 1)
        axes.text(0.02, y, "▬", color=RED, va="top", transform=axes.transAxes)
        axes.text(0.16, y, "channels mostly lost or flagged", color=RED, va="top", transform=axes.transAxes)


def _mark_band(axes: Axes, diagnostic: PulseDiagnostic) -> None:
    """Mark the edges of the sub-band in which the search found the pulse."""
    low, high = diagnostic.band_mhz
    for edge in (diagnostic.pulse.freq_low, diagnostic.pulse.freq_high):
        if low < edge < high:
            axes.axhline(edge, color=RED, ls=":", lw=1.0)


def _mark_unused(axes: Axes, diagnostic: PulseDiagnostic) -> None:
    """Mark channels of which more than half was lost or flagged, at the right edge."""
    channels = diagnostic.channels_mhz[diagnostic.unused > 0.5]
    if len(channels):
        axes.plot(
            np.ones(len(channels)), channels, "_", color=RED, ms=7, mew=1.0, transform=axes.get_yaxis_transform(),
            clip_on=False,
        )  # fmt: skip
