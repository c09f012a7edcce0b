"""The search on the GPU against the search on the CPU."""

import numpy as np
import pytest

from edgefilter.compute.threads import ThreadBackend
from edgefilter.stages.search import single_pulse as cpu_search
from edgefilter.stages.search import single_pulse_gpu
from edgefilter.stages.search.normalise import Normaliser
from edgefilter.stages.search.normalise_gpu import GpuNormaliser
from edgefilter.stages.search.occupancy import EventOccupancy
from edgefilter.stages.search.single_pulse import SinglePulseSearch
from edgefilter.stages.search.single_pulse_gpu import SNR_TOLERANCE, GpuGroupBatch, GpuSinglePulseSearch
from tests.helpers.pulse_sky import add_pulse, make_plan, neighbouring_blocks, noise, normalised_blocks


@pytest.mark.parametrize("lost", [0.0, 0.1])
@pytest.mark.parametrize(("channels", "rows", "dm", "block"), [(32, 256, 200, 12), (50, 512, 3000, 6)])
def test_events_are_those_of_the_cpu(gpu_backend, lost, channels, rows, dm, block):
    plan = make_plan(channels, rows=rows, dm=(0, dm), snr=5)
    sky = noise(plan, 16 * rows, 1)
    rng = np.random.default_rng(1)
    if lost:
        sky.weight[rng.random(sky.weight.shape) < lost] = 0
        sky.weight[block * rows + 40 : block * rows + 90] = 0
    for row, width in ((30, 2), (200, 8)):
        add_pulse(plan, sky, block * rows + row, dm / 2, width, 25)
    with ThreadBackend(1) as backend:
        cpu_stage, gpu_stage = SinglePulseSearch(plan, backend), GpuSinglePulseSearch(plan, gpu_backend)
        blocks = normalised_blocks(Normaliser(plan, backend), plan, sky)
        expected = cpu_stage.reduce(neighbouring_blocks(plan, cpu_stage, blocks, block), block)
        blocks = normalised_blocks(GpuNormaliser(plan, gpu_backend), plan, sky)
        window_blocks = neighbouring_blocks(plan, gpu_stage, blocks, block)
        # Twice: the second call uses the cached tables.
        for found in (gpu_stage.reduce(window_blocks, block), gpu_stage.reduce(window_blocks, block)):
            assert len(found) > 50
            # None is near the threshold, by the choice of seeds.
            assert (abs(expected.table["snr"] / 5 - 1) > SNR_TOLERANCE).all()
            # Events of nearly the same S/N may be in another order.
            fields = ["row", "dm", "dm_step", "width_rows", "band", "is_pulse", "explains"]
            here, there = (np.sort(one.table, order=fields) for one in (found, expected))
            np.testing.assert_array_equal(here[fields], there[fields])
            np.testing.assert_allclose(here["snr"], there["snr"], rtol=SNR_TOLERANCE)
    assert found.near_threshold == 0
    assert len(gpu_stage._batches) < len(cpu_stage._batches)  # more groups at a time


def test_trials_beyond_the_limit_of_a_launch_are_searched_in_several(gpu_backend, monkeypatch):
    plan = make_plan(32, rows=256, dm=(0, 200), snr=5)
    sky = noise(plan, 4096, 1)
    add_pulse(plan, sky, 12 * 256 + 30, 100, 2, 25)
    blocks = normalised_blocks(GpuNormaliser(plan, gpu_backend), plan, sky)
    found, batches = [], []
    for most in (single_pulse_gpu._MAX_TRIALS_PER_LAUNCH, 1):
        monkeypatch.setattr(single_pulse_gpu, "_MAX_TRIALS_PER_LAUNCH", most)
        stage = GpuSinglePulseSearch(plan, gpu_backend)
        found.append(stage.reduce(neighbouring_blocks(plan, stage, blocks, 12), 12))
        batches.append(len(stage._batches))
    assert batches[0] < batches[1]
    np.testing.assert_array_equal(found[0].table, found[1].table)


def test_a_decision_near_the_threshold_is_counted(gpu_backend):
    plan = make_plan(32, rows=256, dm=(0, 200), snr=5)
    sky = noise(plan, 4096, 1)
    add_pulse(plan, sky, 12 * 256 + 30, 100, 2, 25)
    blocks = normalised_blocks(GpuNormaliser(plan, gpu_backend), plan, sky)

    def search(snr):
        plan = make_plan(32, rows=256, dm=(0, 200), snr=snr)
        stage = GpuSinglePulseSearch(plan, gpu_backend)
        found = stage.reduce(neighbouring_blocks(plan, stage, blocks, 12), 12)
        return found, found.near_threshold

    events, near_threshold = search(5.0)
    assert near_threshold == 0
    weakest = float(events.table["snr"][5])
    for threshold, number in ((weakest * (1 - SNR_TOLERANCE / 2), 6), (weakest * (1 + SNR_TOLERANCE / 2), 5)):
        events, near_threshold = search(threshold)
        assert len(events) == number
        assert near_threshold == 1


def test_a_band_occupancy_near_its_limit_is_counted(gpu_backend, monkeypatch):
    plan = make_plan(32, rows=256, dm=(0, 200), snr=5)
    sky = noise(plan, 4096, 1)
    add_pulse(plan, sky, 12 * 256 + 30, 100, 2, 25)
    blocks = normalised_blocks(GpuNormaliser(plan, gpu_backend), plan, sky)
    stage, fractions = GpuSinglePulseSearch(plan, gpu_backend), []
    measure = EventOccupancy.remaining_fraction
    monkeypatch.setattr(
        EventOccupancy, "remaining_fraction", lambda *given: fractions.append(measure(*given)) or fractions[-1]
    )

    def events(least):
        monkeypatch.setattr(cpu_search, "_MIN_REMAINING_FRACTION", least)
        found = stage.reduce(neighbouring_blocks(plan, stage, blocks, 12), 12)
        return found.table["snr"].max(), found.near_threshold

    strongest, near_threshold = events(0.25)
    assert near_threshold == 0
    first = fractions[0]
    assert events(first - SNR_TOLERANCE / 2) == (strongest, 1)
    weaker, near_threshold = events(first + SNR_TOLERANCE / 2)
    assert weaker < strongest
    assert near_threshold == 1


def test_blocks_without_data_have_no_events(gpu_backend):
    plan = make_plan(32, rows=256, dm=(0, 200))
    search = GpuSinglePulseSearch(plan, gpu_backend)
    sky = noise(plan, 256, 1)
    sky.weight[:] = 0
    window_blocks = neighbouring_blocks(plan, search, normalised_blocks(GpuNormaliser(plan, gpu_backend), plan, sky), 0)
    assert len(search.reduce(window_blocks, 0)) == 0


def test_tracks_that_leave_the_window_are_refused(gpu_backend):
    plan = make_plan(32, rows=256, dm=(0, 200))
    search = GpuSinglePulseSearch(plan, gpu_backend)
    with pytest.raises(ValueError, match="the window has 256"):
        GpuGroupBatch(search._batches[0], search._tree, 256, 256, gpu_backend)
