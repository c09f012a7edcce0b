"""Nodes of a baseline and its removal, in plain NumPy."""

from itertools import pairwise

import numpy as np

from edgefilter_kernels.search.baseline import GROUP_ROWS


def node_statistics(power, weight, edges):
    out = np.zeros((4, len(edges) - 1, power.shape[1]))
    for n, (start, stop) in enumerate(pairwise(edges)):
        for c in range(power.shape[1]):
            x, w = power[start:stop, c].astype(float), weight[start:stop, c].astype(float)
            w = np.where(np.isfinite(x), w, 0.0)
            x = np.where(w > 0, x, 0.0)
            if w.sum() == 0:
                continue
            mean = (w * x).sum() / w.sum()
            out[0, n, c], out[1, n, c] = w.sum(), mean
            out[2, n, c] = _variance(x, w, mean)
            starts = np.arange(0, stop - start, GROUP_ROWS)
            groups = np.add.reduceat(w, starts)
            means = np.divide(np.add.reduceat(w * x, starts), groups, out=np.zeros(len(starts)), where=groups > 0)
            out[3, n, c] = _variance(means, groups, mean)
    return out


def _variance(x, w, mean):
    count = (w > 0).sum()
    return (w * (x - mean) ** 2).sum() / (count - 1) if count > 1 else 0.0


def subtract_baseline(power, level, position):
    nodes = np.arange(len(level))
    return np.stack([power[:, c] - np.interp(position, nodes, level[:, c]) for c in range(power.shape[1])], axis=1)
