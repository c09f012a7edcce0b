import numpy as np
import pytest

from edgefilter.core.reduced_block import Rejection
from edgefilter.stages.search.sift import TESTS_PER_CANDIDATE, BlockSifter
from tests.helpers.pulse_sky import make_plan
from tests.helpers.search_events import found_events

PLAN = make_plan(rows=1024, dm=(0, 2000), candidates=50)


class FillsBand:
    """Test of events that fails for those of some bands, and remembers what it has tested."""

    def __init__(self, *failing_bands):
        self.failing_bands = failing_bands
        self.tested = []

    def __call__(self, event):
        self.tested.append(float(event["snr"]))
        return event["band"] not in self.failing_bands


def sift(fills_band, *rows):
    return BlockSifter(PLAN).sift(found_events(*rows), 0, fills_band)


def pulses(sifted):
    return [(row, dm) for row, dm in sifted.table[["row", "dm"]][sifted.table["is_pulse"]].tolist()]


def test_only_events_that_no_pulse_explains_are_tested():
    test = FillsBand()
    ridge = [(500 - step, 300 + step * 2, 2, 20 - abs(step), 0) for step in range(-5, 6)]
    sifted = sift(test, *ridge, (700, 300, 2, 9, 0))
    assert pulses(sifted) == [(500, 300), (700, 300)]
    assert test.tested == [20, 9]


def test_narrow_band_interference_hides_no_pulse():
    interference, pulse = (500, 300, 2, 40, 1), (501, 301, 2, 9, 0)
    assert pulses(sift(FillsBand(), interference, pulse)) == [(500, 300)]
    sifted = sift(FillsBand(1), interference, pulse)
    assert pulses(sifted) == [(501, 301)]
    assert sifted.rejected[Rejection.NARROW_BAND] == 1
    assert len(sifted) == 1


def test_a_weak_pulse_near_a_strong_one_stays():
    # 30 rows later at the same DM; and at the same time, 80 more in DM.
    strong, later, other_dm = (500, 300, 2, 200, 0), (530, 300, 2, 14, 0), (500, 380, 2, 50, 0)
    assert pulses(sift(FillsBand(), strong, later, other_dm)) == [(500, 300), (500, 380), (530, 300)]


@pytest.mark.parametrize(("aside", "fills_band", "doubles"), [(4, False, 2), (9.5, True, 2), (9.5, False, 1)])
def test_a_double_explains_others_if_it_is_near_its_pulse_or_fills_its_band(aside, fills_band, doubles):
    # The pulse explains the second event, and not the third.
    strong, between, weak = (500, 300, 2, 62, 0), (500, 300 + aside, 2, 60, 0), (500, 312.5, 2, 52, 0)
    sifted = sift(lambda event: event["snr"] != 60 or fills_band, strong, between, weak)
    assert len(sifted) == 3
    assert 3 - len(pulses(sifted)) == doubles


def test_the_number_of_tests_is_bounded_and_the_rest_is_counted():
    test = FillsBand(0)
    apart = [(4 * row, 300, 1, 60 - row / 10, 0) for row in range(250)]
    sifted = sift(test, *apart)
    assert len(test.tested) == TESTS_PER_CANDIDATE * 50
    assert sifted.rejected[Rejection.NARROW_BAND] == len(test.tested)
    assert sifted.overflow == 250 - len(test.tested)


def test_the_result_does_not_depend_on_the_block_number():
    rng = np.random.default_rng(3)
    rows = np.column_stack(
        [rng.integers(0, 1024, 90), rng.uniform(20, 60, 90), np.full(90, 4), rng.uniform(7, 40, 90), np.zeros(90)]
    )
    later = rows + np.array([1024 * 4, 0, 0, 0, 0])
    far = BlockSifter(PLAN).sift(found_events(*later), 4, FillsBand())
    assert [(row - 4096, dm) for row, dm in pulses(far)] == pulses(sift(FillsBand(), *rows))
