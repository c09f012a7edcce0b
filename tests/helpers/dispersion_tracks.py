"""Dispersion tracks from plain arrays, for tests of their kernels."""

import numpy as np

from edgefilter_kernels.rfi.dispersion_tracks import DispersionTracks


def tracks_of(edges, delays, log2_window, step):
    """Return tracks that must fill three quarters of a segment and are marked as wide as events count."""
    first = np.minimum.reduceat(delays, edges[:-1], axis=1)
    return DispersionTracks(edges, delays, first, log2_window, log2_window, step, min_fill=0.75, baseline_steps=20)
