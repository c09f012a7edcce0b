"""Samples that a recorder wrote in the place of lost packets: repeated spectra, constant spectra, and zero voltages.

A run of samples is *filled* if each of its spectra equals the one before it, or if all its voltages are zero. Noise
repeats ``k`` numbers with a chance of ``p^k``, where ``p`` is that of one number: below 0.9 even for a channel that
scatters by a fifth of a digitiser step. A run therefore needs 1024 numbers, and at least 8 samples, because some
recorders write each spectrum several times. Where the other samples of the window repeat more often, as those of few
channels of one bit do, it must be so long that their noise makes one in 10¹⁵ times. A receiver whose output never
changes is loss by this rule, too.
"""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edgefilter.core.chunk import Chunk, Gap, Loss
from edgefilter.core.stream import Encoding, SampleKind, Stream

_MIN_NUMBERS = 1024
_MIN_SAMPLES = 8
_PROBE_BYTES = 16  # of a sample, which are compared first
_MAX_CHANCE = 1e-15  # that noise repeats as often


def min_filled_samples(stream: Stream) -> int:
    """Return the least length of a run.

    Parameters
    ----------
    stream
        Header of the stream.

    Returns
    -------
    samples
        Number of samples.
    """
    return max(_MIN_SAMPLES, -(-_MIN_NUMBERS // stream.values_per_sample))


def mark_filled(raw: Chunk, stream: Stream) -> Chunk:
    """Mark filled samples as missing.

    Runs are looked for inside the chunk: the part of a longer run that reaches less than the least length into it stays
    data. Of a run of repeats, the first spectrum is data unless all its bytes are equal.

    Parameters
    ----------
    raw
        Samples of the stream.
    stream
        Its header.

    Returns
    -------
    Chunk
        The same samples, with a gap of the reason FILLED for each run.
    """
    data, length = raw.data, min_filled_samples(stream)
    if len(data) < length:
        return raw
    is_power = stream.kind is SampleKind.POWER
    # Number of repeats in the shortest run: one probe of as many meets each run.
    repeats = length - 1 if is_power else length
    probes = np.arange(repeats - 1, len(data), repeats)
    columns = np.unique(np.linspace(0, data.shape[1] - 1, _PROBE_BYTES, dtype=np.int64))
    probes = probes[_are_filled(data, probes, stream, columns)]
    probes = probes[_are_filled(data, probes, stream)]
    if not len(probes):
        return raw
    padded = np.zeros(len(data) + 2, np.bool_)
    filled = padded[1:-1]
    starts, stops = np.maximum(probes - repeats, int(is_power)), np.minimum(probes + repeats + 1, len(data))
    apart = np.flatnonzero(starts[1:] > stops[:-1])
    for start, stop in zip(starts[np.append(0, apart + 1)], stops[np.append(apart, len(stops) - 1)], strict=True):
        filled[start:stop] = _are_filled(data, slice(start, stop), stream)
    for gap in raw.gaps:
        filled[gap.start - raw.start : gap.stop - raw.start + is_power] = False  # what follows a gap repeats nothing
    edges = np.flatnonzero(padded[1:] != padded[:-1]).reshape(-1, 2)
    edges = edges[edges[:, 1] - edges[:, 0] >= repeats]
    edges = edges[edges[:, 1] - edges[:, 0] >= _min_repeats(data, edges, stream)]
    gaps = []
    for start, stop in edges.tolist():
        first = start - 1 if is_power and (data[start] == data[start, 0]).all() else start
        gaps.append(Gap(raw.start + first, raw.start + stop, Loss.FILLED))
    return replace(raw, gaps=tuple(sorted([*raw.gaps, *gaps])))


def _min_repeats(data: NDArray[np.uint8], runs: NDArray[np.int64], stream: Stream) -> float:
    # Length of a run that is too long for noise which repeats as often as the samples outside the runs [run, 2] do.
    outside = np.ones(len(data), np.bool_)
    outside[0] = False
    for start, stop in runs.tolist():
        outside[start:stop] = False
    count = int(np.count_nonzero(outside))
    if not count:
        return 0.0
    repeated = int(np.count_nonzero(_are_filled(data, np.flatnonzero(outside), stream)))
    return math.log(_MAX_CHANCE) / math.log((repeated + 1) / (count + 2))


def _are_filled(
    data: NDArray[np.uint8],
    samples: NDArray[np.int64] | slice,
    stream: Stream,
    columns: NDArray[np.int64] | slice = slice(None),
) -> NDArray[np.bool_]:
    # Whether these bytes of some samples repeat those of the sample before, or are zero voltages.
    before = slice(samples.start - 1, samples.stop - 1) if isinstance(samples, slice) else samples - 1
    here = data[samples][:, columns]
    if stream.kind is SampleKind.POWER:
        return np.asarray((here == data[before][:, columns]).all(axis=1))
    zero = _zero_bytes(stream)[columns]
    if here.shape[1] in (2, 4, 8) and here.flags.c_contiguous:  # as one number, which is faster
        here, zero = here.view(f"u{here.shape[1]}"), zero.view(f"u{len(zero)}")
    if here.shape[1] == 1:
        return np.asarray((here[:, 0] == 0) | (here[:, 0] == zero[0]))
    return np.asarray((here == 0).all(axis=1) | (here == zero).all(axis=1))


def _zero_bytes(stream: Stream) -> NDArray[np.uint8]:
    # The bytes of a sample whose voltages are all zero.
    if stream.encoding is not Encoding.OFFSET:
        return np.zeros(stream.sample_bytes, np.uint8)
    if stream.bits == 16:
        return np.frombuffer(np.full(stream.values_per_sample, 1 << 15, "<u2").tobytes(), np.uint8)
    one = sum(1 << (stream.bits * number + stream.bits - 1) for number in range(8 // stream.bits))
    return np.full(stream.sample_bytes, one, np.uint8)
