"""Recorded interference is found where it is known to be."""

import numpy as np
import pytest

from benchmarks.rfi.recordings import hera_autos, mwa


@pytest.fixture(scope="module")
def autos(data):
    return hera_autos(data)


def flagged_fraction(recording, low, high):
    """Return the flagged fraction of the cells between two frequencies, MHz."""
    return recording.bad[:, (recording.mhz >= low) & (recording.mhz <= high)].mean()


@pytest.mark.parametrize("mhz", [137.25, 137.74, 191.2])
def test_all_cells_of_a_satellite_and_of_a_line_of_digital_television_are_flagged(autos, mhz):
    at = int(np.argmin(np.abs(autos.mhz - mhz)))
    assert autos.bad[:, at].all()


def test_stations_of_the_fm_band_are_found(autos):
    assert flagged_fraction(autos, 88, 108) > 3 * flagged_fraction(autos, 110, 136)
    assert flagged_fraction(autos, 88, 108) > 3 * flagged_fraction(autos, 140, 185)


def test_a_reflected_television_channel_is_found_while_it_is_present(data):
    """Channel 7 of Australian television, 181 to 188 MHz, is present in times 7 to 15."""
    recording = mwa(data)
    here = (recording.mhz > 181.5) & (recording.mhz < 187.5)
    assert recording.bad[8:15, here].mean() > 0.9
    assert recording.bad[:, ~here].mean() < 0.05
