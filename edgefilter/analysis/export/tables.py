"""Tables in formats of other tools: heimdall's candidates, VOTable, ObsCore, FITS."""

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgefilter.analysis.export.atomic_file import atomic_write
from edgefilter.analysis.tables import column_to_numpy
from edgefilter.core.clock import mjd, to_time
from edgefilter.core.errors import StoreError

if TYPE_CHECKING:
    from astropy.table import Table

    from edgefilter.analysis.archive import Archive
    from edgefilter.analysis.pulse import Pulses

HEIMDALL_COLUMNS = ("snr", "sample", "time", "filter", "dm_trial", "dm", "members", "begin", "end")
"""Columns of a heimdall ``.cand`` file, in order."""

_SPEED_OF_LIGHT = 299_792_458.0
_UCDS = {
    "stream": "meta.id",
    "time": "time.epoch",
    "seconds": "time.interval",
    "dm": "phys.dispMeasure",
    "dm_error": "stat.error;phys.dispMeasure",
    "width": "time.duration",
    "snr": "stat.snr",
    "freq_low": "em.freq;stat.min",
    "freq_high": "em.freq;stat.max",
}


def to_heimdall(pulses: "Pulses", path: str | Path) -> Path:
    """Write candidates as CSV with the columns of heimdall, :data:`HEIMDALL_COLUMNS`, and a line of column names.

    Sample numbers are those of the stream. ``filter`` is the rounded binary logarithm of the boxcar width in samples.
    ``dm_trial`` is the rank of the DM in the file, because the store does not keep the number of the trial.

    Parameters
    ----------
    pulses
        The candidates.
    path
        The file; an existing one is replaced.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    StoreError
        If the header of a stream is missing, or the file cannot be written.
    """
    trials = {dm: rank for rank, dm in enumerate(sorted({pulse.dm for pulse in pulses}))}
    rows = []
    for pulse in pulses:
        samples = max(float(pulse.width * pulse.header.rate), 1.0)
        begin = max(round(pulse.row.sample - samples / 2), 0)
        log2_width = round(np.log2(samples))
        rows.append(
            (
                f"{pulse.snr:.6g}", pulse.row.sample, f"{pulse.seconds:.9g}", log2_width, trials[pulse.dm],
                f"{pulse.dm:.9g}", pulse.row.members, begin, begin + round(samples),
            )
        )  # fmt: skip
    with atomic_write(path) as part, part.open("w", newline="", encoding="ascii") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEIMDALL_COLUMNS)
        writer.writerows(rows)
    return Path(path)


def to_votable(pulses: "Pulses", path: str | Path) -> Path:
    """Write candidates as VOTable 1.4 with units, descriptions and UCDs; ``time`` is MJD of UTC.

    Parameters
    ----------
    pulses
        The candidates.
    path
        The file; an existing one is replaced.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    StoreError
        If the file cannot be written.
    """
    from astropy.io.votable import from_table, writeto
    from astropy.table import Table

    source = pulses.to_qtable()
    table = Table(source)
    table["sample"] = source["sample"].astype(np.int64)  # VOTable has no unsigned 64 bits
    table["sample"].description = source["sample"].description
    table["time"] = source["time"].mjd
    table["time"].unit = "d"
    table["time"].description = "arrival at the top of the stream's band, MJD of UTC"
    table["id"] = [pulse.id for pulse in pulses] if len(pulses) else np.array([], np.str_)
    table.meta.clear()
    votable = from_table(table, table_id="pulses")
    votable.version = "1.4"
    for field in votable.get_first_table().fields:
        field.ucd = _UCDS.get(field.name)
    with atomic_write(path) as part:
        writeto(votable, str(part))
    return Path(path)


def obscore(archive: "Archive") -> "Table":
    """Return the cut-outs as rows of ObsCore 1.1, the data model of searches in observatory archives.

    Each cut-out is read to get its exact extent. ``s_ra``, ``s_dec`` and ``s_fov`` are NaN, because streams do not
    contain the pointing of the telescope.

    Parameters
    ----------
    archive
        The store.

    Returns
    -------
    Table
        An astropy table with the mandatory columns in order, IVOA Recommendation 2017-05-09, table 1.

    Raises
    ------
    StoreError
        If the store has no cut-out.
    """
    from astropy.table import Table

    rows = []
    for pulse in archive.pulses:
        if not pulse.row.cutout:
            continue
        cutout = pulse.product
        half = abs(cutout.channel_mhz) / 2
        low, high = cutout.frequencies_mhz.min() - half, cutout.frequencies_mhz.max() + half
        start = mjd(cutout.tai_ns)
        seconds = len(cutout.data) * cutout.row_seconds
        rows.append(
            {
                "dataproduct_type": "cube",
                "calib_level": 1,
                "obs_collection": "edgefilter",
                "obs_id": pulse.stream,
                "obs_publisher_did": f"ivo://edgefilter/{pulse.row.cutout}",
                "access_url": f"{archive.location}/{pulse.row.cutout}",
                "access_format": "application/x-hdf5",
                "access_estsize": cutout.data.nbytes // 1000,
                "target_name": cutout.source,
                "s_ra": np.nan,
                "s_dec": np.nan,
                "s_fov": np.nan,
                "s_region": "",
                "s_resolution": np.nan,
                "s_xel1": 1,
                "s_xel2": 1,
                "t_min": start,
                "t_max": start + seconds / 86400,
                "t_exptime": seconds,
                "t_resolution": cutout.row_seconds,
                "t_xel": len(cutout.data),
                "em_min": _SPEED_OF_LIGHT / (high * 1e6),
                "em_max": _SPEED_OF_LIGHT / (low * 1e6) if low > 0 else np.nan,
                "em_res_power": (low + high) / 2 / (2 * half),
                "em_xel": cutout.data.shape[2],
                "o_ucd": "phot.flux.density;em.radio",
                "pol_states": f"/{'/'.join(cutout.stokes)}/",
                "pol_xel": len(cutout.stokes),
                "facility_name": cutout.telescope,
                "instrument_name": "edgefilter",
            }
        )
    if not rows:
        raise StoreError(f"store {archive.location} has no cut-outs")
    table = Table(rows)
    for name, unit in _OBSCORE_UNITS.items():
        table[name].unit = unit
    return table


