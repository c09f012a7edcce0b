"""Drifting tones are tagged and kept; intermittent, hopping and wide interference is flagged as without that rule."""

import numpy as np
import pytest

import edgefilter
from benchmarks.rfi.events import EVENT, NOISE, TONE, Grid
from benchmarks.rfi.scene import make_scene
from edgefilter_kernels.rfi.drifting_tones import LineLayout

GRID = Grid(2048, 256, high_mhz=1300.0)
TAGGED = edgefilter.FLAGS["tagged"]
TONES = ((10.3, 2), (32.6, -2), (45.4, 10), (85.1, -10), (100.8, 40), (200.2, -40), (210.5, 5), (240.9, -3))


def events_of(*events, sigma):
    """Return events from ``(shape, start, stop, low, high)``, times in blocks, with a power of ``sigma`` in a cell."""
    power = sigma / np.sqrt(GRID.accumulated)
    rows = [(0, s, a * GRID.voltages, b * GRID.voltages, low, high, power) for s, a, b, low, high in events]
    return np.array(rows, EVENT)


def flags_of(scene, moment4):
    return edgefilter.flag(
        scene.power,
        scene.moment4 if moment4 else None,
        accumulated=GRID.accumulated,
        sample_time=GRID.sample_time,
        frequencies=GRID.frequencies,
        threads=1,
    )


_FAINT = 3  # sigma up to which the kurtosis is hardly lower than that of noise; brighter tones are flagged by it


# At half a sigma, not all tones fill their lines; without the rule, a tenth of their cells is flagged.
@pytest.mark.parametrize(("sigma", "most"), [(0.5, 0.04), (1.5, 0.01), (3, 0.03), (10, 0.01), (30, 0.01)])
def test_drifting_tones_are_kept(sigma, most):
    scene = make_scene(GRID, 7, events_of(*((TONE, 0, 1, f, f + moves) for f, moves in TONES), sigma=sigma))
    on = scene.inr > 0.3 * scene.inr.max()
    for moment4 in (True, False) if sigma <= _FAINT else (False,):
        flags = flags_of(scene, moment4)
        lost = flags & ~np.uint16(TAGGED) != 0
        assert lost[on].mean() <= most
        if sigma >= 3:
            assert (flags[on] & TAGGED != 0).mean() > 0.85
            for f, moves in TONES:
                low, high = round(min(f, f + moves)), round(max(f, f + moves)) + 1
                assert lost[:, low:high][on[:, low:high]].mean() < 0.08


def intermittent_tone(rng, f, duty, length):
    """Return a tone of one frequency that is on for a fraction ``duty`` of the time."""
    events, at = [], -length * rng.random()
    while at < 1:
        on = length * rng.uniform(0.5, 1.5)
        if at + on > 0:
            events.append((TONE, max(at, 0), min(at + on, 1), f, f))
        at += on + length * (1 / duty - 1) * rng.uniform(0.5, 1.5)
    return events


def interference():
    rng = np.random.default_rng(4)
    hops = [(TONE, n / 256, (n + 0.9) / 256, f, f) for n, f in enumerate(rng.integers(100, 140, 256) + 0.2)]
    chirps = [(TONE, a, a + 0.25, f, f + d) for a, f, d in ((0.1, 60, 20), (0.6, 90, -30), (0.7, 150, 5))]
    return {
        "on and off": [e for f in (20.0, 50.25, 90.5, 150.1) for e in intermittent_tone(rng, f, 0.6, 0.05)],
        "on and off, duty 0.7": [e for f in (20.0, 50.25, 90.5, 150.1) for e in intermittent_tone(rng, f, 0.7, 0.02)],
        "next to each other": [e for f in (50.1, 50.9, 90.0, 91.0, 92.0) for e in intermittent_tone(rng, f, 0.6, 0.05)],
        "once, for 0.7 of the block": [(TONE, a, a + 0.7, f, f) for a, f in ((0, 40.4), (0.15, 80.5), (0.3, 120.6))],
        "hopping": hops,
        "chirps": chirps,
        "wide": [(NOISE, a, a + 0.65, f, f + 30) for a, f in ((0.05, 30), (0.3, 140))],
        "a few channels wide": [
            (NOISE, a, a + 0.65, f, f + w) for a, f, w in ((0.3, 40, 2), (0.1, 90, 4), (0.2, 150, 7))
        ],
    }


@pytest.mark.parametrize("kind", interference())
def test_other_interference_is_flagged_as_without_the_rule_for_drifting_tones(kind, monkeypatch):
    scene = make_scene(GRID, 8, events_of(*interference()[kind], sigma=10))
    found = [flags_of(scene, moment4) & ~np.uint16(TAGGED) for moment4 in (True, False)]
    monkeypatch.setattr("edgefilter.stages.rfi.flagger.line_layout", lambda *_: LineLayout(2, 0, 0, 0, 0))
    for one, moment4 in zip(found, (True, False), strict=True):
        without = flags_of(scene, moment4) & ~np.uint16(TAGGED)
        assert (without[scene.truth] != 0).mean() > (0.05 if kind == "wide" else 0.5)
        np.testing.assert_array_equal(one, without)
