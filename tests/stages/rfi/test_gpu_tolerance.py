"""Tolerance of flags to rounding: it includes all flags that the rounding of another device changes."""

from dataclasses import replace

import numpy as np
import pytest

from edgefilter.batch.local import Replay
from edgefilter.cli.show import summary_lines
from edgefilter.compute.threads import ThreadBackend
from edgefilter.core.cells import Flag, NearThreshold
from edgefilter.core.config import NodeConfig
from edgefilter.core.validation import validate
from edgefilter.pipeline import backend
from edgefilter.pipeline.backend import BackendSelector
from edgefilter.stages.filterbank.channelise import Channeliser
from edgefilter.stages.rfi.gpu_tolerance import TRANSFORM_TOLERANCE
from edgefilter.stages.rfi.stage import FlagStage
from tests.helpers import flag_scenes, running_node
from tests.helpers.voltage_blocks import voltage_block
from tests.helpers.voltage_blocks import voltage_plan as filterbank_plan

ALL_KINDS = {"mask": ((1385.0, 1386.0),), "protect": ((1390.0, 1392.0),)}


def scene(seed, spectra, times=512, channels=128):
    """Return voltages with interference for each flagger, faint and strong, and a gap."""
    rng = np.random.default_rng(seed)
    cells = flag_scenes.gaussian_voltages(rng, times, channels, spectra)
    for _ in range(12):
        t, c = rng.integers(times), rng.integers(channels)
        where = slice(t, t + rng.integers(1, 120)), slice(c, c + rng.integers(1, 4))
        flag_scenes.add_tone(cells, where, rng.uniform(0.02, 0.6))
    flag_scenes.add_tone(cells, (slice(None), slice(77, 78)), 0.03)
    cells.power[60:63] *= 1 - rng.uniform(0.05, 0.3)
    channel = rng.integers(0, channels - 3)
    cells.power[200:320, channel : channel + 2] *= 1 + rng.uniform(0.05, 0.5)
    cells.flags[400:420] = Flag.LOST
    cells.power[400:420] = 0
    cells.accumulated[400:420] = 0
    return cells


def flagged(stage, cells):
    """Return a flagged copy, with TAGGED cells."""
    cells = replace(cells, flags=cells.flags & np.uint16(Flag.LOST))
    stage.flagger.flag(cells.power, cells.moment4, cells.accumulated, len(cells.products), cells.flags)
    return cells


# Among 400 seeds, rounding changes most flags in these, or the ends of runs, which are hardest to predict.
@pytest.mark.parametrize(("seed", "spectra"), [(67, 64), (118, 64), (131, 256), (144, 16), (182, 256), (7, 64)])
def test_flags_that_rounding_changes_are_within_the_tolerance(seed, spectra):
    plan = flag_scenes.voltage_plan(fine=128, **ALL_KINDS)
    rng = np.random.default_rng(seed + 1000)
    with ThreadBackend(1) as compute:
        stage = FlagStage(plan, compute)
        cells = flagged(stage, scene(seed, spectra))
        inside = stage.near_threshold_mask(cells)
        for _ in range(6):
            power, fourth = (
                (array * (1 + bound * rng.uniform(-1, 1, array.shape))).astype(np.float32)
                for array, bound in ((cells.power, TRANSFORM_TOLERANCE), (cells.moment4, 2 * TRANSFORM_TOLERANCE))
            )
            other = flagged(stage, replace(cells, power=power, moment4=fourth))
            assert not ((other.flags != cells.flags) & ~inside).any()
    assert np.count_nonzero(inside) <= 1e-3 * inside.size


@pytest.mark.parametrize("seed", range(4))
def test_flags_that_differ_on_a_gpu_are_within_the_tolerance(gpu_backend, seed):
    plan = filterbank_plan(channels=1, fine=64, spectra=32, rows=256)
    raw = voltage_block(plan, seed)
    rng = np.random.default_rng(seed)
    with ThreadBackend(1) as compute:
        on_cpu = FlagStage(plan, compute)
        expected = Channeliser(plan, compute).reduce(raw)
        found = Channeliser(plan, gpu_backend).reduce(raw).map_arrays(gpu_backend.to_host)
        for _ in range(20):
            t, c, gain = rng.integers(len(found.power)), rng.integers(64), np.float32(rng.uniform(1.02, 1.5))
            length = rng.integers(1, 80)
            for cells in (expected, found):
                cells.power[t : t + length, c] *= gain
                cells.moment4[t : t + length, c] *= gain * gain
        expected = flagged(on_cpu, expected)
    on_gpu = FlagStage(plan, gpu_backend)
    found = flagged(on_gpu, found.map_arrays(gpu_backend.to_device))
    inside, flags = gpu_backend.to_host(on_gpu.near_threshold_mask(found)), gpu_backend.to_host(found.flags)
    assert not ((flags != expected.flags) & ~inside).any()
    assert (flags & Flag.POWER).any()
    assert np.count_nonzero(inside) <= 1e-2 * inside.size


