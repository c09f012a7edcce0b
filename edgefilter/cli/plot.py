"""``edgefilter plot``: pictures of a store as files."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgefilter.core.errors import StoreError

if TYPE_CHECKING:
    from edgefilter.analysis.archive import Archive
    from edgefilter.analysis.pulse import Pulse


class PlotKind(StrEnum):
    """What to draw."""

    WATERFALL = "waterfall"
    PULSE = "pulse"
    BANDPASS = "bandpass"
    FLAGS = "flags"
    CANDIDATES = "candidates"


def command(
    what: Annotated[PlotKind, typer.Argument(help="What to draw.")],
    store: Annotated[str, typer.Argument(help="Store to draw from.")],
    pulse: Annotated[
        str, typer.Argument(help="Of pulse: its id, the beginning of it, or its rank in S/N.  [default: the strongest]")
    ] = "1",
    save: Annotated[
        Path | None, typer.Option("--save", help="File, its ending names the format.  [default: WHAT.png]")
    ] = None,
    start: Annotated[str | None, typer.Option(help="First time: s since the stream's first sample, or a date.")] = None,
    stop: Annotated[str | None, typer.Option(help="Last time.")] = None,
    stream: Annotated[str | None, typer.Option(help="Stream, if the store holds several.")] = None,
    dm: Annotated[float | None, typer.Option(help="Of pulse: dispersion measure to take out, pc/cm3.")] = None,
) -> None:
    """Draw a waterfall, a pulse, the bandpass, the flags or the candidates of a store into a file."""
    # Imported here, because matplotlib and pyarrow take seconds that --help need not wait.
    from edgefilter.analysis.archive import open_store
    from edgefilter.analysis.plots.style import save_figure

    archive = open_store(store)
    if what is PlotKind.PULSE:
        figure = pick_pulse(archive, pulse).plot(dm)
    else:
        bounds: dict[str, Any] = {"start": parse_time(start), "stop": parse_time(stop), "stream": stream}
        figure = archive.plot(what.value, **(bounds if what is not PlotKind.CANDIDATES else {}))
    path = save or Path(f"{what.value}.png")
    save_figure(figure, path)
    typer.echo(f"{what.value} of {archive.location} drawn to {path}")


def pick_pulse(archive: "Archive", name: str) -> "Pulse":
    """Return the pulse of a rank in S/N, from 1, or of an id.

    Raises
    ------
    StoreError
        If there is none.
    """
    pulses = archive.pulses
    if not len(pulses):
        raise StoreError(f"{archive.location} holds no pulse candidates")
    if not name.isdecimal():
        return pulses.find(name)
    if not 1 <= int(name) <= len(pulses):
        raise StoreError(f"pulse {name}: must be a rank in S/N from 1 to {len(pulses)}, or an id")
    return pulses[int(name) - 1]


def parse_time(text: str | None) -> float | str | None:
    """Turn an option into a number of seconds, or leave it a date."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text
