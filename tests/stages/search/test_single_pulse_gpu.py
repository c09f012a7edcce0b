"""The search on a card against the search on the CPU."""

import numpy as np
import pytest

from edgefilter.compute.threads import Workers
from edgefilter.stages.search import single_pulse as on_cpu
from edgefilter.stages.search import single_pulse_gpu
from edgefilter.stages.search.normalise import Whiten
from edgefilter.stages.search.normalise_gpu import CardWhiten
from edgefilter.stages.search.single_pulse import Search
from edgefilter.stages.search.single_pulse_gpu import GUARD, CardSearch, FamilyOnCard
from tests.helpers.pulse_sky import add_pulse, around, make_plan, noise


def whitened(whiten, plan, sky):
    rows = plan.rows_per_block
    return [
        whiten.reduce(type(sky).join([sky], k * rows - whiten.history, (k + 1) * rows, sky))
        for k in range(-(-sky.stop // rows))
    ]


@pytest.mark.parametrize("lost", [0.0, 0.1])
@pytest.mark.parametrize(("channels", "rows", "dm", "block"), [(32, 256, 200, 12), (50, 512, 3000, 6)])
def test_events_are_those_of_the_cpu(card, lost, channels, rows, dm, block):
    plan = make_plan(channels, rows=rows, dm=(0, dm), snr=5)
    sky = noise(plan, 16 * rows, 1)
    rng = np.random.default_rng(1)
    if lost:
        sky.weight[rng.random(sky.weight.shape) < lost] = 0
        sky.weight[block * rows + 40 : block * rows + 90] = 0
    for row, width in ((30, 2), (200, 8)):
        add_pulse(plan, sky, block * rows + row, dm / 2, width, 25)
    with Workers(1) as workers:
        there, here = Search(plan, workers), CardSearch(plan, card)
        blocks = whitened(Whiten(plan, workers), plan, sky)
        expected = there.reduce(around(plan, there, blocks, block), block)
        blocks = whitened(CardWhiten(plan, card), plan, sky)
        near = around(plan, here, blocks, block)
        # Twice, because tables are kept.
        for found in (here.reduce(near, block), here.reduce(near, block)):
            assert len(found) > 50
            assert (abs(expected.snr / 5 - 1) > GUARD).all()  # none lies in the guard band, by the choice of seeds
            # Events of nearly the same S/N may change places.
            order, other = (np.lexsort((one.band, one.width_rows, one.dm, one.row)) for one in (found, expected))
            for name in ("row", "dm", "dm_step", "width_rows", "band"):
                np.testing.assert_array_equal(getattr(found, name)[order], getattr(expected, name)[other])
                assert getattr(found, name).dtype == getattr(expected, name).dtype
            np.testing.assert_allclose(found.snr[order], expected.snr[other], rtol=GUARD)
    assert found.guarded == 0
    assert len(here._families) < len(there._families)  # more at a time


def test_more_trials_than_a_launch_can_take_are_searched_in_several(card, monkeypatch):
    plan = make_plan(32, rows=256, dm=(0, 200), snr=5)
    sky = noise(plan, 4096, 1)
    add_pulse(plan, sky, 12 * 256 + 30, 100, 2, 25)
    blocks = whitened(CardWhiten(plan, card), plan, sky)
    found, families = [], []
    for most in (single_pulse_gpu._MOST_TRIALS, 1):
        monkeypatch.setattr(single_pulse_gpu, "_MOST_TRIALS", most)
        stage = CardSearch(plan, card)
        found.append(stage.reduce(around(plan, stage, blocks, 12), 12))
        families.append(len(stage._families))
    assert families[0] < families[1]
    for name in ("row", "dm", "snr"):
        np.testing.assert_array_equal(getattr(found[0], name), getattr(found[1], name))


def test_a_decision_near_the_threshold_is_counted(card):
    plan = make_plan(32, rows=256, dm=(0, 200), snr=5)
    sky = noise(plan, 4096, 1)
    add_pulse(plan, sky, 12 * 256 + 30, 100, 2, 25)
    blocks = whitened(CardWhiten(plan, card), plan, sky)

    def search(snr):
        plan = make_plan(32, rows=256, dm=(0, 200), snr=snr)
        stage = CardSearch(plan, card)
        found = stage.reduce(around(plan, stage, blocks, 12), 12)
        return found, found.guarded

    events, guarded = search(5.0)
    assert guarded == 0
    weakest = float(events.snr[5])
    for threshold, number in ((weakest * (1 - GUARD / 2), 6), (weakest * (1 + GUARD / 2), 5)):
        events, guarded = search(threshold)
        assert len(events) == number
        assert guarded == 1


def test_a_breadth_near_its_limit_is_counted(card, monkeypatch):
    plan = make_plan(32, rows=256, dm=(0, 200), snr=5)
    sky = noise(plan, 4096, 1)
    add_pulse(plan, sky, 12 * 256 + 30, 100, 2, 25)
    blocks = whitened(CardWhiten(plan, card), plan, sky)
    stage, kept = CardSearch(plan, card), []
    search = FamilyOnCard.search
    monkeypatch.setattr(FamilyOnCard, "search", lambda *given: kept.append(search(*given)) or kept[-1])

    def events(least):
        monkeypatch.setattr(on_cpu, "_LEAST_LEFT", least)
        found = stage.reduce(around(plan, stage, blocks, 12), 12)
        return len(found), found.guarded

    number, guarded = events(0.25)
    assert guarded == 0
    left = np.concatenate([peaks.left[peaks.time < peaks.time.max() - 32] for peaks in kept])
    narrowest = left[left >= 0.25].min()
    assert events(narrowest - GUARD / 2) == (number, 1)
    assert events(narrowest + GUARD / 2) == (number - 1, 1)


def test_blocks_without_data_have_no_events(card):
    plan = make_plan(32, rows=256, dm=(0, 200))
    search = CardSearch(plan, card)
    sky = noise(plan, 256, 1)
    sky.weight[:] = 0
    near = around(plan, search, whitened(CardWhiten(plan, card), plan, sky), 0)
    assert len(search.reduce(near, 0)) == 0


def test_tracks_that_leave_the_window_are_refused(card):
    plan = make_plan(32, rows=256, dm=(0, 200))
    search = CardSearch(plan, card)
    with pytest.raises(ValueError, match="the window has 256"):
        FamilyOnCard(search._families[0], search._tree, 256, 256, card)
