"""``edgefilter export``: write products of a store in standard formats."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgefilter.cli.options import StoreArgument
from edgefilter.cli.plot import PulseArgument, StreamOption, pick_pulse

if TYPE_CHECKING:
    from edgefilter.analysis.archive import Archive


class ExportFormat(StrEnum):
    """Formats, and what of a store they hold."""

    HEIMDALL = "heimdall"
    VOTABLE = "votable"
    OBSCORE = "obscore"
    SPECTRA = "spectra"
    BANDPASS = "bandpass"
    FILTERBANK = "filterbank"
    VOEVENT = "voevent"
    JSON = "json"


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
    what: Annotated[ExportFormat, typer.Argument(metavar="FORMAT", help="Format, see above.")],
    store: StoreArgument,
    pulse: PulseArgument = "1",
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write.", show_default="FORMAT.csv, .vot, .fits, …")
    ] = None,
    stream: StreamOption = None,
) -> None:
    """Export candidates, spectra or one pulse in a standard format.

    heimdall     candidates: CSV with the columns of heimdall
    votable      candidates: VOTable
    obscore      cut-outs: VOTable with the columns of ObsCore
    spectra      spectra: FITS table with the columns of PSRFITS
    bandpass     mean spectrum: FITS table for specutils
    filterbank   cut-out of PULSE: SIGPROC filterbank
    voevent      PULSE: VOEvent
    json         PULSE: JSON
    """
    # Imported here: astropy and pyarrow take seconds to import, and --help does not need them.
    from edgefilter.analysis.archive import open_store

    archive = open_store(store)
    path = out or Path(f"{what.value}.{_SUFFIXES[what]}")
    if what in (ExportFormat.FILTERBANK, ExportFormat.VOEVENT, ExportFormat.JSON):
        _export_pulse(what, archive, pulse, path)
    else:
        _export_table(what, archive, stream, path)
    typer.echo(f"{what.value} of {archive.location} written to {path}")


def _export_table(what: ExportFormat, archive: "Archive", stream: str | None, path: Path) -> None:
    from edgefilter.analysis.export import tables

    if what is ExportFormat.HEIMDALL:
        tables.to_heimdall(archive.pulses, path)
    elif what is ExportFormat.VOTABLE:
        tables.to_votable(archive.pulses, path)
    elif what is ExportFormat.OBSCORE:
        tables.to_obscore(archive, path)
    elif what is ExportFormat.SPECTRA:
        tables.to_fits(archive, path, stream)
    else:
        archive.spectrum(stream=stream).to_fits(path)


def _export_pulse(what: ExportFormat, archive: "Archive", name: str, path: Path) -> None:
    from edgefilter.analysis.export.atomic_file import atomic_write

    pulse = pick_pulse(archive, name)
    if what is ExportFormat.FILTERBANK:
        pulse.to_filterbank(path)
        return
    text = pulse.to_voevent() if what is ExportFormat.VOEVENT else pulse.to_json()
    with atomic_write(path) as part:
        part.write_text(text, encoding="utf-8")
