import struct
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefilter.compute.threads import ThreadBackend
from edgefilter.core.cells import Rows
from edgefilter.core.config import Reduction
from edgefilter.core.plan import Plan, resolve
from edgefilter.core.stream import Encoding, SampleKind, Stream
from edgefilter.stages.search import single_pulse
from edgefilter.stages.search.cluster import EventSifter
from edgefilter.stages.search.dm_plan import plan_trial_groups, search_bands
from edgefilter.stages.search.normalise import Normaliser
from edgefilter.stages.search.single_pulse import SinglePulseSearch
from tests.helpers.pulse_sky import add_pulse, make_plan, neighbouring_blocks, noise, normalise_all, search_all


def find_pulses(plan, sky):
    """Pulses of all blocks, strongest first."""
    events = [None, *search_all(plan, sky), None]
    sifter = EventSifter(plan)
    found = [sifter.reduce(*events[k : k + 3], k) for k in range(len(events) - 2)]
    return sorted((pulse for block in found for pulse in block.pulses), key=lambda pulse: -pulse.snr)


def test_injected_pulses_are_found():
    plan = make_plan(256, rows=2048, dm=(0, 2000))
    rng = np.random.default_rng(5)
    sky = noise(plan, 16384, 1)
    truth = []
    for i in range(24):
        row, dm = 400 + 550 * i + rng.uniform(0, 200), rng.uniform(20, 2000)
        width, snr = int(2 ** rng.integers(0, 6)), rng.uniform(12, 20)
        add_pulse(plan, sky, row, dm, width, snr)
        truth.append((row, dm, width, snr))
    pulses = find_pulses(plan, sky)
    ratios = [
        pulse.snr / snr
        for row, dm, width, snr in truth
        for pulse in pulses
        if abs(pulse.row - row) < width + 10 and abs(pulse.dm - dm) < max(10, 3 * width)
    ]
    assert len(ratios) >= 23
    assert len(pulses) <= 25
    assert np.mean(ratios) >= 0.85


def test_noise_has_no_pulses():
    plan = make_plan(64, rows=4096, dm=(0, 1000))
    assert find_pulses(plan, noise(plan, 16 * 4096, 2)) == []


@pytest.mark.parametrize("quarter", range(4))
@pytest.mark.parametrize("rising", [False, True])
def test_a_burst_in_a_quarter_of_the_band_is_found_in_that_band(quarter, rising):
    plan = make_plan(rows=1024, rising=rising)
    sky = noise(plan, 2048, 3)
    channels = slice(32 * quarter, 32 * (quarter + 1))
    add_pulse(plan, sky, 600, 200, 2, 12, channels)
    (pulse,) = find_pulses(plan, sky)
    inside = plan.frequencies_mhz[channels]
    assert (pulse.freq_low, pulse.freq_high) == pytest.approx((inside.min() - 75 / 64, inside.max() + 75 / 64))
    assert abs(pulse.row - 600) < 15
    assert abs(pulse.dm - 200) < 40


@pytest.mark.parametrize("offset", [-3, -1, -0.5, 0, 0.5, 1, 3])
def test_a_pulse_at_a_block_edge_is_found_once(offset):
    plan = make_plan(rows=1024)
    sky = noise(plan, 3072, 4)
    add_pulse(plan, sky, 1024 + offset, 150, 4, 14)
    (pulse,) = find_pulses(plan, sky)
    assert abs(pulse.row - 1024 - offset) <= 3
    assert abs(pulse.dm - 150) < 10


@settings(max_examples=6, deadline=None)
@given(threads=st.integers(2, 5), seed=st.integers(0, 1000))
def test_events_do_not_depend_on_threads_or_block_number(threads, seed):
    plan = make_plan(32, rows=256, dm=(0, 200), snr=5)
    rng = np.random.default_rng(seed)
    sky = noise(plan, 4096, seed)
    sky.weight[rng.random(sky.weight.shape) < 0.1] = 0
    add_pulse(plan, sky, 3210, 100, 2, 30)
    with ThreadBackend(1) as one, ThreadBackend(threads) as many:
        search, blocks = SinglePulseSearch(plan, one), normalise_all(plan, sky, one)
        window_blocks = neighbouring_blocks(plan, search, blocks, 12)
        alone = search.reduce(window_blocks, 12)
        assert len(alone)
        others = normalise_all(plan, sky, many)
        assert all(
            np.array_equal(a.value, b.value) and np.array_equal(a.weight, b.weight)
            for a, b in zip(blocks, others, strict=True)
        )
        np.testing.assert_array_equal(SinglePulseSearch(plan, many).reduce(window_blocks, 12).table, alone.table)
        # The same rows at another position in the stream.
        shifted = SinglePulseSearch(plan, many).reduce(window_blocks, 13)
        np.testing.assert_array_equal(shifted.table["row"], alone.table["row"] + 256)