def moment4_at_threshold(stage, cells, t, c):
    """Return the largest fourth moment with which a cell is flagged, to the last bit of a float."""
    # The bits of positive floats, read as integers, have the order of the floats.
    low, high = (int(np.float32(value).view(np.int32)) for value in (0.1, 10))
    while high - low > 1:
        middle = (low + high) // 2
        cells.moment4[t, c, 0] = np.int32(middle).view(np.float32)
        low, high = (middle, high) if flagged(stage, cells).flags[t, c] else (low, middle)
    return np.int32(low).view(np.float32)


def test_a_value_at_its_threshold_is_counted(gpu_backend):
    plan = flag_scenes.voltage_plan(fine=32)
    cells = flag_scenes.gaussian_voltages(np.random.default_rng(4), 256, 32, 64)
    with ThreadBackend(1) as compute:
        most = moment4_at_threshold(FlagStage(plan, compute), cells, 128, 9)
        stage = FlagStage(plan, gpu_backend)
        for factor, near in ((1, True), (1 + 1e-6, True), (1.01, False), (0.99, False)):
            cells.moment4[128, 9, 0] = most * np.float32(factor)
            ours = replace(cells, flags=np.zeros_like(cells.flags)).map_arrays(gpu_backend.to_device)
            stage.reduce(ours)
            assert (ours.near_threshold.flags > 0) == near
            assert ours.near_threshold.cells == cells.flags.size


def test_flags_are_counted_on_a_gpu_in_measured_blocks_only(gpu_backend):
    plan = flag_scenes.power_plan(32)
    power = flag_scenes.noise(np.random.default_rng(4), plan.cells_per_block, 32)

    def near_threshold(compute, block):
        cells = replace(flag_scenes.power_cells(power), start=block * plan.cells_per_block)
        cells = cells.map_arrays(compute.to_device)
        FlagStage(plan, compute).reduce(cells)
        return cells.near_threshold

    assert near_threshold(gpu_backend, 0).cells == near_threshold(gpu_backend, 16).cells == power.size
    with ThreadBackend(1) as compute:
        assert near_threshold(gpu_backend, 1) == near_threshold(compute, 0) == NearThreshold()


def test_lost_cells_are_not_counted(gpu_backend):
    plan = flag_scenes.power_plan(32)
    cells = flag_scenes.power_cells(flag_scenes.noise(np.random.default_rng(4), 64, 32))
    cells.flags[10:20] = Flag.LOST
    ours = cells.map_arrays(gpu_backend.to_device)
    FlagStage(plan, gpu_backend).reduce(ours)
    assert ours.near_threshold.cells == 54 * 32


def test_the_summary_of_a_run_has_the_number_of_flags_within_the_tolerance(gpu_backend, monkeypatch, tmp_path):
    monkeypatch.setattr(backend, "GpuBackend", lambda: gpu_backend)
    settings = validate(NodeConfig, running_node.settings_tree(tmp_path))
    replay = Replay(running_node.sky(0.6), settings, tmp_path / "store", backend_selector=BackendSelector("gpu"))
    for _ in replay.run():
        pass
    counts = replay.totals.counts
    assert (counts["blocks"], counts["card_blocks"]) == (3, 3)
    flags, cells = counts["guarded_flags"], counts["guarded_cells"]
    assert cells == replay.plan.cells_per_block * 32  # of the first block
    assert 0 <= flags < 1e-2 * cells
    output = "\n".join(summary_lines(counts, "store"))
    assert "reduced by: GPU 3 blocks, processor 0" in output
    assert f"flags of {flags} ({flags / cells:.2%}) of {cells} cells" in output
