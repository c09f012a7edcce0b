"""The classic picture of a pulse."""

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes

from edgefilter.analysis.plots.figures import BLUE, ORANGE, RED, STYLE, Picture, colours, picture, span
from edgefilter.analysis.plots.pulse_diagnostic import Diagnostic


def pulse_figure(shown: Diagnostic, title: str = "") -> Picture:
    """Draw the classic diagnostic of a pulse.

    Left the dedispersed dynamic spectrum under the pulse profile and beside the spectrum, right the DM-time bow tie;
    channels that were lost or flagged are grey, and dotted lines bound the band that the pulse was found in.

    Parameters
    ----------
    shown
        From :func:`edgefilter.analysis.plots.pulse_diagnostic.diagnose`.
    title
        Line on top.
    """
    with mpl.rc_context(STYLE):
        figure = picture(9.5, 5.2)
        grid = figure.add_gridspec(2, 3, width_ratios=(3.0, 0.9, 2.6), height_ratios=(1, 3))
        below = figure.add_subplot(grid[1, 0])
        above = figure.add_subplot(grid[0, 0], sharex=below)
        beside = figure.add_subplot(grid[1, 1], sharey=below)
        bow = figure.add_subplot(grid[1, 2])
        note = figure.add_subplot(grid[0, 1:])
        draw_profile(above, shown)
        draw_dynamic(below, shown)
        draw_spectrum(beside, shown)
        draw_bow_tie(bow, shown)
        _note(note, shown)
        if title:
            figure.suptitle(title, fontsize=10, x=0.01, ha="left")
        return figure


def draw_profile(axes: Axes, shown: Diagnostic) -> None:
    """Draw S/N against time, the pulse's boxcar shaded."""
    half = shown.pulse.width * 500
    axes.axvspan(-half, half, color=ORANGE, alpha=0.3, lw=0)
    axes.step(shown.times_ms, shown.profile, where="mid", color=BLUE)
    axes.axhline(0, color="0.6", lw=0.6, zorder=0)
    axes.set_ylabel("S/N per bin")
    axes.tick_params(labelbottom=False)


def draw_dynamic(axes: Axes, shown: Diagnostic) -> None:
    """Draw the dedispersed dynamic spectrum; what was not used is grey, channels hardly used at all are ticked."""
    finite = shown.dynamic[np.isfinite(shown.dynamic)]
    top = max(float(np.percentile(finite, 99.8)), 4.0) if finite.size else 4.0
    axes.imshow(
        np.ma.masked_invalid(shown.dynamic),
        origin="lower",
        aspect="auto",
        extent=(*span(shown.times_ms), *shown.band_mhz),
        cmap=colours(),
        vmin=-2,
        vmax=top,
    )
    axes.set_xlabel(f"time after {_instant(shown)} (ms)")
    axes.set_ylabel("frequency (MHz)")
    axes.spines[["top", "right"]].set_visible(True)
    _mark_band(axes, shown)
    _mark_unused(axes, shown)


def draw_spectrum(axes: Axes, shown: Diagnostic) -> None:
    """Draw S/N against frequency, frequency upwards."""
    axes.step(shown.spectrum, shown.frequencies_mhz, where="mid", color=BLUE)
    axes.axvline(0, color="0.6", lw=0.6, zorder=0)
    axes.set_xlabel("S/N per sub-band")
    axes.tick_params(labelleft=False)
    _mark_band(axes, shown)
    _mark_unused(axes, shown)


def draw_bow_tie(axes: Axes, shown: Diagnostic) -> None:
    """Draw S/N against DM and time; a dispersed pulse is a bow tie about its DM."""
    axes.set_xlabel("time at mid-sweep (ms)")
    axes.set_ylabel("DM (pc cm$^{-3}$)")
    if not len(shown.trial_dm):
        axes.text(0.5, 0.5, "frequencies unknown:\nno dispersion measure", ha="center", va="center")
        axes.set(xticks=[], yticks=[])
        return
    image = axes.imshow(
        np.ma.masked_invalid(shown.bow_tie),
        origin="lower",
        aspect="auto",
        extent=(*span(shown.trial_times_ms), *span(shown.trial_dm)),
        cmap=colours(),
        vmin=0,
    )
    axes.spines[["top", "right"]].set_visible(True)
    for low, high in ((0.0, 0.12), (0.88, 1.0)):  # beside the pulse, so as not to hide it
        axes.axhline(shown.dm, low, high, color="white", lw=1.0)
    if axes.figure is not None:
        axes.figure.colorbar(image, ax=axes, label="S/N of the boxcar", pad=0.02)


def _note(axes: Axes, shown: Diagnostic) -> None:
    pulse = shown.pulse
    lines = [
        ("S/N", f"{pulse.snr:.1f}  (in the cut-out {shown.snr:.1f})"),
        ("DM", f"{pulse.dm:.2f} ± {pulse.dm_error:.2f} pc cm$^{{-3}}$"),
        ("width", f"{pulse.width * 1e3:.3g} ms"),
        ("arrival", f"{pulse.seconds:.4f} s at {shown.band_mhz[1]:.1f} MHz"),
        ("found in", f"{pulse.freq_low:.1f} to {pulse.freq_high:.1f} MHz"),
        ("unused", f"{pulse.flagged:.1%} of the cells under the sweep"),
    ]
    if shown.dm != pulse.dm:
        lines.insert(2, ("shown at", f"DM {shown.dm:.2f} pc cm$^{{-3}}$"))
    axes.set_axis_off()
    marked = bool((shown.unused > 0.5).any())
    for at, (name, value) in enumerate(lines):
        y = 1 - at / (len(lines) + marked)
        axes.text(0.02, y, name, color="0.4", va="top", transform=axes.transAxes)
        axes.text(0.16, y, value, va="top", transform=axes.transAxes)
    if marked:
        y = 1 / (len(lines) + 1)
        axes.text(0.02, y, "▬", color=RED, va="top", transform=axes.transAxes)
        axes.text(0.16, y, "channels mostly lost or flagged", color=RED, va="top", transform=axes.transAxes)


def _instant(shown: Diagnostic) -> str:
    return f"{shown.pulse.seconds:.4f} s"


def _mark_band(axes: Axes, shown: Diagnostic) -> None:
    low, high = shown.band_mhz
    for edge in (shown.pulse.freq_low, shown.pulse.freq_high):
        if low < edge < high:
            axes.axhline(edge, color=RED, ls=":", lw=1.0)


def _mark_unused(axes: Axes, shown: Diagnostic) -> None:
    """Tick, at the right edge, the channels of which more than half is not used."""
    channels = shown.channels_mhz[shown.unused > 0.5]
    if len(channels):
        axes.plot(
            np.ones(len(channels)), channels, "_", color=RED, ms=7, mew=1.0, transform=axes.get_yaxis_transform(),
            clip_on=False,
        )  # fmt: skip