def test_flagged_and_partial_cells_change_snr_as_expected():
    whole = make_plan(64, rows=1024, cells=4)
    sky = noise(whole, 2048, 5)
    add_pulse(whole, sky, 500, 100, 2, 20)
    strength = find_pulses(whole, sky)[0].snr
    # A quarter of the channels has huge power, and weight 0.
    sky.stokes[0][:, ::4] = np.random.default_rng(1).normal(0, 1e6, (2048, 16))
    sky.weight[:, ::4] = 0
    (pulse,) = find_pulses(whole, sky)
    assert abs(pulse.row - 500) < 4
    assert pulse.snr == pytest.approx(strength * np.sqrt(0.75), rel=0.15)
    # Half of the cells of the other rows are missing: they scatter more.
    rng = np.random.default_rng(2)
    half = rng.random(sky.weight.shape) < 0.5
    half &= sky.weight > 0
    sky.weight[half] = 1
    sky.stokes[0][half] += rng.normal(0, 0.05 * np.sqrt(3) * 100, half.sum()).astype(np.float32)
    (pulse,) = find_pulses(whole, sky)
    assert abs(pulse.row - 500) < 4


def test_a_pulse_whose_sweep_runs_past_the_end_is_found():
    plan = make_plan(rows=1024, dm=(0, 1000))
    sky = noise(plan, 1800, 6)
    add_pulse(plan, sky, 1500, 800, 4, 30)
    pulse = find_pulses(plan, sky)[0]
    assert abs(pulse.row - 1500) < 8
    assert abs(pulse.dm - 800) < 25


def test_lost_rows_are_no_pulses():
    plan = make_plan(64, rows=1024, dm=(0, 500))
    sky = noise(plan, 4096, 7)
    for start in (100, 1020, 1500, 2047, 3000):
        sky.weight[start : start + 37] = 0
        sky.stokes[0][start : start + 37] = 0
    assert find_pulses(plan, sky) == []


def test_a_few_bad_cells_are_no_pulse():
    plan = make_plan(64, rows=1024)
    sky = noise(plan, 2048, 8)
    sky.stokes[0][700:702, 20] *= 100
    assert find_pulses(plan, sky) == []


def test_a_burst_in_a_few_channels_is_no_pulse(monkeypatch):
    """Of an event's signal, enough must come from outside the strongest part of its band."""
    plan = make_plan(64, rows=1024)
    sky = noise(plan, 2048, 8)
    # Narrow-band interference, above the threshold in the whole band and in a half and a quarter of it.
    sky.stokes[0][700:704, 20:23] *= 1.5
    assert find_pulses(plan, sky) == []
    monkeypatch.setattr(single_pulse, "_MIN_REMAINING_FRACTION", 0)
    assert find_pulses(plan, sky)


def test_blocks_without_data_or_scatter_have_no_pulses():
    plan = make_plan(32, rows=256)
    assert find_pulses(plan, Rows(0, np.zeros((1, 512, 32), np.float32), np.zeros((512, 32), np.uint16))) == []
    constant = Rows(0, np.full((1, 512, 32), 7, np.float32), np.ones((512, 32), np.uint16))
    assert find_pulses(plan, constant) == []


def test_a_wrong_number_of_blocks_or_rows_is_refused():
    plan = make_plan(32, rows=256)
    with ThreadBackend(1) as backend:
        with pytest.raises(ValueError, match="block 0"):
            SinglePulseSearch(plan, backend).reduce([None], 0)
        with pytest.raises(ValueError, match="a history of 1792"):
            Normaliser(plan, backend).reduce(
                Rows(0, np.zeros((1, 300, 32), np.float32), np.zeros((300, 32), np.uint16))
            )


