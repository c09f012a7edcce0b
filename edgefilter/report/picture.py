"""Axes, lines and images for the page.

matplotlib chooses the ticks and colours. Text is HTML and not part of an image, so that it has the same size on a
phone, follows the dark theme, and can be read by a screen reader.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib import colormaps, dates
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image

from edgefilter.core.clock import NS, utc_iso, utc_us

SHADES = 64
"""Number of colours of an image: more cannot be distinguished and compress worse."""

# Labels of ticks at years, months, days, hours, minutes, seconds; and of the first hour of a day, minute of an hour, …
_TIME_LABELS = ["%Y", "%d %b", "%d %b", "%H:%M", "%H:%M", "%H:%M:%S"]
_FIRST_TIME_LABELS = ["%Y", "%d %b", "%d %b", "%d %b", "%H:%M", "%H:%M"]
_dates: Any = dates  # this module of matplotlib has no types
_DM_TICKS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000)


@dataclass(frozen=True, slots=True)
class Tick:
    """A tick of an axis: its position in percent of the length of the axis, and its label."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis: the values at its ends, its ticks, its name with the unit."""

    low: float
    high: float
    ticks: tuple[Tick, ...]
    name: str

    def percent(self, values: Any) -> Any:
        """Return the positions of values, in percent of the length of the axis.

        Parameters
        ----------
        values
            float ``[…]``, in the unit of the axis.

        Returns
        -------
        NDArray
            float64 ``[…]``.
        """
        span = self.high - self.low or 1.0
        return (np.asarray(values, np.float64) - self.low) / span * 100


def axis(low: float, high: float, name: str, n_ticks: int = 5) -> Axis:
    """Return a linear axis with ticks at round numbers.

    Parameters
    ----------
    low, high
        Values at the ends.
    name
        Name with the unit.
    n_ticks
        Highest number of intervals between ticks.

    Returns
    -------
    Axis
        The axis.
    """
    positions = np.asarray(MaxNLocator(n_ticks, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high))
    step = positions[1] - positions[0] if len(positions) > 1 else 1.0
    digits = next(count for count in range(16) if abs(round(step, count) - step) < 1e-6 * step)
    empty = Axis(low, high, (), name)
    percents = zip(positions.tolist(), empty.percent(positions).tolist(), strict=True)
    ticks = [Tick(at, f"{value:.{digits}f}".replace("-", "−")) for value, at in percents if -1e-7 <= at <= 100 + 1e-7]
    return replace(empty, ticks=tuple(ticks))


def time_axis(start_ns: int, seconds: float) -> Axis:
    """Return an axis of time: seconds since the start, with UTC at the ticks of a run of 15 minutes or more.

    Parameters
    ----------
    start_ns
        Start of the run, TAI in ns since 1970-01-01 TAI.
    seconds
        Duration of the run, s.

    Returns
    -------
    Axis
        The axis.
    """
    start = utc_iso(start_ns)
    if seconds < 900:
        return axis(0.0, seconds, f"s since {start[:23].replace('T', ' ')} UTC")
    first, last = (np.datetime64(int(us), "us") for us in utc_us(np.array([start_ns, start_ns + round(seconds * NS)])))
    locator = _dates.AutoDateLocator(minticks=3, maxticks=6)
    days = np.asarray(locator.tick_values(first.item(), last.item()))
    at = (days - _dates.date2num(first)) * 86400 / seconds * 100
    labels = _dates.ConciseDateFormatter(locator, formats=_TIME_LABELS, zero_formats=_FIRST_TIME_LABELS).format_ticks(
        days
    )
    ticks = [Tick(float(percent), label) for percent, label in zip(at, labels, strict=True) if 0 <= percent <= 100]
    return Axis(0.0, seconds, tuple(ticks), f"UTC, from {start[:10]}")


