"""Exported files open in other tools, with the same values."""

import csv
import json
import math
import struct
import xml.etree.ElementTree as ET
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.io.votable import parse, validate
from astropy.io.votable.ucd import check_ucd
from astropy.table import QTable

import edgefilter
from edgefilter.analysis.export import tables
from edgefilter.analysis.export.sigproc import write_cutout
from edgefilter.core.errors import StoreError
from edgefilter.core.plan import dispersion_delay
from tests.helpers.pulse_cutout import make_cutout

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.mark.parametrize("fill", [None, math.nan])
def test_a_cutout_replayed_gives_the_same_pulse(run, tmp_path, fill):
    pulse = run.pulses[0]
    path = pulse.to_filterbank(tmp_path / "cutout.fil", fill=fill)
    again = edgefilter.replay(path, dm=(0, 300), threads=1).pulses[0]
    assert again.snr == pytest.approx(pulse.snr, rel=0.1)
    assert abs(again.dm - pulse.dm) <= pulse.row.dm_error + again.row.dm_error
    assert abs((again.time - pulse.time).to_value("ms")) < 2
    assert again.width == pytest.approx(pulse.width, rel=0.3)


@pytest.mark.parametrize("fill", [None, math.nan])
def test_the_cutout_of_a_real_burst_replayed_gives_the_same_pulse(data, tmp_path, fill):
    pulse = edgefilter.replay(data / "transients" / "FRB180417.fil", dm=(300, 600), threads=1).pulses[0]
    path = pulse.to_filterbank(tmp_path / "burst.fil", fill=fill)
    again = edgefilter.replay(path, dm=(300, 600), threads=1).pulses[0]
    assert again.dm == pytest.approx(pulse.dm, abs=pulse.row.dm_error)
    assert again.snr == pytest.approx(pulse.snr, rel=0.1)
    assert abs((again.time - pulse.time).to_value("ms")) < 1.3


@pytest.mark.parametrize("rising", [False, True])
def test_a_filterbank_follows_the_format(tmp_path, rising):
    cutout = make_cutout(rising=rising, mask=slice(5, 7))
    header, data = read_sigproc(write_cutout(cutout, tmp_path / "x.fil"))
    assert header["nchans"], header["nbits"] == (64, 32)
    assert header["fch1"] == cutout.frequencies_mhz.max()
    assert header["foff"] == -abs(cutout.channel_mhz)
    assert header["tsamp"] == 1e-3
    assert header["data_type"] == 1
    expected = cutout.data[:, :, ::-1] if rising else cutout.data
    np.testing.assert_array_equal(data, np.where(expected == 0, 0, expected))


def test_unused_cells_are_filled_with_noise_of_their_channel(tmp_path):
    cutout = make_cutout()
    mask = cutout.mask.copy()
    mask[50:200, 3] = 1
    header, data = read_sigproc(write_cutout(replace(cutout, mask=mask), tmp_path / "x.fil"))
    good, filled = np.delete(cutout.data[:, 0, 3], slice(50, 200)), data[50:200, 0, 3]
    # 150 values: three standard errors.
    assert abs(filled.mean() - good.mean()) < 0.25 * good.std()
    assert filled.std() == pytest.approx(good.std(), rel=0.18)
    assert np.array_equal(np.delete(data[:, 0], 3, axis=1), np.delete(cutout.data[:, 0], 3, axis=1))
    mask[:] = cutout.mask
    mask[100:120, 3] = 1
    _, data = read_sigproc(write_cutout(replace(cutout, mask=mask), tmp_path / "x.fil", math.nan))
    assert np.isnan(data[100:120, 0, 3]).all()
    assert np.isnan(data).sum() == 20
    assert header["source_name"] == "unknown"


def test_a_file_that_cannot_be_written_raises_an_error_and_leaves_nothing(run, tmp_path):
    with pytest.raises(StoreError, match="cannot be written: No such file or directory"):
        run.pulses[0].to_filterbank(tmp_path / "absent" / "x.fil")
    target = tmp_path / "folder.csv"
    target.mkdir()
    with pytest.raises(StoreError, match=r"folder\.csv: cannot be written"):
        tables.to_heimdall(run.pulses, target)
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.filterwarnings("ignore")
def test_your_reads_a_filterbank(tmp_path):
    your = pytest.importorskip("your")
    cutout = make_cutout()
    reader = your.Your(str(write_cutout(cutout, tmp_path / "x.fil")))
    np.testing.assert_array_equal(reader.get_data(0, 256), cutout.data[:, 0])
    assert (reader.your_header.fch1, reader.your_header.tsamp) == (1400.0, 1e-3)


