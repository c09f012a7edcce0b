"""``edgefilter flags``: flags of a block with and without some flaggers, and what they cost injected signals."""

import re

import numpy as np
import pytest

from edgefilter.cli import flags
from edgefilter.core.cells import FLAGGERS, flag_name
from tests.helpers.recorded_files import sigproc

BURST = slice(20, 23)
"""Channels of a transmitter that is on for a part of the block."""


def test_the_help_names_all_flaggers():
    assert tuple(map(flag_name, FLAGGERS)) == flags._FLAGGERS


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """Recording of noise in 128 channels and a transmitter."""
    power = np.random.default_rng(5).normal(100, 10, (2000, 1, 128))
    power[700:1100, 0, BURST] += 60
    path = tmp_path_factory.mktemp("flags") / "noisy.fil"
    return sigproc(path, np.clip(power, 0, 255).astype(np.uint8), 8, tsamp=0.001, foff=-4.0)


def rows(out):
    """Return the numbers of the table, by the name in the first column."""
    lines = (re.findall(r"[^│┃\s][^│┃]*[^│┃\s]", line) for line in out.splitlines())
    return {
        first.strip(): [float(number) for number in numbers]
        for first, *numbers in (line for line in lines if len(line) > 1)
        if all(re.fullmatch(r"[\d.]+", number) for number in numbers)
    }


def test_flags_and_losses_with_and_without_a_flagger(run_cli, recording, tmp_path):
    picture = tmp_path / "masks.png"
    status, out, _ = run_cli("flags", recording, "--without", "power", "--picture", picture, "--threads", 1)
    found = rows(out)
    assert status == 0
    assert "without power" in out
    all_flaggers, without_power = found["power"]
    assert all_flaggers == pytest.approx(100 * 400 * 3 / (2000 * 128), rel=0.2)
    assert without_power == 0
    assert {"zero_dm", "kurtosis", "carrier", "channel", "all"} <= set(found)
    assert {f"lost: {kind} {sigma} σ" for kind in ("pulse", "line") for sigma in ("0.5", "3", "30")} <= set(found)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert str(picture) in out.replace("\n", "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--without", "magic"), "--without magic: must be one of mask, zero_dm"),
        (("--picture", "masks.jpg"), "must end in .png"),
        (("--block", "9"), "--block 9: the stream has"),
        (("--picture", "/nowhere/at/all.png"), "/nowhere/at/all.png: cannot be written"),
    ],
)
def test_an_invalid_option_is_one_line_of_error(run_cli, recording, words, message):
    status, _, err = run_cli("flags", recording, *words, "--threads", 1)
    assert status != 0
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_a_file_of_unknown_format_is_one_line_of_error(run_cli, tmp_path):
    path = tmp_path / "nothing.fil"
    path.write_bytes(b"no header")
    status, _, err = run_cli("flags", path)
    assert status != 0
    assert str(path) in err
    assert "Traceback" not in err
