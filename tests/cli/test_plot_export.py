"""``edgefilter plot`` and ``edgefilter export``."""

import subprocess
import sys

import pytest

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("what", ["waterfall", "pulse", "bandpass", "flags", "candidates"])
def test_plot_writes_a_picture(run_cli, run, tmp_path, what):
    status, out, _ = run_cli("plot", what, run.location, "--save", tmp_path / "x.png")
    assert status == 0
    assert (tmp_path / "x.png").read_bytes().startswith(PNG)
    assert f"{what} of {run.location} drawn to" in out


def test_a_pulse_is_selected_by_rank_or_id(run_cli, run, tmp_path):
    by_rank = run_cli("plot", "pulse", run.location, "2", "--save", tmp_path / "a.png")
    by_id = run_cli("plot", "pulse", run.location, run.pulses[1].id, "--save", tmp_path / "b.png")
    assert by_rank[0] == by_id[0] == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("plot", "pulse", "STORE", "9"), "pulse 9: must be a rank in S/N from 1 to 3, or an id"),
        (("plot", "pulse", "STORE", "--save", "x.doc"), "x.doc: a picture's name must end in one of"),
        (("plot", "flags", "STORE", "--start", "noon"), "'noon' is not a date"),
        (("plot", "flags", "absent"), "no such directory"),
        (("export", "voevent", "STORE", "nothing"), "pulse 'nothing' is not one of the 3 pulses"),
        (("export", "json", "STORE", "--out", "absent/x.json"), "absent/x.json: cannot be written"),
    ],
)
def test_a_wrong_argument_is_one_line_of_error(run_cli, run, arguments, message):
    status, _, err = run_cli(*(run.location if argument == "STORE" else argument for argument in arguments))
    assert status == 1
    assert err.startswith("edgefilter: ")
    assert message in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("what", "head"),
    [("heimdall", b"snr,sample,"), ("votable", b"<?xml"), ("obscore", b"<?xml"), ("spectra", b"SIMPLE"),
     ("bandpass", b"SIMPLE"), ("filterbank", b"\x0c\0\0\0HEADER_START"), ("voevent", b"<?xml"), ("json", b"{")],
)  # fmt: skip
def test_export_writes_each_format(run_cli, run, tmp_path, what, head):
    assert run_cli("export", what, run.location, "--out", tmp_path / "x")[0] == 0
    assert (tmp_path / "x").read_bytes().startswith(head)


# Exports of another package: of the store, of a pulse, and broken ones.
EXPORTS = """
from edgefilter.analysis.export.atomic_file import atomic_write
from edgefilter.analysis.export.base import ArchiveExport, PulseExport

def write_count(archive, path, stream):
    with atomic_write(path) as part:
        part.write_text(f"{len(archive.pulses)} {stream}")

def write_snr(pulse, path):
    with atomic_write(path) as part:
        part.write_text(f"{pulse.row.snr:.1f}")

COUNT = ArchiveExport("number of [candidates]", "txt", write_count)
SNR = PulseExport("S/N of PULSE", "snr", write_snr)
CRASHES = PulseExport("crashes", "txt", lambda pulse, path: {}["key"])
TEXT = "text"
"""
TARGETS = {"count": "COUNT", "snr": "SNR", "crashes": "CRASHES", "text": "TEXT", "missing": "MISSING"}


@pytest.fixture
def exports(installer):
    installer.install("ef-exports", "edgefilter.exports", TARGETS, EXPORTS)


def test_an_export_of_another_package_is_found_by_its_name(run_cli, run, tmp_path, monkeypatch, exports):
    monkeypatch.chdir(tmp_path)
    status, out, _ = run_cli("export", "count", run.location, "--stream", "x")
    assert (status, out) == (0, f"count of {run.location} written to count.txt\n")
    assert (tmp_path / "count.txt").read_text() == "3 x"
    assert run_cli("export", "snr", run.location, "2")[0] == 0
    assert (tmp_path / "snr.snr").read_text() == f"{run.pulses[1].row.snr:.1f}"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "no export 'nothing' is installed; installed: bandpass, filterbank, heimdall, json, obscore, "),
        ("crashes", "export 'crashes' of ef-exports 1.5 failed: KeyError: 'key' (ef_exports.py:15)"),
        ("text", "export 'text' of ef-exports 1.5: ef_exports:TEXT is of type str, must be Export"),
        ("missing", "export 'missing' of ef-exports 1.5 cannot be loaded from ef_exports:MISSING: "),
    ],
)
def test_an_export_that_is_missing_or_broken_is_one_line(run_cli, run, tmp_path, monkeypatch, exports, name, message):
    monkeypatch.chdir(tmp_path)
    status, out, err = run_cli("export", name, run.location)
    assert (status, out) == (1, "")
    assert err.startswith(f"edgefilter: {message}")
    assert len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_help_lists_exports_of_other_packages_and_broken_ones(run_cli, monkeypatch, exports):
    monkeypatch.setenv("COLUMNS", "120")
    run_cli("export", "--help")
    status, out, _ = run_cli("export", "--help")
    assert status == 0
    assert out.count("columns of heimdall") == 1
    lines = [line.strip() for line in out.splitlines()]
    assert "heimdall     candidates: CSV with the columns of heimdall" in lines
    assert "count        number of [candidates] (ef-exports 1.5)" in lines
    assert (
        "text         broken: export 'text' of ef-exports 1.5: ef_exports:TEXT is of type str, must be Export" in lines
    )


def test_help_imports_no_slow_packages():
    script = (
        "import sys\nfrom edgefilter.cli.main import main\nsys.argv = ['edgefilter', 'export', '--help']\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print(*sorted({'numba', 'scipy', 'astropy', 'pyarrow', 'pandas', 'matplotlib'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].strip() == ""
