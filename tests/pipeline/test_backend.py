"""A card or the processor: what is chosen, and what happens where a card fails."""

from dataclasses import replace

import numpy as np
import pytest

from edgefilter.core.chunk import Gap, Loss
from edgefilter.core.errors import ConfigError, GpuError
from edgefilter.pipeline import backend
from edgefilter.pipeline.backend import BackendSelector
from edgefilter.pipeline.engine import Engine
from edgefilter.pipeline.gpu_memory import estimate_gpu_memory
from edgefilter.sources.simulated.sky import SkyPulse, VoltageSky
from edgefilter.stages.rfi.signal_loss import MEASURE_INTERVAL_BLOCKS
from tests.helpers.emulator.gpu import EmulatedGpuBackend, FailingGpuBackend, GpuLostError
from tests.pipeline.test_reducer import VOLTAGE, power, record_sky


@pytest.fixture
def use_gpu(gpu_backend, monkeypatch):
    if not isinstance(gpu_backend, EmulatedGpuBackend):
        pytest.skip("fails by itself or not at all")
    return lambda made: monkeypatch.setattr(backend, "GpuBackend", lambda: made)


def reduce(backend_selector, plan, recording):
    """Products of each block; no block's may be kept twice, and they come in order."""
    collected = {}

    def collect(products, next_block, summary):
        if summary.counts:
            assert next_block - 1 == len(collected)
            collected[next_block - 1] = {product.name: product.content for product in products}

    def read(start, stop):
        return recording.read(start, stop) if stop - plan.samples_per_block < recording.samples else None

    with Engine(plan, collect, "node", backend_selector) as engine:
        while not engine.finished:
            raw = engine.window(read)
            if raw is None:
                engine.finish()
            else:
                engine.feed(raw, read_ahead=read)
    return collected


def small_recording():
    """Voltages, of which a card makes other bytes: its transform rounds otherwise."""
    sky = VoltageSky(1.2, 4, rate=1_000_000, centre_mhz=400, pulses=[SkyPulse(0.13, 20, 2e-3, 30)])
    return record_sky(sky, VOLTAGE)


def test_auto_goes_on_with_the_processor_where_the_card_fails(use_gpu):
    plan, recording = small_recording()
    notifications = []
    use_gpu(EmulatedGpuBackend())
    on_card = reduce(BackendSelector("gpu", 1), plan, recording)
    on_processor = reduce(BackendSelector("cpu", 1), plan, recording)
    fails_at = 6
    use_gpu(FailingGpuBackend(fails_at))
    found = reduce(BackendSelector("auto", 1, lambda *what: notifications.append(what)), plan, recording)
    assert [what for what, _ in notifications] == ["gpu", "cpu"]
    first = int(notifications[1][1].split("from block ")[1].split()[0])
    assert 0 < first <= fails_at
    assert "GpuLostError: cudaErrorDeviceUnavailable: all is lost" in notifications[1][1]
    # Blocks that the card has made are the card's, all others the processor's, byte for byte.
    assert all(on_card[block] != on_processor[block] for block in (0, max(on_processor)))
    assert found == {block: (on_card if block < first else on_processor)[block] for block in on_processor}


def test_a_card_that_fails_at_the_end_costs_no_block(use_gpu, monkeypatch):
    plan, recording = small_recording()
    gpu_backend = EmulatedGpuBackend()
    gpu_backend.device_errors = (GpuLostError,)
    use_gpu(gpu_backend)
    expected = reduce(BackendSelector("cpu", 1), plan, recording)

    class Failing(Engine):
        def finish(self):
            monkeypatch.setattr(gpu_backend, "to_host", failing)
            return super().finish()

    def failing(_):
        raise GpuLostError("lost")

    monkeypatch.setitem(globals(), "Engine", Failing)
    assert reduce(BackendSelector("auto", 1), plan, recording).keys() == expected.keys()


