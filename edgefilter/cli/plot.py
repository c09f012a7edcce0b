"""``edgefilter plot``: draw a picture of a store into a file."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgefilter.cli.options import StoreArgument
from edgefilter.core.errors import StoreError

if TYPE_CHECKING:
    from edgefilter.analysis.archive import Archive
    from edgefilter.analysis.pulse import Pulse


class PlotKind(StrEnum):
    """Kinds of pictures."""

    WATERFALL = "waterfall"
    PULSE = "pulse"
    BANDPASS = "bandpass"
    FLAGS = "flags"
    CANDIDATES = "candidates"


PulseArgument = Annotated[
    str,
    typer.Argument(
        metavar="PULSE",
        help="Pulse: its id, the beginning of its id, or its rank in S/N.",
        show_default="1, the strongest",
    ),
]
StreamOption = Annotated[str | None, typer.Option(help="Stream; needed if the store holds several.")]


def command(
    what: Annotated[PlotKind, typer.Argument(metavar="KIND", help=f"Picture: {', '.join(PlotKind)}.")],
    store: StoreArgument,
    pulse: PulseArgument = "1",
    save: Annotated[
        Path | None,
        typer.Option("--save", help="File to write; its suffix sets the format.", show_default="KIND.png"),
    ] = None,
    start: Annotated[
        str | None, typer.Option(help="Start of the time range: s since the start of the stream, or a UTC date.")
    ] = None,
    stop: Annotated[str | None, typer.Option(help="End of the time range, as --start.")] = None,
    stream: StreamOption = None,
    dm: Annotated[
        float | None,
        typer.Option(help="Dispersion measure to remove from a pulse, pc/cm3.", show_default="that of the pulse"),
    ] = None,
) -> None:
    """Draw a waterfall, a pulse, a bandpass, flags or candidates into a file."""
    # Imported here: matplotlib and pyarrow take seconds to import, and --help does not need them.
    from edgefilter.analysis.archive import open_store
    from edgefilter.analysis.plots.style import save_figure

    archive = open_store(store)
    if what is PlotKind.PULSE:
        figure = pick_pulse(archive, pulse).plot(dm)
    else:
        bounds: dict[str, Any] = {"start": _parse_time(start), "stop": _parse_time(stop), "stream": stream}
        figure = archive.plot(what.value, **(bounds if what is not PlotKind.CANDIDATES else {}))
    path = save or Path(f"{what.value}.png")
    save_figure(figure, path)
    typer.echo(f"{what.value} of {archive.location} drawn to {path}")


def pick_pulse(archive: "Archive", name: str) -> "Pulse":
    """Return the pulse with this rank in S/N, from 1, or with this id; StoreError if there is none."""
    pulses = archive.pulses
    if not len(pulses):
        raise StoreError(f"{archive.location} holds no pulse candidates")
    if not name.isdecimal():
        return pulses.find(name)
    if not 1 <= int(name) <= len(pulses):
        raise StoreError(f"pulse {name}: must be a rank in S/N from 1 to {len(pulses)}, or an id")
    return pulses[int(name) - 1]


def _parse_time(text: str | None) -> float | str | None:
    """Return a number of seconds, or the text unchanged if it is a date."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text
