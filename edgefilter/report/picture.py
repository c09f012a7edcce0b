"""Arrays as pictures that a page can carry, and the marks of an axis.

Text is never drawn into a picture: the page writes it, so that it can be read on a phone, in the dark and aloud.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image

SHADES = 64
"""Shades of a picture: more cannot be told apart and would not compress."""

_DM_TICKS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000)


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis: where, in percent of its length, and what stands there."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis: its ends, its marks, its name with the unit."""

    low: float
    high: float
    ticks: tuple[Tick, ...]
    name: str

    def percent(self, values: Any) -> Any:
        """Where values lie, in percent of the axis' length."""
        span = self.high - self.low or 1.0
        return (np.asarray(values, np.float64) - self.low) / span * 100


def axis(low: float, high: float, name: str, n_ticks: int = 5) -> Axis:
    """Make a linear axis with about so many marks at round numbers."""
    positions = [float(position) for position in MaxNLocator(n_ticks, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)]
    step = positions[1] - positions[0] if len(positions) > 1 else 1.0
    digits = next(count for count in range(16) if abs(round(step, count) - step) < 1e-6 * step)
    span = high - low or 1.0
    inside = [position for position in positions if low - 1e-9 * span <= position <= high + 1e-9 * span]
    return Axis(
        low, high, tuple(Tick((at - low) / span * 100, f"{at:.{digits}f}".replace("-", "−")) for at in inside), name
    )


def dm_axis(high: float) -> Axis:
    """Make an axis of the square root of the dispersion measure, which gives low ones room; ends are square roots."""
    top = float(np.sqrt(max(high, 1.0)))
    ticks: list[Tick] = []
    for mark in _DM_TICKS:
        at = float(np.sqrt(mark)) / top * 100
        if at <= 100 and (not ticks or at - ticks[-1].at > 9):
            ticks.append(Tick(at, str(mark)))
    return Axis(0.0, top, tuple(ticks), "DM (pc cm⁻³)")


def heatmap(values: NDArray[Any], low: float, high: float, colours: str = "viridis") -> str:
    """Draw an array ``[row, column]``, row 0 at the bottom, as a PNG in a ``data:`` URL; NaN is transparent.

    Parameters
    ----------
    values
        float ``[row, column]``.
    low, high
        Values of the first and the last colour.
    colours
        Name of a colour map of matplotlib.
    """
    good = np.isfinite(values)
    scaled = np.where(good, (values - low) / ((high - low) or 1.0), 0.0)
    shade = np.clip(np.rint(scaled * (SHADES - 1)), 0, SHADES - 1).astype(np.uint8)
    palette = np.rint(np.asarray(colormaps[colours](np.linspace(0, 1, SHADES)))[:, :3] * 255).astype(np.uint8)
    palette_with_nan = np.concatenate([palette, [[0, 0, 0]]]).astype(np.uint8)
    return _png(np.where(good, shade, SHADES).astype(np.uint8), palette_with_nan, [255] * SHADES + [0])


def overlay(fractions: NDArray[Any], colour: str) -> str:
    """Draw fractions 0 to 1 ``[row, column]``, row 0 at the bottom, as one colour of that opacity.

    Any fraction above 0 is visible: what was taken away must not hide in rounding.
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
    """Write an SVG path through percents of the axes; y grows upwards, what is not finite leaves a gap."""
    words, pen = [], "M"
    for across, up in zip(np.asarray(x).tolist(), np.asarray(y).tolist(), strict=True):
        if np.isfinite(across + up):
            words.append(f"{pen}{across:.2f} {100 - up:.2f}")
            pen = "L"
        else:
            pen = "M"
    return "".join(words)


def percentile_range(values: NDArray[Any], percent: float = 1.0) -> tuple[float, float]:
    """Range of the values without the outermost percents on both sides; 0 to 1 if there are none."""
    good = values[np.isfinite(values)]
    if not len(good):
        return 0.0, 1.0
    low, high = np.percentile(good, [percent, 100 - percent])
    return float(low), float(high)
