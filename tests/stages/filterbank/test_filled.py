from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefilter.core.chunk import Chunk, Gap, Loss
from edgefilter.core.stream import Encoding, SampleKind, Stream
from edgefilter.stages.filterbank.filled import mark_filled, min_filled_samples

POWER = Stream("s", SampleKind.POWER, 0, Fraction(1000), 64, 1.4e9, 1e6, ("I",), 8, Encoding.UNSIGNED)
BASEBAND = Stream(
    "s", SampleKind.VOLTAGE, 0, Fraction(10**6), 1, 1.4e9, 1e6, ("X", "Y"), 8, Encoding.SIGNED, complex_samples=True
)


def spectra(count, seed=1):
    return np.random.default_rng(seed).normal(96, 3, (count, 64)).astype(np.uint8)


def filled(data, stream, start=0, gaps=()):
    marked = mark_filled(Chunk(start, data, gaps), stream)
    assert list(marked.gaps) == sorted(marked.gaps)
    return [(gap.start, gap.stop) for gap in marked.gaps if gap.reason is Loss.FILLED]


@pytest.mark.parametrize(("start", "stop"), [(100, 350), (0, 20), (980, 1000), (500, 516), (0, 1000)])
def test_zeros_are_loss(start, stop):
    data = spectra(1000)
    data[start:stop] = 0
    assert filled(data, POWER, start=7) == [(7 + start, 7 + stop)]


def test_repeats_of_a_spectrum_are_loss_and_the_spectrum_is_not():
    data = spectra(1000)
    data[301:340] = data[300]
    assert filled(data, POWER) == [(301, 340)]


@pytest.mark.parametrize("ones", [0.01, 0.5])
def test_zeros_among_noise_of_one_bit_are_loss(ones):
    stream = replace(POWER, channels=8, bits=1)
    bits = np.random.default_rng(2).random((50_000, 8)) < ones
    bits[10_000:20_000] = False
    ((start, stop),) = filled(np.packbits(bits, axis=1, bitorder="little"), stream)
    assert abs(start - 10_000) < 100
    assert abs(stop - 20_000) < 100


@pytest.mark.parametrize("sigma", [0.15, 0.3])
def test_a_receiver_of_low_gain_is_data(sigma):
    stream = replace(POWER, channels=8)
    data = np.rint(np.random.default_rng(6).normal(100.2, sigma, (100_000, 8))).astype(np.uint8)
    assert filled(data, stream) == []


def test_a_shorter_run_is_data():
    assert min_filled_samples(POWER) == 16
    data = spectra(1000)
    data[100:115] = 0
    data[200:232:2] = 0
    assert filled(data, POWER) == []


def test_what_repeats_in_a_part_of_the_band_is_data():
    data = spectra(1000)
    data[:, :63] = 0
    assert filled(data, POWER) == []


def test_bytes_in_a_gap_do_not_matter():
    data = spectra(1000)
    data[300:330] = 0
    gap = Gap(310, 320, Loss.MISSING)
    assert filled(data, POWER, gaps=(gap,)) == []
    data[320:400] = 0
    for fill in (0, 7):
        data[310:320] = fill
        assert filled(data, POWER, gaps=(gap,)) == [(320, 400)]


@pytest.mark.parametrize("channels", [8, 64])
@pytest.mark.parametrize("ones", [1 / 400, 0.01, 0.1, 0.5])
def test_noise_of_one_bit_is_data(channels, ones):
    stream = replace(POWER, channels=channels, bits=1)
    bits = np.random.default_rng(2).random((50_000, channels)) < ones
    assert filled(np.packbits(bits, axis=1, bitorder="little"), stream) == []


@pytest.mark.parametrize(("encoding", "zero"), [(Encoding.SIGNED, 0), (Encoding.OFFSET, 128), (Encoding.OFFSET, 0)])
def test_zero_voltages_are_loss(encoding, zero):
    stream = replace(BASEBAND, encoding=encoding)
    data = np.random.default_rng(3).integers(0, 256, (20_000, 4)).astype(np.uint8)
    data[:256] = data[5_000:5_300] = zero
    data[9_000:9_255] = zero
    data[12_000:13_000] = data[12_000]  # a constant voltage is not lost
    assert filled(data, stream, start=-100) == [(-100, 156), (4_900, 5_200)]


def test_weak_voltages_are_data():
    data = np.rint(np.random.default_rng(4).normal(0, 0.5, (100_000, 4))).astype(np.int8).view(np.uint8)
    assert filled(data, BASEBAND) == []


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), kind=st.sampled_from(["zeros", "repeats"]))
def test_agrees_with_a_search_of_all_samples(seed, kind):
    rng = np.random.default_rng(seed)
    data = spectra(400, seed)
    for _ in range(4):
        start = int(rng.integers(0, 399))
        stop = start + int(rng.integers(1, 40))
        data[start + 1 : stop] = 0 if kind == "zeros" else data[start]
    gap = int(rng.integers(0, 380))
    lost = np.zeros(400, bool)
    lost[gap : gap + 10] = True
    expected, run = [], []
    for row in range(401):
        repeats = row < 400 and row > 0 and not lost[row] and not lost[row - 1] and (data[row] == data[row - 1]).all()
        if repeats:
            run.append(row)
        elif run:
            if len(run) >= 15:
                expected.append((run[0] - (data[run[0]] == data[run[0], 0]).all(), row))
            run = []
    assert filled(data, POWER, gaps=(Gap(gap, gap + 10, Loss.MISSING),)) == expected
