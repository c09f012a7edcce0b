"""``edgefilter export``: a store's products in the formats of others."""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from edgefilter.analysis.archive import Archive


class What(StrEnum):
    """What to export; the comment names the format."""

    HEIMDALL = "heimdall"  # candidates as CSV in the order of heimdall's columns
    VOTABLE = "votable"  # candidates
    OBSCORE = "obscore"  # cut-outs as VOTable rows of ObsCore
    SPECTRA = "spectra"  # FITS table with the columns of PSRFITS
    BANDPASS = "bandpass"  # FITS table that specutils reads
    FILTERBANK = "filterbank"  # one cut-out as SIGPROC
    VOEVENT = "voevent"  # one pulse
    JSON = "json"  # one pulse


_ENDINGS = {
    What.HEIMDALL: "csv",
    What.VOTABLE: "vot",
    What.OBSCORE: "vot",
    What.SPECTRA: "fits",
    What.BANDPASS: "fits",
    What.FILTERBANK: "fil",
    What.VOEVENT: "xml",
    What.JSON: "json",
}


def command(
    what: Annotated[What, typer.Argument(help="Candidates, spectra or one pulse, by format.")],
    store: Annotated[str, typer.Argument(help="Store to export from.")],
    pulse: Annotated[
        str,
        typer.Argument(
            help="Of filterbank, voevent, json: id, beginning of it, or rank in S/N.  [default: the strongest]"
        ),
    ] = "1",
    out: Annotated[Path | None, typer.Option("--out", help="File to write.  [default: WHAT.csv, .vot, …]")] = None,
    stream: Annotated[str | None, typer.Option(help="Of spectra: stream, if the store holds several.")] = None,
) -> None:
    """Export candidates, spectra or a pulse: heimdall's CSV, VOTable, ObsCore, FITS, SIGPROC, VOEvent, JSON."""
    # Imported here, because astropy and pyarrow take seconds that --help need not wait.
    from edgefilter.analysis.archive import open_store

    archive = open_store(store)
    path = out or Path(f"{what.value}.{_ENDINGS[what]}")
    _writers(archive, pulse, stream)[what](path)
    typer.echo(f"{what.value} of {archive.location} written to {path}")


def _writers(archive: "Archive", pulse: str, stream: str | None) -> dict[What, Callable[[Path], object]]:
    from edgefilter.analysis.export import tables
    from edgefilter.analysis.export.atomic_file import replacing
    from edgefilter.cli.plot import pick

    def text(make: Callable[[], str]) -> Callable[[Path], object]:
        def write(path: Path) -> None:
            content = make()
            with replacing(path) as part:
                part.write_text(content, encoding="utf-8")

        return write

    return {
        What.HEIMDALL: lambda path: tables.to_heimdall(archive.pulses, path),
        What.VOTABLE: lambda path: tables.to_votable(archive.pulses, path),
        What.OBSCORE: lambda path: tables.to_obscore(archive, path),
        What.SPECTRA: lambda path: tables.to_fits(archive, path, stream),
        What.BANDPASS: lambda path: archive.spectrum(stream=stream).to_fits(path),
        What.FILTERBANK: lambda path: pick(archive, pulse).to_filterbank(path),
        What.VOEVENT: text(lambda: pick(archive, pulse).to_voevent()),
        What.JSON: text(lambda: pick(archive, pulse).to_json()),
    }
