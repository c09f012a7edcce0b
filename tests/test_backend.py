"""A card or the processor: what is chosen, and what happens where a card fails."""

import numpy as np
import pytest

from edgefilter import backend
from edgefilter.backend import Compute
from edgefilter.card_memory import card_memory
from edgefilter.engine import Engine
from edgefilter.errors import CardError, ConfigError
from edgefilter.sources.synthetic import SkyPulse, VoltageSky
from tests.emulator.card import EmulatedCard, FailingCard, LostError
from tests.test_reducer import VOLTAGE, Recording, power, recorded


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

    with Engine(plan, keep, "node", compute) as engine:
        while not engine.ended:
            if engine.reducer.next_raw * plan.samples_per_block < recording.samples:
                engine.feed(recording.read(*engine.reducer.window(engine.reducer.next_raw)))
            else:
                engine.finish()
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


def test_the_plan_covers_what_the_stages_hold(emulated, monkeypatch):
    """Arrays that the stages ask the card for, at their largest; those within a kernel are not seen here."""
    plan, recording = power()
    card = EmulatedCard()
    emulated(card)
    asked = []
    for name in ("empty", "zeros", "put"):
        make = getattr(EmulatedCard, name)
        monkeypatch.setattr(card, name, lambda *what, make=make: asked.append(make(card, *what)) or asked[-1])
    taken = []
    feed = Recording.read

    def read(self, start, stop):
        taken.append(sum(array.nbytes for array in {id(one): one for one in asked}.values()))
        asked.clear()
        return feed(self, start, stop)

    monkeypatch.setattr(Recording, "read", read)
    reduce(Compute("gpu", 1), plan, recording)
    assert 0 < max(taken) < sum(card_memory(plan).values())
    assert all(np.array(list(card_memory(plan).values())) >= 0)
