"""Sums along dispersion tracks, one channel after the other."""

import numpy as np


def dedisperse(power, first, edges, coarse, fine, out):
    out[:] = 0
    times = first + np.arange(out.shape[1])
    for i in range(len(fine)):
        for s in range(len(edges) - 1):
            for c in range(edges[s], edges[s + 1]):
                out[i] += power[c, times + coarse[c] + fine[i, s]]
