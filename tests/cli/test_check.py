"""``edgefilter check``: what a configuration means."""

from pathlib import Path

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
