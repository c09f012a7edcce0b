"""The style that all figures and the report share: colours, matplotlib settings, and how a figure is saved.

Figures are made without pyplot, so nothing else keeps a reference to them. Colour-blind readers can tell all colours
apart (cividis, and the palette of Okabe & Ito 2008, https://jfly.uni-koeln.de/color/). The background is white, which
suits light and dark pages.
"""

import io
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from edgefilter.analysis.export.atomic_file import atomic_write
from edgefilter.core.errors import StoreError

BLUE, ORANGE, GREEN, RED, PURPLE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7"
SKY_BLUE, YELLOW = "#56B4E9", "#F0E442"
LOST_COLOUR = "#7A7A7A"
UNUSED_COLOUR = "#B8B8B8"
"""Lost or flagged cells in an image."""

_FLAGGER_COLOURS = {
    "lost": LOST_COLOUR, "mask": ORANGE, "zero_dm": RED, "kurtosis": PURPLE, "power": SKY_BLUE, "carrier": BLUE,
    "channel": YELLOW,
}  # fmt: skip

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
"""Settings of matplotlib for all figures."""


class NotebookFigure(Figure):
    """A figure that a notebook shows by itself, whatever its plotting backend is."""

    def _repr_png_(self) -> bytes:
        return figure_png(self)


def new_figure(width: float = 8.0, height: float = 5.0) -> NotebookFigure:
    """Return an empty figure.

    Parameters
    ----------
    width, height
        Size, inches.

    Returns
    -------
    NotebookFigure
        A figure without axes, with constrained layout.
    """
    return NotebookFigure(figsize=(width, height), layout="constrained", facecolor="white")


def figure_png(figure: Figure, dpi: float = 110) -> bytes:
    """Return a figure as PNG.

    Parameters
    ----------
    figure
        The figure.
    dpi
        Resolution, pixels per inch.

    Returns
    -------
    bytes
        The PNG file, the same for the same figure.
    """
    memory = io.BytesIO()
    figure.savefig(memory, format="png", dpi=dpi, metadata={"Software": None})
    return memory.getvalue()


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure to a file.

    Parameters
    ----------
    figure
        The figure.
    path
        The file; its ending names the format, for example ``.png``, ``.svg`` or ``.pdf``.

    Raises
    ------
    StoreError
        If matplotlib cannot write this format, or the file cannot be written.
    """
    formats = figure.canvas.get_supported_filetypes()
    if Path(path).suffix.removeprefix(".").lower() not in formats:
        raise StoreError(f"{path}: a picture's name must end in one of {', '.join(f'.{name}' for name in formats)}")
    with atomic_write(path) as part:
        figure.savefig(part, dpi=150)


def flagger_colour(name: str) -> str:
    """Return the colour of a flagger, the same in all charts.

    Parameters
    ----------
    name
        Name of the flagger in the ledger, or ``lost``.

    Returns
    -------
    str
        ``#RRGGBB``; black for a flagger that is not one of edgefilter's own. Green is reserved for kept cells.
    """
    return _FLAGGER_COLOURS.get(name, "#000000")


def colour_map(name: str = "cividis") -> Colormap:
    """Return a colour map of matplotlib that shows lost and flagged cells in grey.

    Parameters
    ----------
    name
        Name of the colour map.

    Returns
    -------
    Colormap
        The map, with :data:`UNUSED_COLOUR` for masked values.
    """
    return mpl.colormaps[name].with_extremes(bad=UNUSED_COLOUR)


def outer_edges(centres: NDArray[np.float64]) -> tuple[float, float]:
    """Return the outer edges of evenly spaced bins.

    Parameters
    ----------
    centres
        float64 ``[bin]``: centres of the bins, in any unit.

    Returns
    -------
    tuple
        Edge before the first bin and after the last, in the unit of the centres.
    """
    first, last = float(centres[0]), float(centres[-1])
    half = (last - first) / (len(centres) - 1) / 2 if len(centres) > 1 else 0.5
    return first - half, last + half
