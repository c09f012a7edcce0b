"""``edgefilter flags``: what would be flagged of a block, with and without some flaggers."""

import re

import numpy as np
import pytest

from tests.helpers.recorded_files import sigproc

BURST = slice(20, 23)
"""Channels of a transmitter that is on for a while."""


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """Noise of 128 channels and a transmitter."""
    power = np.random.default_rng(5).normal(100, 10, (2000, 1, 128))
    power[700:1100, 0, BURST] += 60
    path = tmp_path_factory.mktemp("flags") / "noisy.fil"
    return sigproc(path, np.clip(power, 0, 255).astype(np.uint8), 8, tsamp=0.001, foff=-4.0)


def rows(out):
    """The numbers of each line of the table."""
    lines = (re.findall(r"[^│┃\s][^│┃]*[^│┃\s]", line) for line in out.splitlines())
    return {
        first.strip(): [float(number) for number in numbers]
        for first, *numbers in (line for line in lines if len(line) > 1)
        if all(re.fullmatch(r"[\d.]+", number) for number in numbers)
    }


def test_masks_and_costs_of_a_block(run_cli, noisy):
    status, out, _ = run_cli("flags", noisy, "--threads", 1)
    found = rows(out)
    assert status == 0
    assert found["power"][0] == pytest.approx(100 * 400 * 3 / (2000 * 128), rel=0.2)
    assert {"zero_dm", "kurtosis", "carrier", "channel", "all"} <= set(found)
    assert {f"lost: {kind} {sigma} σ" for kind in ("pulse", "line") for sigma in ("0.5", "3", "30")} <= set(found)


def test_without_a_flagger_its_mask_is_empty_beside_the_whole(run_cli, noisy, tmp_path):
    picture = tmp_path / "masks.png"
    status, out, _ = run_cli("flags", noisy, "--without", "power", "--picture", picture, "--threads", 1)
    with_it, without = rows(out)["power"]
    assert status == 0
    assert "without power" in out
    assert with_it > 0.4
    assert without == 0
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
def test_what_cannot_be_is_told_in_a_line(run_cli, noisy, words, message):
    status, _, err = run_cli("flags", noisy, *words, "--threads", 1)
    assert status != 0
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_a_file_that_is_none_is_told_in_a_line(run_cli, tmp_path):
    path = tmp_path / "nothing.fil"
    path.write_bytes(b"no header")
    status, _, err = run_cli("flags", path)
    assert status != 0
    assert str(path) in err
    assert "Traceback" not in err
