"""A cut-out with noise and one pulse of known DM, width and arrival."""

from dataclasses import replace
from fractions import Fraction

import numpy as np

from edgefilter.core.plan import dispersion_delay
from edgefilter.products.base import Provenance
from edgefilter.products.cutout import Cutout
from edgefilter.products.pulses import PulseRow

DM = 50.0
ROW_SECONDS = 1e-3
WIDTH_ROWS = 4
FIRST_ROW = 60
"""First row of the pulse at the top of the band."""


def make_cutout(
    channels: int = 64,
    rising: bool = False,
    mask: slice | None = None,
    snr: float = 30.0,
    stokes: str = "I",
    **pulse: float,
) -> Cutout:
    """Return a cut-out of 256 rows from 1200 to 1400 MHz.

    Parameters
    ----------
    channels
        Number of channels.
    rising
        Whether channel 0 is the lowest one.
    mask
        Channels that are flagged.
    snr
        S/N of the pulse.
    stokes
        Stokes parameters, each with the same power.
    **pulse
        Columns of the table ``pulses`` to replace.

    Returns
    -------
    Cutout
        The cut-out.
    """
    step = (1 if rising else -1) * 200.0 / channels
    first = 1200.0 if rising else 1400.0
    frequencies = first + step * np.arange(channels)
    power = np.random.default_rng(7).normal(100, 5, (256, channels))
    for channel, frequency in enumerate(frequencies):
        start = FIRST_ROW + round(dispersion_delay(DM, frequency, frequencies.max()) / ROW_SECONDS)
        power[start : start + WIDTH_ROWS, channel] += 5 * snr / np.sqrt(WIDTH_ROWS * channels)
    flags = np.zeros((256, channels), np.uint8)
    if mask is not None:
        flags[:, mask] = 1
        power[:, mask] = 0
    seconds = 10 + (FIRST_ROW + WIDTH_ROWS / 2) * ROW_SECONDS
    row = PulseRow(0, seconds, seconds - 0.1, 0, DM, 1.0, WIDTH_ROWS * ROW_SECONDS, snr, 1190.0, 1410.0, 5, 0.0, "")
    data = np.repeat(power[:, None].astype(np.float32), len(stokes), axis=1)
    return Cutout(
        data, flags, tuple(stokes), 10_000, 10_000_000_000, Fraction(1000), 1, first, step,
        replace(row, **pulse), Provenance("sky-00000000", "0" * 16, "0"), 0,
    )  # fmt: skip
