"""Sums along dispersion tracks, one channel after the other."""

import numpy as np


def dedisperse(power, first, edges, parts, coarse, fine, out):
    out[:] = 0
    times = first + np.arange(out.shape[2])
    for i in range(len(fine)):
        for p in range(len(parts) - 1):
            for s in range(parts[p], parts[p + 1]):
                for c in range(edges[s], edges[s + 1]):
                    out[i, p] += power[c, times + coarse[c] + fine[i, s]]
