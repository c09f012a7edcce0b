"""CUDA versions of the search's kernels against those of the CPU, on small and unusual shapes."""

import numpy as np
import pytest

from edgefilter_kernels.cuda.filterbank import integrate as gpu_integrate
from edgefilter_kernels.cuda.search import band_occupancy as gpu_band_occupancy
from edgefilter_kernels.cuda.search import boxcar as gpu_boxcar
from edgefilter_kernels.cuda.search import dedisperse as gpu_dedisperse
from edgefilter_kernels.cuda.search import normalise as gpu_normalise
from edgefilter_kernels.filterbank import integrate
from edgefilter_kernels.search import band_occupancy, boxcar, normalise
from tests.reference.search import dedisperse as reference_dedisperse
from tests.reference.search import normalise as reference_normalise

# Relative difference of S/N by sums in another order. Level and scatter of a series come from up to thousands of
# values, summed in double precision on the GPU and in single precision on the CPU, in runs of 1024, eight or more at a
# time: at most 128 roundings of 6e-8.
SNR_RTOL = 1e-5


def random_rows(rng, shape, full, lost):
    weight = rng.integers(1, full + 1, shape).astype(np.uint16)
    weight[rng.random(shape) < lost] = 0
    power = rng.normal(100, 5 / np.sqrt(np.maximum(weight, 1))).astype(np.float32)
    for bad in (1e6, np.nan, -np.inf):
        power[rng.random(shape) < 0.01] = bad
    return power, weight


@pytest.mark.parametrize("full", [1, 3, 100])
@pytest.mark.parametrize("lost", [0.0, 0.3, 0.97, 1.0])
@pytest.mark.parametrize(
    ("times", "channels", "first"), [(1, 1, 0), (15, 9, 1), (200, 40, 0), (257, 33, 1), (1024, 8, 0)]
)
def test_normalised_bytes_are_those_of_the_cpu(gpu_backend, full, lost, times, channels, first):
    rng = np.random.default_rng(times)
    power, weight = random_rows(rng, (times, channels), full, lost)
    start = channels // 4
    there, here = (normalise.NormalisedPower(*np.full((2, channels, times - first), 99, np.int8)) for _ in range(2))
    normalise.normalise(power, weight, full, first, start, channels, there)
    value = normalise_on_gpu(gpu_backend, power, weight, (full, first, start, channels), here, there)
    # The CPU's compiler may contract a product and a sum of the scatter: a value near a half then rounds the other way.
    # The sums themselves are equal, bit for bit.
    off = value.astype(int) - there.value
    assert abs(off).max(initial=0) <= 1
    assert np.count_nonzero(off) <= 1e-4 * off.size
    assert (value[:start] == 99).all()  # outside the channels to normalise
    for c in range(start, channels):
        expected, _ = reference_normalise.normalise(power[:, c], weight[:, c], full, first)
        assert (abs(value[c].astype(int) - expected) <= 1).all()


def normalise_on_gpu(gpu_backend, power, weight, arguments, out, expected):
    """Normalised bytes; the weights must be the expected ones."""
    out = normalise.NormalisedPower(*map(gpu_backend.to_device, out))
    gpu_normalise.normalise(gpu_backend.to_device(power), gpu_backend.to_device(weight), *arguments, out)
    np.testing.assert_array_equal(gpu_backend.to_host(out.weight), expected.weight)
    return gpu_backend.to_host(out.value)


@pytest.mark.parametrize("kind", ["few bits", "constant", "faint", "bright", "endless", "heavy", "zeros of both signs"])
@pytest.mark.parametrize("lost", [0.0, 0.97])
def test_unusual_channels_are_those_of_the_cpu(gpu_backend, kind, lost):
    rng = np.random.default_rng(4)
    shape, full = (1031, 9), 4
    power, weight = rng.normal(100, 5, shape), np.where(rng.random(shape) < lost, 0, full).astype(np.uint16)
    power = {
        "few bits": (rng.random(shape) < 0.2) + 3.0,
        "constant": np.full(shape, 0.1),
        "faint": power * 1e-42,
        "bright": power * 1e22,
        "endless": np.minimum(power * np.where(rng.random(shape) < 0.1, 3e36, 1), 3.4e38),
        "zeros of both signs": np.copysign(0.0, rng.normal(size=shape)),
    }.get(kind, power).astype(np.float32)
    if kind == "heavy":  # more than the weight of a complete row: bytes overflow
        weight[rng.random(shape) < 0.1] = 65535
    there, here = (normalise.NormalisedPower(*np.full((2, *shape[::-1]), 99, np.int8)) for _ in range(2))
    normalise.normalise(power, weight, full, 0, 0, shape[1], there)
    value = normalise_on_gpu(gpu_backend, power, weight, (full, 0, 0, shape[1]), here, there)
    off = (value - there.value).view(np.int8)  # the difference overflows too
    assert abs(off.astype(int)).max() <= 1
    assert np.count_nonzero(off) <= 1e-4 * off.size


