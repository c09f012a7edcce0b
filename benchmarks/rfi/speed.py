"""Speed of the parts of the flagging, beside NumPy and SciPy, and beside reading the same bytes once."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

from benchmarks.harness import OURS, Bench
from benchmarks.kernels.limits import read
from benchmarks.rfi.events import Grid, draw_events
from benchmarks.rfi.peers import peers
from benchmarks.rfi.scene import Scene, make_scene
from benchmarks.rfi.score import TUNING, edgefilter_flagger
from edgefilter.compute.threads import ThreadBackend
from edgefilter.core.config import FlagSettings
from edgefilter.stages.rfi import background, dispersion_guard, flagger, zero_dm
from edgefilter.stages.rfi.sumthreshold import POWER_WINDOWS
from edgefilter_kernels.rfi.intensity import LANES
from edgefilter_kernels.rfi.sumthreshold import sum_threshold

GROUP = "flagging"
UNIT = "Msample/s"
MEMORY, READ = "memory", "memory gives these bytes"
_BYTES = 256 << 20  # more than any cache holds
_WINDOWS = np.array(POWER_WINDOWS)


@dataclass
class _RecordedCalls:
    """The calls of kernels that the chain makes, so that they can be repeated."""

    calls_by_name: dict[str, list[tuple[Any, ...]]] = field(default_factory=dict)

    @contextlib.contextmanager
    def recording(self, *kernels: tuple[Any, str]) -> Iterator[None]:
        """Record the arguments of the named functions of these modules in the context."""
        with contextlib.ExitStack() as stack:
            for module, name in kernels:
                stack.enter_context(mock.patch.object(module, name, self._recorder(name, getattr(module, name))))
            yield

    def _recorder(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def recorder(*arguments: Any) -> Any:
            self.calls_by_name.setdefault(name, []).append(_copy_arrays(arguments))
            return work(*arguments)

        return recorder

    def replay(self, name: str, work: Callable[..., Any], backend: ThreadBackend, align: int = 1) -> Callable[[], None]:
        """Return a function that repeats all recorded calls of one kernel on a backend."""

        def run() -> None:
            for *arguments, _, stop in self.calls_by_name[name]:
                backend.parallel_for(stop, lambda first, last, a=arguments: work(*a, first, last), align)  # type: ignore[misc]

        return run


def _copy_arrays(value: Any) -> Any:
    """Copy the arrays of an argument, also those in tuples and named tuples."""
    if isinstance(value, np.ndarray):
        return value.copy()
    if not isinstance(value, tuple):
        return value
    members = map(_copy_arrays, value)
    return type(value)(*members) if hasattr(value, "_fields") else tuple(members)


def run(bench: Bench) -> None:
    """Measure all parts on a scene of the tuning seeds.

    Parameters
    ----------
    bench
        Records the rates.
    """
    grid = Grid(4096, 1024)
    seed = TUNING[0]
    scene = make_scene(grid, seed, draw_events(grid, seed, 0.11))
    kernels = {
        "channel_quantiles": (background, LANES), "zero_dm_counts": (zero_dm, 1), "cell_statistics": (flagger, LANES),
        "count_tracks": (dispersion_guard, 1), "find_tracks": (dispersion_guard, 1),
        "drop_tones": (dispersion_guard, 1),
        "mark_tracks": (dispersion_guard, 1), "mark_edge_tracks": (dispersion_guard, 1),
        "find_drifting_tones": (flagger, 1), "mark_drifting_tones": (flagger, 1), "combine": (flagger, 1),
    }  # fmt: skip
    for moment4 in (False, True):
        calls = _RecordedCalls()
        with calls.recording(*((module, name) for name, (module, _) in kernels.items())):
            edgefilter_flagger(moment4)(scene)
        _parts(bench, scene, moment4, calls, kernels)
    _sum_threshold(bench, scene)
    _chain(bench, scene)
    _blocks(bench, scene)


def _parts(
    bench: Bench, scene: Scene, moment4: bool, calls: _RecordedCalls, kernels: dict[str, tuple[Any, int]]
) -> None:
    power, flags = scene.power, np.zeros(scene.power.shape, np.uint16)
    marks = flags.astype(np.uint8)
    plain: dict[str, Callable[[], object]] = {
        "channel_quantiles": lambda: np.quantile(power[::4], (0.05, 0.3), axis=0),
        "zero_dm_counts": lambda: [power > 1.1, power < 0.9],
        "combine": lambda: flags | np.take(np.zeros(256, np.uint16), marks),
    }
    arrays_read: dict[str, tuple[NDArray[Any], ...]] = {
        "channel_quantiles": (power[::4], flags[::4]), "zero_dm_counts": (power, flags), "combine": (marks, flags),
        "cell_statistics": (power, flags, scene.moment4) if moment4 else (power, flags), "count_tracks": (marks,),
        "mark_tracks": (marks,),
    }  # fmt: skip
    for name, (module, align) in kernels.items():
        if moment4 and name != "cell_statistics":
            continue
        case = f"{name}, with moment4" if moment4 else name
        for threads in (1, 2):
            with ThreadBackend(threads) as backend:
                work = calls.replay(name, getattr(module, name), backend, align)
                bench.rate(GROUP, case, OURS, power.size / 1e6, UNIT, work, threads)
        if name in plain and not moment4:
            bench.rate(GROUP, case, "NumPy", power.size / 1e6, UNIT, plain[name])
        if name in arrays_read:
            _read(bench, case, arrays_read[name], power.size)


def _sum_threshold(bench: Bench, scene: Scene) -> None:
    values = ((scene.power - 1) * np.sqrt(scene.grid.accumulated)).astype(np.float32)
    limits = (5.0 * np.sqrt(_WINDOWS)).astype(np.float32)
    marks = np.zeros(values.shape, np.uint8)
    case = f"sum_threshold, {len(_WINDOWS)} windows"

    def plain() -> None:
        found = np.zeros(values.shape, np.bool_)
        for window, limit in zip(_WINDOWS.tolist(), limits.tolist(), strict=True):
            unflagged = np.where(found, 0, values)
            over = uniform_filter1d(unflagged, window, axis=0) * window > limit
            found |= uniform_filter1d(over.astype(np.float32), window, axis=0) > 0

    for threads in (1, 2):
        with ThreadBackend(threads) as backend:
            bench.rate(
                GROUP, case, OURS, values.size / 1e6, UNIT,
                lambda: backend.parallel_for(
                    values.shape[1], lambda a, b: sum_threshold(values, _WINDOWS, limits, 1, marks, a, b), LANES
                ),
                threads,
            )  # fmt: skip
    bench.rate(GROUP, case, "SciPy", values.size / 1e6, UNIT, plain)
    _read(bench, case, (values,), values.size)


def _chain(bench: Bench, scene: Scene) -> None:
    count = scene.power.size / 1e6
    for moment4, case in ((False, "whole chain, power"), (True, "whole chain, with moment4")):
        for threads in (1, 2):
            bench.rate(GROUP, case, OURS, count, UNIT, lambda: edgefilter_flagger(moment4, threads)(scene), threads)  # noqa: B023
        for name, peer in peers(bench).items():
            bench.rate(GROUP, case, name, count, UNIT, lambda: peer(scene))  # noqa: B023
        _read(bench, case, (scene.power, scene.moment4) if moment4 else (scene.power,), scene.power.size)


def _blocks(bench: Bench, scene: Scene) -> None:
    """Measure block after block, as a node flags them, with threads and memory that are kept."""
    power, moment4 = scene.power[:, :, None], scene.moment4[:, :, None]
    accumulated = np.full(len(power), scene.grid.accumulated, np.int32)
    flags = np.zeros(scene.power.shape, np.uint16)
    for fourth, case in ((None, "block after block, power"), (moment4, "block after block, with moment4")):
        for threads in (1, 2):
            with ThreadBackend(threads) as backend:
                chain = flagger.Flagger(scene.grid.frequencies / 1e6, scene.grid.sample_time, FlagSettings(), backend)

                def work() -> None:
                    flags[:] = 0
                    chain.flag(power, fourth, accumulated, 1, flags)  # noqa: B023

                bench.rate(GROUP, case, OURS, flags.size / 1e6, UNIT, work, threads)


def _read(bench: Bench, case: str, arrays: tuple[NDArray[Any], ...], samples: int) -> None:
    """Record the rate at which memory delivers the arrays of a kernel, to compare our rate with."""
    memory = bench.value(GROUP, MEMORY, "read")
    if memory is None:
        source = np.ones(_BYTES // 4, np.float32)
        memory = bench.rate(GROUP, MEMORY, "read", _BYTES / 1e6, "MB/s", lambda: read(source))
    bench.record(GROUP, case, READ, memory * samples / sum(array.nbytes for array in arrays), UNIT)
