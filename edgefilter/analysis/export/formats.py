"""edgefilter's own exports. Slow packages are imported when a file is written."""

from pathlib import Path
from typing import TYPE_CHECKING

from edgefilter.analysis.export.atomic_file import atomic_write
from edgefilter.analysis.export.base import ArchiveExport, PulseExport

if TYPE_CHECKING:
    from edgefilter.analysis.archive import Archive
    from edgefilter.analysis.pulse import Pulse


def _heimdall(archive: "Archive", path: Path, _stream: str | None) -> None:
    from edgefilter.analysis.export.tables import to_heimdall

    to_heimdall(archive.pulses, path)


def _votable(archive: "Archive", path: Path, _stream: str | None) -> None:
    from edgefilter.analysis.export.tables import to_votable

    to_votable(archive.pulses, path)


def _obscore(archive: "Archive", path: Path, _stream: str | None) -> None:
    from edgefilter.analysis.export.tables import to_obscore

    to_obscore(archive, path)


def _spectra(archive: "Archive", path: Path, stream: str | None) -> None:
    from edgefilter.analysis.export.tables import to_fits

    to_fits(archive, path, stream)


def _bandpass(archive: "Archive", path: Path, stream: str | None) -> None:
    archive.spectrum(stream=stream).to_fits(path)


def _filterbank(pulse: "Pulse", path: Path) -> None:
    pulse.to_filterbank(path)


def _voevent(pulse: "Pulse", path: Path) -> None:
    _write_text(pulse.to_voevent(), path)


def _json(pulse: "Pulse", path: Path) -> None:
    _write_text(pulse.to_json(), path)


def _write_text(text: str, path: Path) -> None:
    with atomic_write(path) as part:
        part.write_text(text, encoding="utf-8")


HEIMDALL = ArchiveExport("candidates: CSV with the columns of heimdall", "csv", _heimdall)
VOTABLE = ArchiveExport("candidates: VOTable", "vot", _votable)
OBSCORE = ArchiveExport("cut-outs: VOTable with the columns of ObsCore", "vot", _obscore)
SPECTRA = ArchiveExport("spectra: FITS table with the columns of PSRFITS", "fits", _spectra)
BANDPASS = ArchiveExport("mean spectrum: FITS table for specutils", "fits", _bandpass)
FILTERBANK = PulseExport("cut-out of PULSE: SIGPROC filterbank", "fil", _filterbank)
VOEVENT = PulseExport("PULSE: VOEvent", "xml", _voevent)
JSON = PulseExport("PULSE: JSON", "json", _json)