def to_obscore(archive: "Archive", path: str | Path) -> Path:
    """Write the result of :func:`obscore` as VOTable.

    Parameters
    ----------
    archive
        The store.
    path
        The file; an existing one is replaced.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    StoreError
        If the store has no cut-out, or the file cannot be written.
    """
    table = obscore(archive)
    with atomic_write(path) as part:
        table.write(str(part), format="votable", overwrite=True)
    return Path(path)


_OBSCORE_UNITS = {
    "access_estsize": "kbyte", "s_ra": "deg", "s_dec": "deg", "s_fov": "deg", "s_resolution": "arcsec", "t_min": "d",
    "t_max": "d", "t_exptime": "s", "t_resolution": "s", "em_min": "m", "em_max": "m",
}  # fmt: skip


def to_fits(archive: "Archive", path: str | Path, stream: str | None = None, config: str | None = None) -> Path:
    """Write the spectra of a stream as a FITS table with the columns of a PSRFITS ``SUBINT`` extension.

    A row is a block. ``DATA`` is the mean power ``[polarisation, channel]``, ``DAT_WTS`` the share of good cells,
    ``DAT_FREQ`` the centre frequencies in MHz, ``OFFS_SUB`` the middle of the block in s since the stream's first
    sample, whose MJD is ``STT_IMJD`` + (``STT_SMJD`` + ``STT_OFFS``) / 86400 as in PSRFITS. The file is not a complete
    PSRFITS file: it has no scaling, folding and history.

    Parameters
    ----------
    archive
        The store.
    path
        The file; an existing one is replaced.
    stream, config
        Id of the stream and digest of the settings; may be left out if the store has one.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    StoreError
        If the store does not have exactly one such stream, or the file cannot be written.
    """
    from astropy.io import fits

    first = archive.blocks(stream=stream, config=config)
    name = stream or next(iter(archive.streams()))
    header = archive.streams()[name]
    stokes = sorted(set(column_to_numpy(archive.table("spectra", ["stokes"]), "stokes").tolist()), key="IQUV".find)
    planes = [archive.blocks(stream=stream, config=config, stokes=plane) for plane in stokes]
    count, channels = first.cells.shape
    weights = np.divide(first.cells, np.maximum(first.total, 1))
    columns = [
        fits.Column("TSUBINT", "1D", "s", array=np.full(count, first.duration)),
        fits.Column("OFFS_SUB", "1D", "s", array=first.seconds + first.duration / 2),
        fits.Column("DAT_FREQ", f"{channels}D", "MHz", array=np.tile(first.frequencies_mhz, (count, 1))),
        fits.Column("DAT_WTS", f"{channels}E", array=weights.astype(np.float32)),
        fits.Column(
            "DATA",
            f"{channels * len(planes)}E",
            dim=f"({channels},{len(planes)})",
            array=np.stack([plane.power for plane in planes], axis=1),
        ),
    ]
    table = fits.BinTableHDU.from_columns(columns, name="SUBINT")
    day, seconds = _mjd_and_seconds(header.epoch_tai_ns)
    frequencies, half = first.frequencies_mhz, abs(first.frequencies_mhz[1:2] - first.frequencies_mhz[:1])
    primary = fits.PrimaryHDU()
    for key, value in {
        "TELESCOP": header.telescope or "unknown",
        "SRC_NAME": header.source or "unknown",
        "BACKEND": "edgefilter",
        "OBSFREQ": float(frequencies.mean()),
        "OBSBW": float(np.ptp(frequencies) + half.sum()),
        "OBSNCHAN": channels,
        "STT_IMJD": day,
        "STT_SMJD": int(seconds),
        "STT_OFFS": seconds % 1,
        "STREAM": name,
    }.items():
        primary.header[key] = value
    table.header["INT_TYPE"] = "TIME"
    table.header["POL_TYPE"] = "".join(stokes)
    table.header["NPOL"], table.header["NCHAN"], table.header["NBIN"] = len(planes), channels, 1
    with atomic_write(path) as part:
        fits.HDUList([primary, table]).writeto(part, overwrite=True)
    return Path(path)


def _mjd_and_seconds(tai_ns: int) -> tuple[int, float]:
    """Return the whole MJD of UTC and the seconds of that day."""
    time = to_time(tai_ns)
    whole = time.jd1 - 2400000.5
    day = int(np.floor(whole + time.jd2))
    return day, float((whole - day + time.jd2) * 86400)