@pytest.mark.parametrize("channels", [1, 7])
@pytest.mark.parametrize("rows", [1, 40, 256])
def test_any_shape_is_searched(channels, rows):
    plan = make_plan(channels, rows=256, dm=(0, 100))
    sky = noise(plan, rows, 11)
    sky.stokes[0][::5] = np.nan
    assert all(len(events) == 0 for events in search_all(plan, sky))


def test_events_beyond_the_bound_are_counted_and_the_strongest_kept():
    plan = make_plan(64, rows=1024, candidates=1, snr=5, dm=(0, 1000))
    sky = noise(plan, 1024, 9)
    add_pulse(plan, sky, 500, 100, 4, 100)
    (events,) = search_all(plan, sky)
    assert len(events) == 100
    assert events.overflow > 0
    (everything,) = search_all(make_plan(64, rows=1024, candidates=1000, snr=5, dm=(0, 1000)), sky)
    assert everything.overflow == 0
    assert len(everything) == 100 + events.overflow
    np.testing.assert_array_equal(everything.table[:100], events.table)


def test_unknown_frequencies_are_searched_at_dm_0():
    plan = make_plan(32, low=-16.0, high=16.0, rows=256)
    sky = noise(plan, 512, 10)
    sky.stokes[0][300] += 0.3 * sky.stokes[0].mean(axis=0)
    (pulse,) = find_pulses(plan, sky)
    assert (pulse.row, pulse.dm) == (300.5, 0)


@pytest.mark.parametrize("rising", [False, True])
def test_trials_cover_the_range_within_the_tolerance(rising):
    plan = make_plan(dm=(10, 2000), rising=rising)
    bands = search_bands(plan)
    assert [(band.start, band.stop) for band in bands[:3]] == [(0, 128), (0, 64), (64, 128)]
    assert len(bands) == 7
    found = plan_trial_groups(plan, bands)
    counts = []
    for number in range(len(bands)):
        dms = np.concatenate([group.dm[group.chosen[number]] for group in found])
        steps = np.concatenate([group.step[number] for group in found])
        assert dms[0] == 10
        assert dms[-1] == 2000
        assert (np.diff(dms) > 0).all()
        assert (np.diff(dms) <= steps[:-1] * (1.2 if number else 1 + 1e-6)).all()
        counts.append(len(dms))
    assert counts[0] == sum(len(group.dm) for group in found)
    assert max(counts[3:]) < counts[0] / 2.5


def read_filterbank(path):
    raw = path.read_bytes()
    body = raw.index(b"HEADER_END") + 10

    def number(key, form):
        return struct.unpack_from(form, raw, raw.index(key) + len(key))[0]

    channels, first, step, seconds = (
        number(b"nchans", "<i"),
        number(b"fch1", "<d"),
        number(b"foff", "<d"),
        number(b"tsamp", "<d"),
    )
    data = np.frombuffer(raw, np.uint8, offset=body)
    data = data[: len(data) // channels * channels].reshape(1, -1, channels).astype(np.float32)
    rate = 1 / Fraction(seconds).limit_denominator(10**9)
    stream = Stream("x", SampleKind.POWER, 0, rate, channels, first * 1e6, step * 1e6, ("I",), 8, Encoding.UNSIGNED)
    plan = Plan(stream, resolve(Reduction(), stream, data.shape[1]))
    assert plan.cells_per_row == 1
    return plan, Rows(0, data, np.ones(data.shape[1:], np.uint16))


def test_a_recorded_fast_radio_burst_is_found(data):
    plan, sky = read_filterbank(data / "transients" / "FRB180417.fil")
    pulses = find_pulses(plan, sky)
    assert abs(pulses[0].dm - 474.8) <= 5
    assert abs(pulses[0].row * plan.row_seconds - 2.029) <= 0.005
    assert pulses[0].snr >= 13
    assert sum(pulse.snr > 8 for pulse in pulses) <= 3


def test_a_pulse_simulated_by_another_program_is_found(data):
    plan, sky = read_filterbank(data / "synthetic" / "dispersed_pulse_dm1000.fil")
    pulse = find_pulses(plan, sky)[0]
    assert abs(pulse.dm - 1000) <= 5
    assert abs(pulse.row * plan.row_seconds - 5.108) <= 0.01
