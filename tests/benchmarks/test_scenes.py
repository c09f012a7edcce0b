"""The benchmark of scenes: its noise, its pulses, its ideal search and its scores are what they say."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.scenes.band import Band
from benchmarks.scenes.catalogue import REPORTING, SCENES, TUNING
from benchmarks.scenes.digitiser import Digitiser
from benchmarks.scenes.effects import Carrier, Chunk, GainWander, Radar, RollOff, ZeroDmBurst
from benchmarks.scenes.ideal import best_boxcar, ideal_snrs
from benchmarks.scenes.pulses import Pulse, delays, render
from benchmarks.scenes.report import Result, failed_bars
from benchmarks.scenes.scene import Scene
from benchmarks.scenes.score import Candidate, Score, score
from benchmarks.scenes.searchers import (
    Run,
    SearchFailedError,
    Usage,
    group_events,
    read_presto,
    read_transientx,
    searchers,
)
from edgefilter.sources.files.recognise import open_files

SMALL = Scene("small", 5, Band(1300.0, 1400.0, 64), 1e-3, 2.0)
PULSE = Pulse(0.8, 150.0, 4e-3, 15.0)


def samples(scene):
    return np.concatenate([numbers for _, numbers in scene.chunks()])


def blank(rows, scene=SMALL):
    ones = np.ones((rows, scene.band.channels), np.float32)
    return Chunk(0, scene.row_seconds, scene.band, ones, np.zeros_like(ones), ones.copy())


def test_seeds_of_tuning_and_of_reports_are_disjoint():
    assert not set(TUNING) & set(REPORTING)


@pytest.mark.parametrize("name", SCENES)
def test_each_scene_can_be_written_and_read(name, tmp_path):
    scene = SCENES[name](TUNING[0], 1.0)
    assert scene.name == name
    files = scene.write(tmp_path)
    source = open_files(files)
    assert source.samples == scene.rows
    assert source.stream.channels == scene.band.channels
    assert source.stream.bits == scene.bits
    assert len(files) == 1 + len(scene.gaps)
    source.close()


def test_a_scene_depends_only_on_its_seed():
    first, again, other = (SCENES["everything"](seed, 1.0) for seed in (TUNING[0], TUNING[0], TUNING[1]))
    assert np.array_equal(samples(first), samples(again))
    assert not np.array_equal(samples(first), samples(other))


def test_quiet_noise_has_the_mean_scatter_and_skewness_of_a_radiometer():
    power = SMALL._receive(blank(20000), np.random.default_rng(1))
    number = 2 * 100e6 / 64 * 1e-3
    deviation = power.std(dtype=np.float64)
    assert power.mean(dtype=np.float64) == pytest.approx(1.0, abs=1e-4)
    assert deviation == pytest.approx(number**-0.5, rel=0.005)
    assert np.mean(((power - 1.0) / deviation) ** 3, dtype=np.float64) == pytest.approx(2 * number**-0.5, abs=0.01)


def test_the_file_of_a_quiet_scene_has_the_mean_and_scatter_of_its_digitiser():
    numbers = samples(replace(SMALL, seconds=10.0)).astype(np.float64)
    assert numbers.mean() == pytest.approx(96.0, abs=0.1)
    assert numbers.std() == pytest.approx(12.0, rel=0.01)


def test_a_scene_that_is_not_flat_shows_the_shape_of_its_band():
    scene = replace(SMALL, effects=(RollOff(0.3),), dead=(20,), flat=False)
    numbers = samples(scene).astype(np.float64)
    level = scene.digitiser.level / scene.digitiser.level.max()
    expected = np.where(scene.good, 96.0 * level, 0.0)
    assert numbers.mean(axis=0) == pytest.approx(expected, abs=0.2)
    assert expected[0] < 0.5 * expected[32]


def test_gain_multiplies_signal_and_noise_alike():
    chunk = blank(20000)
    chunk.gain *= 3.0
    power = SMALL._receive(chunk, np.random.default_rng(1))
    assert power.std() / power.mean() == pytest.approx(SMALL.scatter, rel=0.01)


@pytest.mark.parametrize(("bits", "loss"), [(1, (2 / np.pi) ** 0.5), (2, 0.9387), (4, 0.9942), (8, 1.0)])
def test_digitisers_lose_what_the_literature_says(bits, loss):
    """Square roots of the efficiencies of correlators of 2, 4 and 16 levels (Thompson, Moran & Swenson, chapter 8)."""
    assert Digitiser(bits, np.ones(1), 0.01).efficiency() == pytest.approx(loss, abs=5e-4)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_the_first_channel_is_in_the_low_bits(bits):
    numbers = np.zeros((1, 8), np.uint8)
    numbers[0, 0] = 1
    assert Digitiser(bits, np.ones(8), 0.01).pack(numbers) == bytes([1, *bytes(bits - 1)])


@pytest.mark.parametrize("bits", [8, 1])
def test_ideal_snr_is_what_boxcars_measure_in_many_noises(bits):
    """The best boxcar, laid over the same pulse in many noises, has on average the ideal S/N."""
    scene = replace(SMALL, pulses=(PULSE,), bits=bits, seconds=1.2)
    boxcar = best_boxcar(scene, PULSE, scene.rendered[0], None)
    assert boxcar.snr == pytest.approx(PULSE.snr, rel=1e-3) if bits == 8 else 10.0 < boxcar.snr < 12.0
    shifts = np.rint(delays(scene.band, PULSE.dm) / scene.row_seconds).astype(int)
    on, off = [], []
    for seed in range(100):
        numbers = samples(replace(scene, seed=seed)).astype(float)
        series = sum(np.roll(numbers[:, channel], -shift) for channel, shift in enumerate(shifts))
        on.append(series[boxcar.first : boxcar.first + boxcar.rows].sum())
        off += [series[start : start + boxcar.rows].sum() for start in range(0, 600, boxcar.rows)]
    measured = (np.mean(on) - np.mean(off)) / np.std(off)
    assert measured == pytest.approx(boxcar.snr, rel=0.03)


def test_a_pulse_arrives_with_its_dispersion_and_keeps_its_fluence():
    pulse = replace(PULSE, scattering=3e-3)
    power = np.zeros((2000, 64), np.float32)
    render(pulse, SMALL.band, 1e-3).add_to(power, 0)
    assert power.sum(axis=0) == pytest.approx(np.ones(64), abs=0.01)
    times = ((np.arange(2000)[:, None] + 0.5) * 1e-3 * power).sum(axis=0)
    tails = 3e-3 * (SMALL.band.frequencies / 1350.0) ** -4.0
    assert times == pytest.approx(0.8 + delays(SMALL.band, 150.0) + tails, abs=2e-4)


def test_a_pulse_fills_only_its_part_of_the_band():
    power = render(replace(PULSE, low=1325.0, high=1350.0), SMALL.band, 1e-3).power
    assert np.count_nonzero(power.any(axis=1)) == 16


def test_what_is_not_recorded_lowers_the_ideal():
    scene = replace(SMALL, pulses=(PULSE,), zeros=((0.7, 0.82),))
    assert 0.0 < ideal_snrs(scene)[0] < 0.9 * PULSE.snr


def test_effects_add_the_power_that_they_should():
    burst, carrier, wander = blank(1000), blank(1000), blank(1000)
    ZeroDmBurst(0.1005, 0.02, 0.5).apply(burst)
    assert (burst.power - 1).sum(axis=0) == pytest.approx(np.full(64, 10.0), rel=1e-3)
    Carrier(1350.1, 0.2, 2.0, 0.2, 0.05, 0.0).apply(carrier)
    assert carrier.coherent.sum() == pytest.approx(2.0 * 250 * 0.2 / SMALL.band.channel_mhz, rel=1e-3)
    GainWander(0.01, (0.5, 0.25), (0.1, 0.4)).apply(wander)
    assert wander.gain[:, 0].std() == pytest.approx(0.01, rel=0.01)


def test_a_radar_is_seen_while_its_antenna_turns_to_us():
    chunk = blank(2000)
    Radar(1350.0, 5.0, 20.0, rotation=1.0, beam=0.05, phase=0.5).apply(chunk)
    seen = 1e-3 * np.flatnonzero(chunk.coherent.sum(axis=1) > 1e-3)
    assert len(seen)
    assert np.all(np.abs(seen % 1.0 - 0.5) < 0.15)


def test_candidates_find_pulses_repeat_them_or_are_false():
    scene = replace(SMALL, pulses=(PULSE, replace(PULSE, seconds=1.4, snr=8.0)), effects=(ZeroDmBurst(0.3, 0.02, 1.0),))
    result = score(
        scene,
        [
            Candidate(0.801, 151.0, 4e-3, 14.0),
            Candidate(0.799, 149.0, 8e-3, 11.0),
            Candidate(1.4, 150.0, 4e-3, 8.1),
            Candidate(0.31, 0.0, 16e-3, 30.0),
            Candidate(1.9, 500.0, 4e-3, 7.2),
        ],
    )
    assert result.found == [14.0, 8.1]
    assert result.recall == (1, 1)  # the other one's ideal S/N is below 8.5
    assert result.duplicates == 1
    assert [one.origin for one in result.false] == ["zero-DM burst", ""]
    assert result.snr_over_ideal == pytest.approx(14.0 / 15.0, rel=1e-3)


def test_a_candidate_finds_one_pulse_only():
    scene = replace(SMALL, pulses=(PULSE, replace(PULSE, seconds=0.804)))
    result = score(scene, [Candidate(0.8, 150.0, 4e-3, 14.0)])
    assert result.found == [14.0, 0.0]


def test_a_bright_pulse_at_another_dm_is_false_and_has_a_name():
    scene = replace(SMALL, pulses=(PULSE,))
    result = score(scene, [Candidate(0.8, 200.0, 4e-3, 9.0)])
    assert [one.origin for one in result.false] == ["burst of DM 150"]


def test_bars_compare_with_the_best_peer():
    def result(who, found, false, cpu):
        one = Result("small", who, True)
        one.add(2.0, Score([10.0] * 10, [9.5] * found + [0.0] * (10 - found), false), Usage(cpu + 1.0), 1.0)
        return one

    assert failed_bars(result("edgefilter", 10, [], 3.0), [result("peer", 9, [], 4.0)]) == []
    assert len(failed_bars(result("edgefilter", 8, [], 5.0), [result("peer", 9, [], 4.0)])) == 3


def test_lists_of_peers_are_read():
    line = "cfbf00001\t1\t60000.000011574074\t56.70\t4.10\t12.3\t1300\t1400\tx.png\t00\tx.fil\n"
    (found,) = read_transientx(line)
    assert found.seconds == pytest.approx(1.0, abs=1e-5)
    assert (found.dm, found.width, found.snr) == (56.7, pytest.approx(4.1e-3), 12.3)
    text = "# DM      Sigma      Time (s)     Sample    Downfact\n   56.70    9.10     1.500000       1500       4\n"
    assert read_presto(text, 1e-3, 10.0) == [Candidate(11.5, 56.7, 4e-3, 9.1)]


PROGRAMS = {
    "transientx_fil": 'printf "b 1 60000.0000092593 150.0 4.0 14.0 1300 1400 x 0 x\\n" > small.cands',
    "replot_fil": "cp small.cands small_replot.cands",
    "rfifind": "true",
    "prepsubband": "touch small_DM150.00.dat",
    "single_pulse_search.py": 'printf "150.0 13.0 0.8 800 4\\n" > small_DM150.00.singlepulse',
}


def test_peers_on_the_path_are_run_and_read(tmp_path, monkeypatch):
    for name, line in PROGRAMS.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = {}
    for who, searcher in searchers().items():
        folder = tmp_path / who
        folder.mkdir()
        if who != "edgefilter":
            found[who] = searcher(replace(SMALL, widest=0.032), [tmp_path / "small.fil"], folder)
    assert set(found) == {"TransientX", "TransientX, replot", "PRESTO"}
    for search in found.values():
        (candidate,) = search.candidates
        assert candidate.seconds == pytest.approx(0.8, abs=1e-3)
        assert search.usage.peak_bytes > 0
        assert search.usage.bytes_out > 0


def test_a_searcher_that_fails_says_why(tmp_path):
    with pytest.raises(SearchFailedError, match="no such scene"):
        Run(tmp_path).command("sh", "-c", "echo no such scene; exit 3")


def test_events_of_single_trials_are_grouped():
    events = [Candidate(0.8, 150.0, 4e-3, 14.0), Candidate(0.802, 155.0, 4e-3, 11.0), Candidate(1.5, 20.0, 4e-3, 8.0)]
    assert group_events(SMALL, events) == [events[0], events[2]]
