"""Overlap of dispersion tracks, by sampling the band."""

import numpy as np


def explains(events, bands):
    """S/N of the second of two events, the S/N up to which the first explains it, and the overlap of their tracks."""
    frequencies = np.linspace(*bands.edges[events.band[1]], 20001)
    distance = np.subtract(*events.row) + np.subtract(*events.dm) * bands.slope * (frequencies**-2 - bands.offset)
    overlap = (np.abs(distance) <= events.width.sum() / 2 + 2).mean()
    channels = bands.channels[events.band]
    snr = events.snr[0] * overlap * np.sqrt(channels[1] / channels[0])
    return events.snr[1], 2 * snr * np.sqrt(min(events.width[0] / events.width[1], 1)) + 3, overlap
