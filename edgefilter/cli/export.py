"""``edgefilter export``: a store's products in the formats of others."""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from edgefilter.analysis.archive import Archive


class ExportFormat(StrEnum):
    """What to export; the comment names the format."""

    HEIMDALL = "heimdall"  # candidates as CSV in the order of heimdall's columns
    VOTABLE = "votable"  # candidates
    OBSCORE = "obscore"  # cut-outs as VOTable rows of ObsCore
    SPECTRA = "spectra"  # FITS table with the columns of PSRFITS
    BANDPASS = "bandpass"  # FITS table that specutils reads
    FILTERBANK = "filterbank"  # one cut-out as SIGPROC
    VOEVENT = "voevent"  # one pulse
    JSON = "json"  # one pulse


_SUFFIXES = {
    ExportFormat.HEIMDALL: "csv",
    ExportFormat.VOTABLE: "vot",
    ExportFormat.OBSCORE: "vot",
    ExportFormat.SPECTRA: "fits",
    ExportFormat.BANDPASS: "fits",
    ExportFormat.FILTERBANK: "fil",
    ExportFormat.VOEVENT: "xml",
    ExportFormat.JSON: "json",
}


def command(
    what: Annotated[ExportFormat, typer.Argument(help="Candidates, spectra or one pulse, by format.")],
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
    path = out or Path(f"{what.value}.{_SUFFIXES[what]}")
    _writers(archive, pulse, stream)[what](path)
    typer.echo(f"{what.value} of {archive.location} written to {path}")


def _writers(archive: "Archive", pulse: str, stream: str | None) -> dict[ExportFormat, Callable[[Path], object]]:
    from edgefilter.analysis.export import tables
    from edgefilter.analysis.export.atomic_file import atomic_write
    from edgefilter.cli.plot import pick_pulse

    def text(make: Callable[[], str]) -> Callable[[Path], object]:
        def write(path: Path) -> None:
            content = make()
            with atomic_write(path) as part:
                part.write_text(content, encoding="utf-8")

        return write

    return {
        ExportFormat.HEIMDALL: lambda path: tables.to_heimdall(archive.pulses, path),
        ExportFormat.VOTABLE: lambda path: tables.to_votable(archive.pulses, path),
        ExportFormat.OBSCORE: lambda path: tables.to_obscore(archive, path),
        ExportFormat.SPECTRA: lambda path: tables.to_fits(archive, path, stream),
        ExportFormat.BANDPASS: lambda path: archive.spectrum(stream=stream).to_fits(path),
        ExportFormat.FILTERBANK: lambda path: pick_pulse(archive, pulse).to_filterbank(path),
        ExportFormat.VOEVENT: text(lambda: pick_pulse(archive, pulse).to_voevent()),
        ExportFormat.JSON: text(lambda: pick_pulse(archive, pulse).to_json()),
    }