@pytest.mark.parametrize("count", [0, 1, 2, 500])
def test_level_and_scatter_are_those_of_the_cpu(gpu_backend, count):
    values = np.random.default_rng(count).normal(3, 2, count).astype(np.float32)
    values[: count // 50] += 100
    np.testing.assert_allclose(
        gpu_normalise.clipped_mean_std(gpu_backend.to_device(values), 64),
        normalise.clipped_mean_std(values, 64),
        rtol=SNR_RTOL,
        atol=1e-6,
    )
    if count:
        assert gpu_normalise.median(gpu_backend.to_device(values)) == normalise.median(values)


@pytest.mark.parametrize("times", [0, 1, 300])
def test_tscrunch_and_max_pool_are_those_of_the_cpu(gpu_backend, times):
    value = np.random.default_rng(times).integers(-127, 128, (5, 2 * times)).astype(np.int8)
    here, out = np.empty((5, times), np.int8), gpu_backend.to_device(np.empty((5, times), np.int8))
    normalise.tscrunch2(value, here)
    gpu_normalise.tscrunch2(gpu_backend.to_device(value), out)
    np.testing.assert_array_equal(gpu_backend.to_host(out), here)
    normalise.max_pool(abs(value), 2, here)
    gpu_normalise.max_pool(gpu_backend.to_device(abs(value)), 2, out)
    np.testing.assert_array_equal(gpu_backend.to_host(out), here)


@pytest.mark.parametrize("length", [0, 1, 70, 1024, 1100])
@pytest.mark.parametrize("extreme", [False, True])
def test_sums_along_tracks_equal_the_reference_exactly(gpu_backend, length, extreme):
    rng = np.random.default_rng(length)
    edges = np.array([0, 1, 4, 36, 68, 69])  # one channel, and as many as a sub-band may hold
    power = (
        np.full((69, length + 70), -128, np.int8) if extreme else rng.integers(-128, 128, (69, length + 70), np.int8)
    )
    begin = rng.integers(0, 60, (3, 69))
    expected = np.empty((3, 5, length + 10), np.int16)
    sums = gpu_backend.to_device(np.full_like(expected, 9))
    reference_dedisperse.add_channels(power, edges, begin, expected)
    gpu_dedisperse.add_channels(
        gpu_backend.to_device(power), gpu_backend.to_device(edges), gpu_backend.to_device(begin), sums
    )
    np.testing.assert_array_equal(gpu_backend.to_host(sums), expected)
    parts, begin = np.array([0, 1, 5]), rng.integers(0, 11, (4, 5))
    series = np.empty((4, 2, length), np.float32)
    out = gpu_backend.to_device(np.full_like(series, np.nan))
    reference_dedisperse.add_subbands(expected[2], parts, begin, series)
    gpu_dedisperse.add_subbands(sums[2], gpu_backend.to_device(parts), gpu_backend.to_device(begin), out)
    np.testing.assert_array_equal(gpu_backend.to_host(out), series)


def test_wrong_types_and_shapes_are_refused(gpu_backend):
    power, begin, out = (
        gpu_backend.to_device(np.zeros(shape, kind))
        for shape, kind in (((4, 20), "i1"), ((1, 4), "i8"), ((1, 2, 9), "i2"))
    )
    edges = gpu_backend.to_device(np.array([0, 2, 4]))
    with pytest.raises(ValueError, match="int8"):
        gpu_dedisperse.add_channels(power.astype(np.int16), edges, begin, out)
    with pytest.raises(ValueError, match="contiguous"):
        gpu_dedisperse.add_channels(power[:, ::2], edges, begin, out)
    with pytest.raises(ValueError, match="shapes"):
        gpu_dedisperse.add_channels(power, edges[1:], begin, out)
    with pytest.raises(ValueError, match="int16"):
        gpu_dedisperse.add_subbands(power, edges, begin, out)


@pytest.mark.parametrize(("count", "octaves"), [(40, 6), (300, 1), (500, 4), (4200, 6), (9000, 12)])
@pytest.mark.parametrize("gaps", [False, True])
def test_peaks_are_those_of_the_cpu(gpu_backend, count, octaves, gaps):
    rng = np.random.default_rng(count)
    room = max(20, 1 << octaves >> 2)
    series = rng.normal(size=(3, count + 2 * room + 1)).astype(np.float32)
    series += np.repeat(rng.normal(size=(3, 1 + series.shape[1] // 64)), 64, axis=1)[:, : series.shape[1]] * 0.2  # red
    for line in series:
        for width in (1, 5, 20):
            at = rng.integers(room, count)
            line[at : at + width] += 20 / np.sqrt(width)
    scale = rng.uniform(0.8, 1.2, -(-series.shape[1] // 8)).astype(np.float32)
    if gaps:
        scale[rng.random(len(scale)) < 0.2] = 0
    part = rng.normal(size=series.shape).astype(np.float32)
    parts, trials = np.ascontiguousarray(np.stack([part, series - part, part], axis=1)), np.array([2, 0])
    boxcars = boxcar.Boxcars(room, count, octaves, 5.0, 32)
    there = boxcar.boxcar_peaks(parts, trials, (0, 2), scale, 8, boxcars)
    found = gpu_boxcar.boxcar_peaks(
        gpu_backend.to_device(parts), gpu_backend.to_device(trials), (0, 2), gpu_backend.to_device(scale), 8, boxcars
    )
    here = [gpu_backend.to_host(column) for column in found]
    assert len(there[0]) >= 2
    assert [column.dtype for column in here] == [column.dtype for column in there]
    assert (abs(there[3] / 5.0 - 1) > SNR_RTOL).all()  # none is near the threshold, by the choice of seeds
    for one, other in zip(here[:3], there[:3], strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(here[3], there[3], rtol=SNR_RTOL)


def test_a_pulse_for_the_widest_boxcars_is_found_at_any_time(gpu_backend):
    """The first test of a series, on doubled sums, must find it: no narrower boxcar reaches the threshold."""
    rng = np.random.default_rng(5)
    count, octaves, width = 9000, 10, 512
    room = (1 << octaves) // 4
    starts = [0, 1500, 1800, 2040, 3000, 3600, 4000, 5000, 6100, 8400]
    series = rng.normal(size=(len(starts), 1, count + 2 * room)).astype(np.float32)
    for line, start in zip(series[:, 0], starts, strict=True):
        line[room + start : room + start + width] += 9 / np.sqrt(width)
    scale, trials = np.ones(-(-series.shape[2] // 8), np.float32), np.arange(len(starts))
    boxcars = boxcar.Boxcars(room, count, octaves, 7.0, 32)
    there = boxcar.boxcar_peaks(series, trials, (0, 1), scale, 8, boxcars)
    found = gpu_boxcar.boxcar_peaks(
        gpu_backend.to_device(series), gpu_backend.to_device(trials), (0, 1), gpu_backend.to_device(scale), 8, boxcars
    )
    assert set(there[0].tolist()) == set(trials.tolist())
    assert there[2].min() >= 256
    assert (abs(there[3] / 7.0 - 1) > SNR_RTOL).all()
    for one, other in zip(found[:3], there[:3], strict=True):
        np.testing.assert_array_equal(gpu_backend.to_host(one), other)


def test_a_pulse_between_two_dips_is_found(gpu_backend):
    """Sums of two: a thread that runs ahead would read values beside the pulse."""
    series = np.random.default_rng(7).normal(size=(2, 1, 304)).astype(np.float32)
    series[1, 0, 100:112] = -5
    series[1, 0, 105:107] = 6
    scale, trials, boxcars = np.ones(38, np.float32), np.arange(2), boxcar.Boxcars(2, 300, 3, 7.0, 32)
    there = boxcar.boxcar_peaks(series, trials, (0, 1), scale, 8, boxcars)
    found = gpu_boxcar.boxcar_peaks(
        gpu_backend.to_device(series), gpu_backend.to_device(trials), (0, 1), gpu_backend.to_device(scale), 8, boxcars
    )
    assert [column.tolist() for column in there[:3]] == [[1], [106], [2]]
    for one, other in zip(found[:3], there[:3], strict=True):
        np.testing.assert_array_equal(gpu_backend.to_host(one), other)


def test_the_number_of_blocks_does_not_change_the_result(gpu_backend, monkeypatch):
    """A single block takes all series and peaks: strong ones, noise, and some without data."""
    rng = np.random.default_rng(9)
    scales = gpu_backend.to_device(np.repeat(np.array([[1.0], [0.0]], np.float32), 75, axis=1))
    series = rng.normal(size=(9, 1, 600)).astype(np.float32)
    for line in series[::2, 0]:
        for at in rng.integers(20, 560, 4):
            line[at : at + 9] += 4
    items = np.array([[row, 0, 1, row % 3 == 1, 0, 30] for row in range(9)], np.int32)
    power, weight = rng.integers(-20, 60, (30, 700)).astype(np.int8), np.full((30, 88), 64, np.int8)
    given = series, items, power, weight, rng.integers(0, 60, (9, 30))

    def search():
        lines, some, value, valid, track = map(gpu_backend.to_device, given)
        found = gpu_boxcar.find_peaks(lines, some, scales, 8, boxcar.Boxcars(20, 560, 4, 6.0, 32))
        remaining_fraction = gpu_band_occupancy.band_occupancies(value, valid, 8, track, 0.25, some, found)
        count = int(found.n_peaks[0])
        table = np.vstack(
            [
                gpu_backend.to_host(found.table[:, :count]),
                gpu_backend.to_host(remaining_fraction[:count]).view(np.int64),
            ]
        )
        return table[:, np.lexsort(table[1::-1])]

    wide = search()
    assert set(wide[0]) == {0, 2, 6, 8}  # every other one is strong, every third one has no data
    for module in (gpu_boxcar, gpu_band_occupancy):
        monkeypatch.setattr(module, "SCRATCH_BYTES", 0)
    np.testing.assert_array_equal(search(), wide)


@pytest.mark.parametrize("gaps", [False, True])
def test_peaks_of_series_that_are_mostly_0_are_those_of_the_cpu(gpu_backend, gaps):
    """More than half of the values are equal: no value is clipped where level and scatter are measured."""
    rng = np.random.default_rng(8)
    series = (8 * (rng.random((2, 1, 1100)) < 0.1)).astype(np.float32)
    series[0, 0, 500:516] = 20
    scale, trials, boxcars = np.full(138, 0.25, np.float32), np.arange(2), boxcar.Boxcars(20, 1050, 5, 5.0, 32)
    scale[30:40] = not gaps
    there = boxcar.boxcar_peaks(series, trials, (0, 1), scale, 8, boxcars)
    found = gpu_boxcar.boxcar_peaks(
        gpu_backend.to_device(series), gpu_backend.to_device(trials), (0, 1), gpu_backend.to_device(scale), 8, boxcars
    )
    assert 0 in there[0]
    for one, other in zip(found[:3], there[:3], strict=True):
        np.testing.assert_array_equal(gpu_backend.to_host(one), other)
    np.testing.assert_allclose(gpu_backend.to_host(found[3]), there[3], rtol=SNR_RTOL)


def test_a_series_without_data_has_no_peaks_and_a_strong_one_has_one_in_every_cell(gpu_backend):
    series = np.random.default_rng(0).normal(size=(3, 1, 4200)).astype(np.float32)
    series[:, :, 8::32] += 100
    boxcars = boxcar.Boxcars(2, 4096, 2, 7.0, 32)

    def search(factor, trials=3):
        scale = gpu_backend.to_device(np.full(525, factor, np.float32))
        found = gpu_boxcar.boxcar_peaks(
            gpu_backend.to_device(series), gpu_backend.to_device(np.arange(trials)), (0, 1), scale, 8, boxcars
        )
        return [gpu_backend.to_host(column) for column in found]

    trial, time, width, snr = search(1.0)
    assert len(trial) == 3 * 128
    assert (np.diff(trial) >= 0).all()
    assert ((time % 32 == 8) & (width == 1) & (snr > 50)).all()
    assert len(search(0.0)[0]) == 0
    assert len(search(1.0, trials=0)[0]) == 0


def test_boxcars_that_leave_the_series_are_refused(gpu_backend):
    series, trials = gpu_backend.to_device(np.zeros((1, 1, 64), np.float32)), gpu_backend.to_device(np.arange(1))
    for scale, parts, boxcars, message in (
        (8, (0, 1), (4, 40, 5, 6.0, 32), "leave"),
        (7, (0, 1), (8, 8, 5, 6.0, 32), "scale"),
        (8, (0, 2), (8, 8, 2, 6.0, 32), "parts"),
    ):
        factor = gpu_backend.to_device(np.ones(scale, np.float32))
        with pytest.raises(ValueError, match=message):
            gpu_boxcar.boxcar_peaks(series, trials, parts, factor, 8, boxcar.Boxcars(*boxcars))
    for odd in (series[0, 0], series[:, :, ::2], series.astype(np.float64)):
        with pytest.raises(ValueError, match="series must be"):
            gpu_boxcar.boxcar_peaks(odd, trials, (0, 1), factor, 8, boxcar.Boxcars(8, 8, 2, 6.0, 32))


@pytest.mark.parametrize("count", [0, 1, 40])
@pytest.mark.parametrize("lost", [False, True])
def test_band_occupancies_are_those_of_the_cpu(gpu_backend, count, lost):
    rng = np.random.default_rng(0)
    power = np.rint(8 * rng.normal(size=(24, 96)) + 16).astype(np.int8)
    weight = np.full((24, 12), 64, np.int8)
    weight[slice(None) if lost else rng.integers(0, 24, 5)] = 0
    power[weight[:, 0] == 0] = 0
    track, trial, start = rng.integers(0, 20, (3, 24)), rng.integers(0, 3, count), rng.integers(0, 40, count)
    width, snr = 1 << rng.integers(0, 5, count), rng.uniform(0, 20, count).astype(np.float32)
    assert_same_band_occupancy(gpu_backend, power, weight, track, (trial, start, width, snr))


def assert_same_band_occupancy(gpu_backend, power, weight, delays, boxcars):
    boxcars = band_occupancy.FoundBoxcars(*boxcars)
    there = band_occupancy.band_occupancy(power, weight, 8, delays, 0.25, boxcars)
    value, valid, track = map(gpu_backend.to_device, (power, weight, delays))
    boxcars = band_occupancy.FoundBoxcars(*map(gpu_backend.to_device, boxcars))
    here = gpu_band_occupancy.band_occupancy(value, valid, 8, track, 0.25, boxcars)
    # The same sums in double precision; the CPU's compiler may change their order.
    np.testing.assert_allclose(gpu_backend.to_host(here), there, rtol=1e-9, atol=1e-9)


def test_a_wide_band_of_large_counts_is_that_of_the_cpu(gpu_backend):
    """The sum exceeds 2^31 counts."""
    channels, width = 8400, 2048
    power, weight = np.full((channels, width), 127, np.int8), np.full((channels, width // 8), 64, np.int8)
    boxcars = np.zeros(1, np.int64), np.zeros(1, np.int64), np.full(1, width), np.full(1, 1e4, np.float32)
    assert_same_band_occupancy(gpu_backend, power, weight, np.zeros((1, channels), np.int64), boxcars)


@pytest.mark.parametrize("products", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("times", "cells", "extent"), [(1, 1, (0, 1)), (4, 5, (3, 17)), (3, 4, (4, 4)), (5, 1, (0, 5)), (37, 3, (5, 100))]
)
def test_rows_and_accounts_are_those_of_the_cpu(gpu_backend, products, times, cells, extent):
    rng = np.random.default_rng(products)
    shape = times * cells, 131
    power = rng.normal(10, 3, (*shape, products)).astype(np.float32)
    flags = np.where(rng.random(shape) < 0.3, rng.integers(1, 64, shape), 0).astype(np.uint16)
    matrix = rng.integers(-2, 3, (products, products)).astype(np.float64)
    there, sums = (integrate.make_sums(products, times, shape[1], 6) for _ in range(2))
    here = integrate.Sums(*map(gpu_backend.to_device, sums))
    integrate.integrate(power, flags, matrix, extent, there, 0, len(there.total))
    parts = len(sums.total)
    for start, stop in ((0, parts // 3), (parts // 3, parts // 3), (parts // 3, parts)):
        gpu_integrate.integrate(
            gpu_backend.to_device(power),
            gpu_backend.to_device(flags),
            gpu_backend.to_device(matrix),
            extent,
            here,
            start,
            stop,
        )
    for one, other in zip(here, there, strict=True):
        np.testing.assert_array_equal(gpu_backend.to_host(one), other)
    with pytest.raises(ValueError, match="lie outside"):
        gpu_integrate.integrate(
            gpu_backend.to_device(power),
            gpu_backend.to_device(flags),
            gpu_backend.to_device(matrix),
            extent,
            here,
            0,
            parts + 1,
        )
