"""Sums along dispersion tracks, row by row."""

import numpy as np


def add_channels(power, edges, starts, out):
    sum_along_tracks(power, edges, starts, out)


def add_subbands(sums, parts, starts, out):
    sum_along_tracks(sums, parts, starts, out)


def sum_along_tracks(rows, edges, starts, out):
    out[:] = 0
    times = np.arange(out.shape[2])
    for i, first in enumerate(starts):
        for s in range(len(edges) - 1):
            for row in range(edges[s], edges[s + 1]):
                out[i, s] += rows[row, first[row] + times]
