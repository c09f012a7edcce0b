"""Speed of the kernels before and after a change, stored and compared by pytest-benchmark.

::

    git switch --detach main && python -m pytest benchmarks/regressions.py --benchmark-save=before
    git switch -            && python -m pytest benchmarks/regressions.py --benchmark-compare='*_before'

No time makes a test fail, because the load of the machine changes times, too: to compare, measure both versions twice.
``make test`` runs each benchmark once, without measuring. ``python -m benchmarks`` compares the kernels with limits and
peers; only its results are quoted.
"""

import time
from typing import Any

import numpy as np
import pytest

from benchmarks.kernels import channeliser
from benchmarks.rfi.events import Grid, draw_events
from benchmarks.rfi.scene import make_scene
from benchmarks.rfi.score import TUNING, edgefilter_flagger
from benchmarks.search import make_plan, make_power, search
from edgefilter.compute.threads import ThreadBackend
from edgefilter_kernels.filterbank.integrate import integrate, make_sums

# Processor time of one thread: other programs disturb it least.
pytestmark = pytest.mark.benchmark(timer=time.thread_time, min_rounds=5, warmup=True)


@pytest.mark.parametrize("stokes", ["I", "IQUV"])
@pytest.mark.parametrize("channels", [64, 1024, 16384, 65536])
def test_channelise(benchmark: Any, channels: int, stokes: str) -> None:
    work = channeliser.FilterbankWorkload(channels, 4, stokes=stokes, samples=1 << 20)
    with ThreadBackend(1) as backend:
        benchmark(work.run, backend)
    assert work.power.any()


def test_channelise_real_samples(benchmark: Any) -> None:
    work = channeliser.FilterbankWorkload(1024, 4, complex_samples=False, samples=1 << 20)
    with ThreadBackend(1) as backend:
        benchmark(work.run, backend)
    assert work.power.any()


@pytest.mark.parametrize("flagged", [0.0, 0.05])
def test_integrate(benchmark: Any, flagged: float) -> None:
    random = np.random.default_rng(1)
    power = random.random((1024, 1024, 2), np.float32)
    flags = (random.random((1024, 1024)) < flagged).astype(np.uint16)
    sums = make_sums(1, 1024, 1024, 6)
    benchmark(integrate, power, flags, np.ones((1, 2)), (0, 1024), sums, 0, len(sums.total))
    assert sums.weight.any()


@pytest.mark.parametrize("moment4", [False, True])
def test_flag(benchmark: Any, moment4: bool) -> None:
    grid = Grid(2048, 256)
    scene = make_scene(grid, TUNING[0], draw_events(grid, TUNING[0], 0.11))
    flags = benchmark(edgefilter_flagger(moment4), scene)
    assert flags.any()


@pytest.mark.parametrize("bands", [1, 4])
def test_search(benchmark: Any, bands: int) -> None:
    plan = make_plan(bands)
    power = make_power(plan, 8.0, [], 1)
    benchmark.pedantic(search, (plan, power, 1), rounds=3, warmup_rounds=1)
