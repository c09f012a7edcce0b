"""A card or the processor: what is chosen, and what happens where a card fails."""

from dataclasses import replace

import numpy as np
import pytest

from edgefilter.core.chunk import Gap, Loss
from edgefilter.core.errors import CardError, ConfigError
from edgefilter.pipeline import backend
from edgefilter.pipeline.backend import Compute
from edgefilter.pipeline.engine import Engine
from edgefilter.pipeline.gpu_memory import card_memory
from edgefilter.sources.simulated.sky import SkyPulse, VoltageSky
from edgefilter.stages.rfi.signal_loss import EVERY
from tests.helpers.emulator.gpu import EmulatedCard, FailingCard, LostError
from tests.pipeline.test_reducer import VOLTAGE, power, recorded


@pytest.fixture
def emulated(card, monkeypatch):
    if not isinstance(card, EmulatedCard):
        pytest.skip("fails by itself or not at all")
    return lambda made: monkeypatch.setattr(backend, "Card", lambda: made)


def reduce(compute, plan, recording):
    """Products of each block; no block's may be kept twice, and they come in order."""
    kept = {}

    def keep(products, next_block, tally):
        if tally.blocks:
            assert next_block - 1 == len(kept)
            kept[next_block - 1] = {product.name: product.content for product in products}

    def read(start, stop):
        return recording.read(start, stop) if stop - plan.samples_per_block < recording.samples else None

    with Engine(plan, keep, "node", compute) as engine:
        while not engine.ended:
            raw = engine.window(read)
            if raw is None:
                engine.finish()
            else:
                engine.feed(raw, ahead=read)
    return kept


def small():
    """Voltages, of which a card makes other bytes: its transform rounds otherwise."""
    sky = VoltageSky(1.2, 4, rate=1_000_000, centre_mhz=400, pulses=[SkyPulse(0.13, 20, 2e-3, 30)])
    return recorded(sky, VOLTAGE)


def test_auto_goes_on_with_the_processor_where_the_card_fails(emulated):
    plan, recording = small()
    told = []
    emulated(EmulatedCard())
    on_card = reduce(Compute("gpu", 1), plan, recording)
    on_processor = reduce(Compute("cpu", 1), plan, recording)
    fails_at = 6
    emulated(FailingCard(fails_at))
    found = reduce(Compute("auto", 1, lambda *what: told.append(what)), plan, recording)
    assert [what for what, _ in told] == ["gpu", "cpu"]
    first = int(told[1][1].split("from block ")[1].split()[0])
    assert 0 < first <= fails_at
    assert "LostError: cudaErrorDeviceUnavailable: all is lost" in told[1][1]
    # Blocks that the card has made are the card's, all others the processor's, byte for byte.
    assert all(on_card[block] != on_processor[block] for block in (0, max(on_processor)))
    assert found == {block: (on_card if block < first else on_processor)[block] for block in on_processor}


def test_a_card_that_fails_at_the_end_costs_no_block(emulated, monkeypatch):
    plan, recording = small()
    card = EmulatedCard()
    card.failures = (LostError,)
    emulated(card)
    expected = reduce(Compute("cpu", 1), plan, recording)

    class Failing(Engine):
        def finish(self):
            monkeypatch.setattr(card, "get", failing)
            return super().finish()

    def failing(_):
        raise LostError("lost")

    monkeypatch.setitem(globals(), "Engine", Failing)
    assert reduce(Compute("auto", 1), plan, recording).keys() == expected.keys()


def test_gpu_ends_where_the_card_fails(emulated):
    plan, recording = small()
    for compute in (Compute("gpu"), Compute("auto", falls_back=False)):
        emulated(FailingCard(2))
        with pytest.raises(CardError, match="the card has failed: LostError: cudaErrorDevice") as error:
            reduce(compute, plan, recording)
        assert "\n" not in str(error.value)


def test_a_card_that_cannot_be_had(monkeypatch):
    def none():
        raise ConfigError("no card: there is none")

    monkeypatch.setattr(backend, "Card", none)
    plan, _ = power()
    told = []
    with Compute("auto", 2, lambda *what: told.append(what)).workers(plan) as workers:
        assert workers.threads == 2
    assert told == [("cpu", "processor, 2 threads: no card: there is none")]
    with pytest.raises(ConfigError, match=r"^backend gpu: no card: there is none$"):
        Compute("gpu").workers(plan)


def test_a_card_too_small_for_the_stream_is_refused(emulated):
    plan, _ = power()
    card = EmulatedCard()
    emulated(card)
    needed = sum(card_memory(plan).values())
    card.memory = needed
    assert Compute("gpu").workers(plan) is card
    card.memory = needed - 1
    with pytest.raises(ConfigError, match=r"emulated card has .* GB of free memory, stream \S+ takes"):
        Compute("gpu").workers(plan)
    with Compute("auto").workers(plan) as workers:
        assert workers is not card


def test_memory_is_planned_and_does_not_grow(emulated):
    """With losses, pulses, and blocks that are flagged twice: all that is taken, within kernels too."""
    sky = VoltageSky(2.0, 4, rate=1_000_000, centre_mhz=400, pulses=[SkyPulse(at, 20, 2e-3, 30) for at in (0.1, 1.9)])
    tree = VOLTAGE | {"channelise": {"channels": 16}, "detect": {"spectra": 16, "stokes": "IQUV"}}
    plan, recording = recorded(sky, tree)
    length = plan.samples_per_block
    # The same losses in what is compared: shares of blocks that are not whole are kept while windows reach to them.
    lost = [(at * length - 2000, at * length + 9000) for at in (2, 24, 28, 42, 46)]
    lost += [(at * length, (at + 2) * length) for at in (29, 47)]
    recording = replace(recording, gaps=tuple(Gap(*where, Loss.MISSING) for where in sorted(lost)))
    card = EmulatedCard()
    emulated(card)
    most = []

    def read(start, stop):
        return recording.read(start, stop) if stop - length < recording.samples else None

    with Engine(plan, lambda *_: None, "node", Compute("gpu")) as engine:
        while (raw := engine.window(read)) is not None:
            card.device.most = card.device.now
            engine.feed(raw, ahead=read)
            most.append(card.device.most)
        engine.finish()
    full = engine.reducer.history_blocks + engine.reducer.latency_blocks  # of blocks that windows reach to
    assert len(most) > full + 2 * EVERY
    assert max(most[full + EVERY :]) <= max(most[full : full + EVERY])
    planned = card_memory(plan)
    assert max(most) < sum(planned.values()) - planned["CUDA"]
    assert all(size >= 0 for size in planned.values())


def test_a_card_is_held_to_what_was_planned(emulated):
    plan, _ = power()
    card = EmulatedCard()
    emulated(card)
    planned = card_memory(plan)
    with Compute("gpu").workers(plan):
        assert card.device.limit == sum(planned.values()) - planned["CUDA"]
        with pytest.raises(MemoryError):
            card.zeros(card.device.limit + 1, np.int8)