@pytest.mark.filterwarnings("ignore")
def test_blimpy_reads_a_filterbank(tmp_path):
    blimpy = pytest.importorskip("blimpy")
    cutout = make_cutout()
    np.testing.assert_array_equal(blimpy.Waterfall(str(write_cutout(cutout, tmp_path / "x.fil"))).data, cutout.data)


@pytest.mark.filterwarnings("ignore")
def test_sigpyproc_reads_a_filterbank(tmp_path):
    readers = pytest.importorskip("sigpyproc.readers")
    cutout = make_cutout()
    block = readers.FilReader(str(write_cutout(cutout, tmp_path / "x.fil"))).read_block(0, 256)
    np.testing.assert_array_equal(block.data, cutout.data[:, 0].T)


def test_candidates_are_written_in_the_order_of_heimdall(run, tmp_path):
    with tables.to_heimdall(run.pulses, tmp_path / "x.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["snr", "sample", "time", "filter", "dm_trial", "dm", "members", "begin", "end"]
    assert len(rows) == 3
    for row, pulse in zip(rows, run.pulses, strict=True):
        assert float(row["dm"]) == pytest.approx(pulse.dm)
        assert float(row["time"]) == pytest.approx(pulse.seconds)
        assert int(row["begin"]) < int(row["sample"]) < int(row["end"])
        assert int(row["filter"]) == round(math.log2(pulse.width * 1000))
        assert int(row["end"]) - int(row["begin"]) == pytest.approx(pulse.width * 1000)


def test_the_votable_is_valid_and_has_the_same_values(run, tmp_path, capsys):
    path = tables.to_votable(run.pulses, tmp_path / "x.vot")
    assert validate(str(path)), capsys.readouterr().out
    table = parse(str(path), verify="exception").get_first_table()
    back, source = table.to_table(), run.pulses.to_qtable()
    assert back["dm"].unit == units.pc / units.cm**3
    np.testing.assert_array_equal(back["dm"], source["dm"].value)
    np.testing.assert_allclose(back["time"], source["time"].mjd, rtol=1e-15)
    assert list(back["id"]) == [pulse.id for pulse in run.pulses]
    assert all(check_ucd(field.ucd, check_controlled_vocabulary=True) for field in table.fields if field.ucd)
    assert validate(str(tables.to_votable(run.pulses[:0], tmp_path / "none.vot")))


def test_cutouts_are_listed_as_obscore(run, tmp_path):
    table = tables.obscore(run)
    assert len(table) == 3
    assert table.colnames[:6] == [
        "dataproduct_type", "calib_level", "obs_collection", "obs_id", "obs_publisher_did", "access_url",
    ]  # fmt: skip
    assert len(table.colnames) == 30
    for row, pulse in zip(table, run.pulses, strict=True):
        assert row["t_min"] < pulse.time.mjd < row["t_max"]
        assert row["em_min"] == pytest.approx(299.792458 / 1550)
        assert row["em_max"] == pytest.approx(299.792458 / 1250)
        assert row["em_xel"] == 96
    assert validate(str(tables.to_obscore(run, tmp_path / "x.vot")))


def test_spectra_are_written_as_fits_in_the_columns_of_psrfits(run, tmp_path):
    path = tables.to_fits(run, tmp_path / "x.fits")
    blocks = run.blocks()
    with fits.open(path) as file:
        file.verify("exception")
        table, header = file["SUBINT"], file[0].header
        np.testing.assert_array_equal(table.data["DATA"], blocks.power[:, None])
        np.testing.assert_array_equal(table.data["DAT_FREQ"][0], blocks.frequencies_mhz)
        np.testing.assert_allclose(table.data["OFFS_SUB"], (np.arange(6) + 0.5) * 1.024)
        assert (table.data["DAT_WTS"].min(), table.data["DAT_WTS"].max()) == (0, 1)
        assert header["STT_IMJD"] == 61041
        assert header["STT_SMJD"] == 0
        assert header["OBSBW"] == pytest.approx(300)


def test_the_bandpass_is_read_back_from_fits(run, tmp_path):
    spectrum = run.spectrum()
    table = QTable.read(spectrum.to_fits(tmp_path / "x.fits"))
    np.testing.assert_array_equal(table["spectral_axis"].to_value("MHz"), spectrum.frequencies_mhz)
    np.testing.assert_array_equal(table["cells"], spectrum.cells)


@pytest.mark.filterwarnings("ignore")
def test_specutils_takes_the_spectrum(run, tmp_path):
    specutils = pytest.importorskip("specutils")
    spectrum = run.spectrum()
    taken = spectrum.to_specutils()
    np.testing.assert_array_equal(taken.mask, spectrum.mask)
    read = specutils.Spectrum.read(spectrum.to_fits(tmp_path / "x.fits"), format="tabular-fits")
    np.testing.assert_array_equal(read.spectral_axis.to_value("MHz"), taken.spectral_axis.to_value("MHz"))


def test_a_voevent_has_the_elements_of_the_standard(run):
    pulse = run.pulses[0]
    text = pulse.to_voevent(role="test", position=SkyCoord(83.6, 22.0, unit="deg"), date=NOON)
    root = ET.fromstring(text)
    assert root.tag == "{http://www.ivoa.net/xml/VOEvent/v2.0}VOEvent"
    assert (root.get("version"), root.get("role")) == ("2.0", "test")
    assert root.get("ivorn") == f"ivo://edgefilter/{pulse.stream}#{pulse.id}"
    assert [child.tag for child in root] == ["Who", "What", "WhereWhen", "How", "Why"]
    assert root.findtext("Who/Date") == "2026-11-23T12:00:00"
    params = {param.get("name"): param for param in root.iter("Param")}
    assert float(params["dm"].get("value")) == pulse.dm
    assert float(params["width"].get("value")) == pulse.width * 1e3
    assert all(check_ucd(param.get("ucd"), True) for param in params.values() if param.get("ucd"))
    time = root.findtext("WhereWhen/ObsDataLocation/ObservationLocation/AstroCoords/Time/TimeInstant/ISOTime")
    assert time.startswith(pulse.time.isot[:-1])
    assert root.find(".//Position2D/Value2/C1").text == "83.6"
    assert ET.fromstring(pulse.to_voevent()).find(".//Position2D") is None
    for wrong in ({"role": "alert"}, {"author": "me"}):
        with pytest.raises(StoreError, match="must be"):
            pulse.to_voevent(**wrong)


@pytest.mark.filterwarnings("ignore")
def test_a_voevent_is_valid_against_its_schema(run):
    voeventparse = pytest.importorskip("voeventparse")
    for options in ({}, {"position": SkyCoord(83.6, 22.0, unit="deg"), "position_error_deg": 0.1}):
        voeventparse.assert_valid_as_v2_0(voeventparse.loads(run.pulses[0].to_voevent(**options).encode()))


def test_a_notice_has_the_field_names_of_gcn(run):
    pulse = run.pulses[0]
    notice = json.loads(pulse.to_json(SkyCoord(83.6, 22.0, unit="deg")))
    assert notice["id"] == pulse.id
    assert notice["spectral_band"] == pytest.approx([1250, 1550])
    assert notice["trigger_time"].startswith(pulse.time.isot[:-1])
    assert notice["trigger_time"].endswith("Z")
    assert (notice["ra"], notice["dec"]) == pytest.approx((83.6, 22.0))
    early = datetime.fromisoformat(notice["trigger_time_inf_freq"])
    late = datetime.fromisoformat(notice["trigger_time"])
    top = pulse.header.frequencies_hz.max() / 1e6
    assert (late - early).total_seconds() == pytest.approx(dispersion_delay(pulse.dm, top, np.inf), abs=2e-6)
    assert "ra" not in json.loads(pulse.to_json())


def read_sigproc(path):
    """Read a SIGPROC file as its documentation says: a keyword, then an int, a double or a string."""
    raw = path.read_bytes()
    at, header = 0, {}

    def text():
        nonlocal at
        (length,) = struct.unpack_from("<i", raw, at)
        assert 1 <= length <= 80
        at += 4 + length
        return raw[at - length : at].decode("ascii")

    assert text() == "HEADER_START"
    while (key := text()) != "HEADER_END":
        assert key not in header
        if key in ("source_name", "rawdatafile"):
            header[key] = text()
        else:
            whole = key in ("telescope_id", "machine_id", "data_type", "nchans", "nbits", "nifs")
            assert whole or key in (
                "src_raj", "src_dej", "az_start", "za_start", "tstart", "tsamp", "fch1", "foff",
            )  # fmt: skip
            (header[key],) = struct.unpack_from("<i" if whole else "<d", raw, at)
            at += 4 if whole else 8
    numbers = np.frombuffer(raw[at:], "<f4")
    return header, numbers.reshape(-1, header["nifs"], header["nchans"])