def dm_axis(high: float) -> Axis:
    """Return an axis of the square root of the dispersion measure, which gives low values more room.

    Parameters
    ----------
    high
        Highest dispersion measure, pc cm⁻³.

    Returns
    -------
    Axis
        The axis; its ends are square roots.
    """
    top = float(np.sqrt(max(high, 1.0)))
    ticks: list[Tick] = []
    for mark in _DM_TICKS:
        at = float(np.sqrt(mark)) / top * 100
        if at <= 100 and (not ticks or at - ticks[-1].at > 9):
            ticks.append(Tick(at, str(mark)))
    return Axis(0.0, top, tuple(ticks), "DM (pc cm⁻³)")


def heatmap(values: NDArray[Any], low: float, high: float, colours: str = "viridis") -> str:
    """Return an array as image.

    Parameters
    ----------
    values
        float ``[row, column]``; row 0 is at the bottom, NaN is transparent.
    low, high
        Values of the first and the last colour.
    colours
        Name of a colour map of matplotlib.

    Returns
    -------
    str
        A PNG as ``data:`` URL.
    """
    good = np.isfinite(values)
    scaled = np.where(good, (values - low) / ((high - low) or 1.0), 0.0)
    shade = np.clip(np.rint(scaled * (SHADES - 1)), 0, SHADES - 1).astype(np.uint8)
    palette = np.rint(np.asarray(colormaps[colours](np.linspace(0, 1, SHADES)))[:, :3] * 255).astype(np.uint8)
    palette_with_nan = np.concatenate([palette, [[0, 0, 0]]]).astype(np.uint8)
    return _png(np.where(good, shade, SHADES).astype(np.uint8), palette_with_nan, [255] * SHADES + [0])


def overlay(fractions: NDArray[Any], colour: str) -> str:
    """Return fractions as image in one colour, with the fraction as opacity. Every fraction above 0 is visible.

    Parameters
    ----------
    fractions
        float ``[row, column]``, 0 to 1; row 0 is at the bottom.
    colour
        ``#RRGGBB``.

    Returns
    -------
    str
        A PNG as ``data:`` URL.
    """
    share = np.nan_to_num(np.clip(fractions, 0, 1))
    shade = np.where(share > 0, 1 + np.rint(share * 14), 0).astype(np.uint8)
    red_green_blue = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    opacity = [0, *(round(255 * (0.08 + 0.92 * step / 14)) for step in range(15))]
    return _png(shade, np.array([red_green_blue] * len(opacity), np.uint8), opacity)


def _png(shade: NDArray[np.uint8], palette: NDArray[np.uint8], opacity: Sequence[int]) -> str:
    picture = Image.fromarray(np.ascontiguousarray(shade[::-1]), "P")
    picture.putpalette(palette.tobytes())
    memory = io.BytesIO()
    picture.save(memory, "PNG", optimize=True, transparency=bytes(opacity))
    return f"data:image/png;base64,{base64.b64encode(memory.getvalue()).decode()}"


def svg_path(x: Any, y: Any) -> str:
    """Return an SVG path.

    Parameters
    ----------
    x, y
        float ``[point]``, in percent of the axes; y is measured from the bottom. A value that is not finite is a gap.

    Returns
    -------
    str
        The attribute ``d`` of a path, in a view box of 100 × 100.
    """
    words, pen = [], "M"
    for across, up in zip(np.asarray(x).tolist(), np.asarray(y).tolist(), strict=True):
        if np.isfinite(across + up):
            words.append(f"{pen}{across:.2f} {100 - up:.2f}")
            pen = "L"
        else:
            pen = "M"
    return "".join(words)


def percentile_range(values: NDArray[Any], percent: float = 1.0) -> tuple[float, float]:
    """Return the range of the finite values without outliers.

    Parameters
    ----------
    values
        float ``[…]``.
    percent
        Percentage of the values to leave out at each end.

    Returns
    -------
    tuple
        Lowest and highest value; 0 and 1 if no value is finite.
    """
    good = values[np.isfinite(values)]
    if not len(good):
        return 0.0, 1.0
    low, high = np.percentile(good, [percent, 100 - percent])
    return float(low), float(high)
