"""Selection of the backend, and what happens when a GPU fails."""

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
from tests.helpers.recordings import VOLTAGE, power, record_sky
from tests.helpers.reductions import reduce_recording, windows_until_end


@pytest.fixture
def use_gpu(gpu_backend, monkeypatch):
    if not isinstance(gpu_backend, EmulatedGpuBackend):
        pytest.skip("only the emulated GPU can be made to fail")
    return lambda made: monkeypatch.setattr(backend, "GpuBackend", lambda: made)


def small_recording():
    """Return voltages of which a GPU makes other bytes: its transform is rounded differently."""
    sky = VoltageSky(1.2, 4, rate=1_000_000, centre_mhz=400, pulses=[SkyPulse(0.13, 20, 2e-3, 30)])
    return record_sky(sky, VOLTAGE)


def test_auto_continues_on_the_processor_when_the_gpu_fails(use_gpu):
    plan, recording = small_recording()
    notifications = []
    use_gpu(EmulatedGpuBackend())
    on_gpu = reduce_recording(BackendSelector("gpu", 1), plan, recording)
    on_processor = reduce_recording(BackendSelector("cpu", 1), plan, recording)
    fails_at = 9
    use_gpu(FailingGpuBackend(fails_at))
    found = reduce_recording(BackendSelector("auto", 1, lambda *what: notifications.append(what)), plan, recording)
    assert [what for what, _ in notifications] == ["gpu", "cpu"]
    first = int(notifications[1][1].split("from block ")[1].split()[0])
    assert 0 < first <= fails_at
    assert "GpuLostError: cudaErrorDeviceUnavailable: device lost" in notifications[1][1]
    # Blocks before the failure are the GPU's, all others the processor's, byte for byte.
    assert all(on_gpu[block] != on_processor[block] for block in (0, max(on_processor)))
    assert found == {block: (on_gpu if block < first else on_processor)[block] for block in on_processor}


def test_a_gpu_that_fails_at_the_end_loses_no_block(use_gpu, monkeypatch):
    plan, recording = small_recording()
    gpu_backend = EmulatedGpuBackend()
    gpu_backend.device_errors = (GpuLostError,)
    use_gpu(gpu_backend)
    expected = reduce_recording(BackendSelector("cpu", 1), plan, recording)

    class FailingEngine(Engine):
        def finish(self):
            monkeypatch.setattr(gpu_backend, "to_host", raise_lost)
            return super().finish()

    def raise_lost(_):
        raise GpuLostError("lost")

    found = reduce_recording(BackendSelector("auto", 1), plan, recording, FailingEngine)
    assert found.keys() == expected.keys()


def test_backend_gpu_ends_when_the_gpu_fails(use_gpu):
    plan, recording = small_recording()
    for backend_selector in (BackendSelector("gpu"), BackendSelector("auto", fall_back_to_threads=False)):
        use_gpu(FailingGpuBackend(2))
        with pytest.raises(GpuError, match="the GPU has failed: GpuLostError: cudaErrorDevice") as error:
            reduce_recording(backend_selector, plan, recording)
        assert "\n" not in str(error.value)


def test_a_missing_gpu(monkeypatch):
    def raise_no_gpu():
        raise ConfigError("no GPU: there is none")

    monkeypatch.setattr(backend, "GpuBackend", raise_no_gpu)
    plan, _ = power()
    notifications = []
    with BackendSelector("auto", 2, lambda *what: notifications.append(what)).create_backend(plan) as compute:
        assert compute.threads == 2
    assert notifications == [("cpu", "processor, 2 threads: no GPU: there is none")]
    with pytest.raises(ConfigError, match=r"^backend gpu: no GPU: there is none$"):
        BackendSelector("gpu").create_backend(plan)


def test_a_gpu_with_too_little_memory_is_rejected(use_gpu):
    plan, _ = power()
    gpu_backend = EmulatedGpuBackend()
    use_gpu(gpu_backend)
    needed = sum(estimate_gpu_memory(plan).values())
    gpu_backend.free_bytes = needed
    assert BackendSelector("gpu").create_backend(plan) is gpu_backend
    gpu_backend.free_bytes = needed - 1
    with pytest.raises(ConfigError, match=r"emulated GPU has .* GB of free memory, stream \S+ takes"):
        BackendSelector("gpu").create_backend(plan)
    with BackendSelector("auto").create_backend(plan) as compute:
        assert compute is not gpu_backend


def test_memory_stays_below_the_estimate_and_does_not_grow(use_gpu):
    """With losses, pulses and blocks that are flagged twice, including memory that kernels allocate."""
    sky = VoltageSky(2.0, 4, rate=1_000_000, centre_mhz=400, pulses=[SkyPulse(at, 20, 2e-3, 30) for at in (0.1, 1.9)])
    tree = VOLTAGE | {"channelise": {"channels": 16}, "detect": {"spectra": 16, "stokes": "IQUV"}}
    plan, recording = record_sky(sky, tree)
    length = plan.samples_per_block
    # The same losses in both halves: weights of incomplete blocks are kept as long as windows reach them.
    lost = [(at * length - 2000, at * length + 9000) for at in (2, 24, 28, 42, 46)]
    lost += [(at * length, (at + 2) * length) for at in (29, 47)]
    recording = replace(recording, gaps=tuple(Gap(*where, Loss.MISSING) for where in sorted(lost)))
    gpu_backend = EmulatedGpuBackend()
    use_gpu(gpu_backend)
    peaks, read = [], windows_until_end(plan, recording)
    with Engine(plan, lambda *_: None, "node", BackendSelector("gpu")) as engine:
        while (raw := engine.window(read)) is not None:
            gpu_backend.device.peak = gpu_backend.device.in_use
            engine.feed(raw, read_ahead=read)
            peaks.append(gpu_backend.device.peak)
        engine.finish()
    full = engine.reducer.history_blocks + engine.reducer.latency_blocks  # blocks that windows reach
    assert len(peaks) > full + 2 * MEASURE_INTERVAL_BLOCKS
    # Rows without their baseline are a copy, which blocks without a baseline do not need.
    copy = 4 * plan.channels * (2048 + plan.rows_per_block)  # the block and the rows before it
    assert max(peaks[full + MEASURE_INTERVAL_BLOCKS :]) <= max(peaks[full : full + MEASURE_INTERVAL_BLOCKS]) + copy
    planned = estimate_gpu_memory(plan)
    assert max(peaks) < sum(planned.values()) - planned["CUDA"]
    assert all(size >= 0 for size in planned.values())


def test_the_memory_pool_is_limited_to_the_estimate(use_gpu):
    plan, _ = power()
    gpu_backend = EmulatedGpuBackend()
    use_gpu(gpu_backend)
    planned = estimate_gpu_memory(plan)
    with BackendSelector("gpu").create_backend(plan):
        assert gpu_backend.device.limit == sum(planned.values()) - planned["CUDA"]
        with pytest.raises(MemoryError):
            gpu_backend.zeros(gpu_backend.device.limit + 1, np.int8)
