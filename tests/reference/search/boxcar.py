"""Boxcar search by cumulative sums, in double precision."""

import numpy as np

from tests.reference.search.normalise import clipped_mean_std


def boxcar_peaks(series, scale, repeat, boxcars):
    first, count, octaves, threshold, cell = boxcars
    scale = np.repeat(scale, repeat)[: series.shape[1]].astype(np.float64)
    valid = scale > 0
    block = slice(first, first + count)
    found = []
    for i, line in enumerate(series * scale):
        level, scatter = 0.0, 1.0
        if valid[block].sum() >= 256:
            level, scatter = clipped_mean_std(line[block][valid[block]], 128)
        line = np.where(valid, (line - level) / max(scatter, 0.9), 0)
        total = np.concatenate([[0], np.cumsum(line)])
        snr = np.zeros((octaves, count))
        excess = 1.0
        for octave in range(octaves):
            w = 1 << octave
            start = np.arange(first, first + count) - w // 2
            sums = total[start + w] - total[start]
            starts = np.arange(first, first + count - w + 1, w)
            starts = starts[valid[starts] & valid[starts + w - 1]]
            if w > 1 and len(starts) >= 16:
                scatter = clipped_mean_std(total[starts + w] - total[starts], 128)[1]
                excess = max(scatter * (1 - np.sqrt(0.5 / len(starts))) / np.sqrt(w), 1.0)
            snr[octave] = sums / (excess * np.sqrt(w))
        for at in range(0, count, cell):
            part = snr[:, at : at + cell]
            octave, t = np.unravel_index(part.argmax(), part.shape)
            if part[octave, t] >= threshold:
                found.append((i, first + at + t, 1 << octave, part[octave, t]))
    return found
