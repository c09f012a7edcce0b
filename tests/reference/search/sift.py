"""Overlap of dispersion tracks by sampling the band."""

import numpy as np


def explains(row, dm, width_p, width_e, snr_p, snr_e, channels_p, channels_e, low, high, slope, offset):
    frequencies = np.linspace(low, high, 20001)
    apart = row + dm * slope * (frequencies**-2 - offset)
    share = (np.abs(apart) <= (width_p + width_e) / 2 + 2).mean()
    left = snr_p * share * np.sqrt(channels_e / channels_p) * np.sqrt(min(width_p / width_e, 1))
    return snr_e, 2 * left + 3
