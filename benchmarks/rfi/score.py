"""Scores of a flagger: precision and recall on interference, flagged noise, and loss of signals."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

import edgefilter
from benchmarks.rfi.events import KINDS, Grid, draw_events
from benchmarks.rfi.scene import Scene, make_scene
from benchmarks.rfi.sky import SIGNALS, draw_sky, draw_tones

Mask = NDArray[np.bool_]
Flagger = Callable[[Scene], Mask]

TUNING = (1, 2, 7, 100)
"""Seeds with which the thresholds were chosen."""

REPORTING = (2003, 2011, 2029, 2203)
"""Seeds of the report: two of interference, one of signals from the sky, one of noise."""

SIGMAS = (0.5, 3.0, 30.0)


def edgefilter_flagger(moment4: bool, threads: int = 1, **settings: Any) -> Flagger:
    """Return :func:`edgefilter.flag` as a flagger; tagged bins are not flagged.

    Parameters
    ----------
    moment4
        Whether it gets fourth moments.
    threads
        Worker threads.
    **settings
        Settings of :func:`edgefilter.flag`.

    Returns
    -------
    callable
        From a scene to bool ``[time, channel]``.
    """

    def run(scene: Scene) -> Mask:
        flags = edgefilter.flag(
            scene.power,
            scene.moment4 if moment4 else None,
            accumulated=scene.grid.accumulated,
            sample_time=scene.grid.sample_time,
            frequencies=scene.grid.frequencies,
            threads=threads,
            **settings,
        )
        return np.asarray(flags & ~edgefilter.FLAGS["tagged"] != 0)

    return run


def score_interference(scene: Scene, found: Mask) -> dict[str, Any]:
    """Return precision, recall and F1 by bins, and the recall of each kind of interference.

    Parameters
    ----------
    scene
        The scene.
    found
        bool ``[time, channel]``: flagged bins.

    Returns
    -------
    dict
        The scores.
    """
    truth = scene.truth
    both = np.count_nonzero(found & truth)
    precision, recall = both / max(found.sum(), 1), both / truth.sum()
    return {
        "precision": round(float(precision), 4),
        "recall": round(float(recall), 4),
        "f1": round(float(2 * precision * recall / max(precision + recall, 1e-9)), 4),
        "recall_of": {
            kind: round(float(found[truth & (scene.kind == number)].mean()), 3) for number, kind in enumerate(KINDS)
        },
    }


def signal_losses(kinds: NDArray[np.int8], found: Mask) -> dict[str, float]:
    """Return the flagged fraction of the bins of each kind of signal.

    Parameters
    ----------
    kinds
        int8 ``[time, channel]``: index of :data:`SIGNALS`, -1 for none.
    found
        bool ``[time, channel]``: flagged bins.

    Returns
    -------
    dict
        Fractions by the name of the signal.
    """
    return {
        name: round(float(found[kinds == number].mean()), 5)
        for number, name in enumerate(SIGNALS)
        if (kinds == number).any()
    }


def score_flaggers(grid: Grid, flaggers: dict[str, Flagger], seeds: tuple[int, ...], bits: int = 0) -> dict[str, Any]:
    """Score flaggers on the same scenes.

    Parameters
    ----------
    grid
        Bins of a scene.
    flaggers
        Flaggers by name.
    seeds
        Seeds of scenes of interference, then one of signals and one of noise.
    bits
        Bits of the voltages, 0 for float.

    Returns
    -------
    dict
        Scores by the name of the flagger.
    """
    *rfi, sky, quiet = seeds
    result: dict[str, Any] = {name: {"interference": [], "lost": {}} for name in flaggers}
    for seed in rfi:
        scene = make_scene(grid, seed, draw_events(grid, seed, 0.11), bits=bits)
        for name, flagger in flaggers.items():
            found, seconds = _timed(flagger, scene)
            result[name]["interference"].append(score_interference(scene, found))
            result[name]["msample_per_s"] = round(found.size / seconds / 1e6, 2)
    scene = make_scene(grid, quiet, bits=bits)
    for name, flagger in flaggers.items():
        result[name]["false_on_noise"] = float(f"{flagger(scene).mean():.3g}")
    for sigma in SIGMAS:
        signal, kinds = draw_sky(grid, sky, sigma)
        scene = make_scene(grid, sky + round(10 * sigma), None, signal, bits=bits)
        for name, flagger in flaggers.items():
            result[name]["lost"][f"{sigma:g} sigma"] = signal_losses(kinds, flagger(scene))
        scene = make_scene(grid, sky + round(10 * sigma), draw_tones(grid, sky, sigma), bits=bits)
        # Where a tone is between two channels, each has a quarter of its power.
        kinds = np.where(scene.inr > 0.3 * scene.inr.max(), SIGNALS.index("tone"), -1).astype(np.int8)
        for name, flagger in flaggers.items():
            result[name]["lost"][f"{sigma:g} sigma"] |= signal_losses(kinds, flagger(scene))
    return result


def _timed(flagger: Flagger, scene: Scene) -> tuple[Mask, float]:
    flagger(scene)  # compiles
    best = np.inf
    for _ in range(3):
        began = time.perf_counter()
        found = flagger(scene)
        best = min(best, time.perf_counter() - began)
    return found, best
