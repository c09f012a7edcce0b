"""``edgefilter check``: what a configuration means."""

from pathlib import Path

from edgefilter.plugins import Group, own_plugins

CONFIGS = Path(__file__).parents[2] / "configs"


def test_a_profile_is_explained(run_cli):
    status, out, _ = run_cli("check", CONFIGS / "demo.toml", "--no-measure")
    assert status == 0
    lines = {
        name.strip(): value.strip()
        for _, name, value in (line.split("│")[:3] for line in out.splitlines() if "│" in line)
    }
    assert lines["input"] == "voltage, 591.969 to 607.969 MHz, 64 MB/s"
    assert lines["channels"] == "256 of 62.5 kHz"
    assert lines["row"] == "1 cells, 0.512 ms"
    assert {"ring", "memory", "latency", "settings digest"} <= lines.keys()


def test_a_configuration_without_a_stream_is_one_line_of_error(run_cli, tmp_path):
    config = tmp_path / "node.toml"
    config.write_text("[pulses]\nsnr = 8.0\n")
    status, out, err = run_cli("check", config)
    assert (status, out) == (1, "")
    assert err.startswith(f"edgefilter: {config}: no section [stream] to estimate from")
    assert len(err.splitlines()) == 1


def test_the_plugins_of_a_configuration_are_named(run_cli, installer, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    installer.install("ef-shelf", "edgefilter.stores", {"shelf": "connect"}, "def connect(url, create, timeout): ...")
    arguments = ("check", CONFIGS / "demo.toml", "--no-measure")
    status, out, _ = run_cli(*arguments, "--set", "store.path='shelf://room/x'")
    assert status == 0
    lines = [line.strip("│ ") for line in out.splitlines()]
    version = own_plugins(Group.STORES)["s3"].version
    first = next(n for n, line in enumerate(lines) if line.startswith("plug-ins"))
    assert [line.split("│")[-1].strip() for line in lines[first : first + 2]] == [
        f"live input tcp: edgefilter {version}",
        "store shelf: ef-shelf 1.5",
    ]
    assert f"store file: edgefilter {version}" in run_cli(*arguments)[1]


def test_a_plugin_that_is_missing_or_broken_is_one_line_of_error(run_cli, installer):
    installer.install("ef-shelf", "edgefilter.stores", {"shelf": "connect"})
    for scheme, message in (
        ("shelf", "store 'shelf' of ef-shelf 1.5 cannot be loaded from ef_shelf:connect: AttributeError: "),
        ("gs", "no store 'gs' is installed; installed: file, s3, shelf"),
    ):
        status, out, err = run_cli("check", CONFIGS / "demo.toml", "--set", f"store.path='{scheme}://user:secret@h/x'")
        assert (status, out) == (1, "")
        assert err.startswith(f"edgefilter: {message}")
        assert len(err.splitlines()) == 1
