"""``edgefilter plot`` and ``edgefilter export``."""

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