def test_gpu_ends_where_the_card_fails(use_gpu):
    plan, recording = small_recording()
    for backend_selector in (BackendSelector("gpu"), BackendSelector("auto", fall_back_to_threads=False)):
        use_gpu(FailingGpuBackend(2))
        with pytest.raises(GpuError, match="the GPU has failed: GpuLostError: cudaErrorDevice") as error:
            reduce(backend_selector, plan, recording)
        assert "\n" not in str(error.value)


def test_a_card_that_cannot_be_had(monkeypatch):
    def raise_no_gpu():
        raise ConfigError("no card: there is none")

    monkeypatch.setattr(backend, "GpuBackend", raise_no_gpu)
    plan, _ = power()
    notifications = []
    with BackendSelector("auto", 2, lambda *what: notifications.append(what)).create_backend(plan) as compute:
        assert compute.threads == 2
    assert notifications == [("cpu", "processor, 2 threads: no card: there is none")]
    with pytest.raises(ConfigError, match=r"^backend gpu: no card: there is none$"):
        BackendSelector("gpu").create_backend(plan)


def test_a_card_too_small_for_the_stream_is_refused(use_gpu):
    plan, _ = power()
    gpu_backend = EmulatedGpuBackend()
    use_gpu(gpu_backend)
    needed = sum(estimate_gpu_memory(plan).values())
    gpu_backend.free_bytes = needed
    assert BackendSelector("gpu").create_backend(plan) is gpu_backend
    gpu_backend.free_bytes = needed - 1
    with pytest.raises(ConfigError, match=r"emulated card has .* GB of free memory, stream \S+ takes"):
        BackendSelector("gpu").create_backend(plan)
    with BackendSelector("auto").create_backend(plan) as compute:
        assert compute is not gpu_backend


def test_memory_is_planned_and_does_not_grow(use_gpu):
    """With losses, pulses, and blocks that are flagged twice: all that is taken, within kernels too."""
    sky = VoltageSky(2.0, 4, rate=1_000_000, centre_mhz=400, pulses=[SkyPulse(at, 20, 2e-3, 30) for at in (0.1, 1.9)])
    tree = VOLTAGE | {"channelise": {"channels": 16}, "detect": {"spectra": 16, "stokes": "IQUV"}}
    plan, recording = record_sky(sky, tree)
    length = plan.samples_per_block
    # The same losses in what is compared: shares of blocks that are not whole are kept while windows reach to them.
    lost = [(at * length - 2000, at * length + 9000) for at in (2, 24, 28, 42, 46)]
    lost += [(at * length, (at + 2) * length) for at in (29, 47)]
    recording = replace(recording, gaps=tuple(Gap(*where, Loss.MISSING) for where in sorted(lost)))
    gpu_backend = EmulatedGpuBackend()
    use_gpu(gpu_backend)
    most = []

    def read(start, stop):
        return recording.read(start, stop) if stop - length < recording.samples else None

    with Engine(plan, lambda *_: None, "node", BackendSelector("gpu")) as engine:
        while (raw := engine.window(read)) is not None:
            gpu_backend.device.peak = gpu_backend.device.in_use
            engine.feed(raw, read_ahead=read)
            most.append(gpu_backend.device.peak)
        engine.finish()
    full = engine.reducer.history_blocks + engine.reducer.latency_blocks  # of blocks that windows reach to
    assert len(most) > full + 2 * MEASURE_INTERVAL_BLOCKS
    assert max(most[full + MEASURE_INTERVAL_BLOCKS :]) <= max(most[full : full + MEASURE_INTERVAL_BLOCKS])
    planned = estimate_gpu_memory(plan)
    assert max(most) < sum(planned.values()) - planned["CUDA"]
    assert all(size >= 0 for size in planned.values())


def test_a_card_is_held_to_what_was_planned(use_gpu):
    plan, _ = power()
    gpu_backend = EmulatedGpuBackend()
    use_gpu(gpu_backend)
    planned = estimate_gpu_memory(plan)
    with BackendSelector("gpu").create_backend(plan):
        assert gpu_backend.device.limit == sum(planned.values()) - planned["CUDA"]
        with pytest.raises(MemoryError):
            gpu_backend.zeros(gpu_backend.device.limit + 1, np.int8)
