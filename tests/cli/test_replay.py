"""``edgefilter replay``: detections in recordings, and errors of bad files and settings."""

from pathlib import Path

import numpy as np
import pytest

import edgefilter
from edgefilter.core.errors import ConfigError
from edgefilter.pipeline import backend
from tests.helpers.recorded_files import sigproc


def read_pulses(store: Path) -> list[dict]:
    rows = edgefilter.open_store(store).table("pulses").to_pylist()
    return sorted(rows, key=lambda row: -row["snr"])


def test_a_fast_radio_burst_is_the_strongest_candidate(run_cli, data, tmp_path):
    status, out, err = run_cli("replay", data / "transients/FRB180417.fil", "--store", tmp_path, "--no-report")
    top, *others = read_pulses(tmp_path)
    assert status == 0
    assert top["dm"] == pytest.approx(474.8, abs=5)
    assert top["seconds"] == pytest.approx(2.029, abs=0.005)
    assert top["snr"] >= 13
    assert sum(row["snr"] > 8 for row in others) <= 2
    assert f"{top['snr']:.1f}" in out
    assert "reduced 100 %" in err  # lines instead of a bar: standard error is not a terminal
    cutout = edgefilter.open_store(tmp_path).cutout(top["cutout"])
    assert cutout.data.shape[2] == len(cutout.frequencies_mhz) == 336
    assert cutout.seconds[0] < top["seconds"] < cutout.seconds[-1]


def test_the_command_line_the_account_and_the_report_give_the_same_reduction(run_cli, data, tmp_path):
    store = tmp_path / "store"
    _, out, err = run_cli("replay", data / "transients/FRB180417.fil", "--store", store)
    account = edgefilter.open_store(store).account()
    assert f"beside the ledger, {account.reduction:.4g} to 1" in out + err
    assert f"{account.reduction:.4g} to 1" in account._repr_html_()
    assert f"<dd>{account.reduction:.0f} : 1</dd>" in (tmp_path / "store-report.html").read_text()


def test_the_same_burst_is_found_in_psrfits(run_cli, data, tmp_path):
    status, _, _ = run_cli("replay", data / "transients/FRB180417.fits", "--store", tmp_path, "--no-report")
    top = read_pulses(tmp_path)[0]
    assert status == 0
    assert top["dm"] == pytest.approx(474.8, abs=5)
    assert top["seconds"] == pytest.approx(2.029, abs=0.005)
    assert top["snr"] >= 10


def test_a_pulse_of_dm_1000_is_found(run_cli, data, tmp_path):
    status, _, _ = run_cli("replay", data / "synthetic/dispersed_pulse_dm1000.fil", "--store", tmp_path, "--no-report")
    top, *others = read_pulses(tmp_path)
    assert status == 0
    assert top["dm"] == pytest.approx(1000, abs=5)
    assert top["seconds"] == pytest.approx(5.108, abs=0.01)
    assert sum(row["snr"] > 8 for row in others) <= 2


@pytest.mark.parametrize(
    "name", [f"parkes_uwl_crab_{kind}" for kind in ("8bit.fil", "4bit.fil", "2bit.fil", "1bit.fil", "4pol.sf")]
)
def test_interference_causes_few_candidates(run_cli, data, tmp_path, name):
    status, _, _ = run_cli("replay", data / "transients" / name, "--store", tmp_path, "--no-report")
    assert status == 0
    assert sum(row["snr"] > 8 for row in read_pulses(tmp_path)) < 10


@pytest.mark.parametrize("name", ["puppi_j1810.raw", "effelsberg_2016+28.dada", "evn_b1957+20.vdif"])
def test_voltages_are_reduced_to_spectra(run_cli, data, tmp_path, name):
    short_blocks = ("--set", "block.rows=64")  # the recordings last milliseconds
    status, _, _ = run_cli("replay", data / "raw" / name, "--store", tmp_path, *short_blocks, "--no-report")
    assert status == 0
    store = edgefilter.open_store(tmp_path)
    power = np.array(store.table("spectra")["power"][0].as_py())
    assert np.all(np.isfinite(power))
    assert np.any(power > 0)
    assert store.table("ledger").num_rows >= 1


def test_damaged_vdif_is_refused_or_its_damaged_frames_are_lost(run_cli, data, tmp_path):
    status, _, err = run_cli("replay", data / "raw/drao_corrupted.vdif", "--store", tmp_path / "store", "--no-report")
    if status:
        assert len(err.strip().splitlines()) == 1
        assert not (tmp_path / "store").exists()
    else:
        ledger = edgefilter.open_store(tmp_path / "store").table("ledger").to_pylist()
        assert sum(row["lost_damaged"] + row["lost_missing"] for row in ledger) > 0


def test_an_unreadable_file_is_one_line_of_error_and_makes_no_store(run_cli, data, tmp_path):
    whole = (data / "transients/FRB180417.fil").read_bytes()
    bad = {
        "empty.fil": b"",
        "text.fil": b"This is not a telescope's file.\n",
        "cut.fil": whole[:100],
        "headers.raw": (data / "raw/guppi_headers_only.raw").read_bytes(),
    }
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
    for path in [*(tmp_path / name for name in bad), tmp_path / "missing.fil", tmp_path]:
        status, out, err = run_cli("replay", path, "--store", tmp_path / "store")
        assert status == 1, path
        assert len(err.strip().splitlines()) == 1, err
        assert str(path) in err
        assert not out
        assert not (tmp_path / "store").exists()


def test_a_truncated_file_is_reduced_up_to_its_last_whole_spectrum(run_cli, data, tmp_path):
    content = (data / "transients/FRB180417.fil").read_bytes()
    (tmp_path / "cut.fil").write_bytes(content[:-100])
    status, _, err = run_cli("replay", tmp_path / "cut.fil", "--store", tmp_path / "store", "--no-report")
    assert status == 0
    assert "warning" in err
    received = edgefilter.open_store(tmp_path / "store").table("ledger")["samples_received"].to_pylist()
    assert sum(received) == 5119


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--dm", "5"], "--dm 5"),
        (["--dm", "90:10"], "dm is 90.0:10.0"),
        (["--set", "pulses.colour=1"], "pulses.colour"),
        (["--set", "pulses.snr=high"], "pulses.snr"),
        (["--config", "absent.toml"], "absent.toml"),
    ],
)
def test_an_invalid_setting_is_one_line_of_error(run_cli, tmp_path, words, message):
    status, _, err = run_cli("replay", tmp_path / "any.fil", "--store", tmp_path / "store", *words)
    assert status == 1
    assert len(err.strip().splitlines()) == 1
    assert message in err


def test_without_a_gpu_auto_uses_the_processor_and_gpu_is_an_error(run_cli, monkeypatch, tmp_path):
    def raise_no_gpu():
        raise ConfigError("no GPU: there is none")

    monkeypatch.setattr(backend, "GpuBackend", raise_no_gpu)
    path = tmp_path / "noise.fil"
    sigproc(path, np.random.default_rng(3).integers(90, 110, (600, 1, 64), np.uint8), 8, tsamp=1e-3)
    status, _, err = run_cli("replay", path, "--store", tmp_path / "auto", "--backend", "auto", "--no-report")
    assert status == 0
    assert "reducing on: processor" in err
    assert "no GPU: there is none" in err
    status, _, err = run_cli("replay", path, "--store", tmp_path / "gpu", "--backend", "gpu", "--no-report")
    assert status == 1
    assert err.strip() == "edgefilter: backend gpu: no GPU: there is none"
    assert not (tmp_path / "gpu").exists()
