"""Measurement of the signal loss by flagging."""

import numpy as np
import pytest

from edgefilter.compute.threads import ThreadBackend
from edgefilter.core.cells import FLAGGERS, Cells, Flag
from edgefilter.stages.rfi.signal_loss import SIGNAL_SIGMAS, SignalLossMeter
from edgefilter.stages.rfi.stage import FlagStage
from tests.helpers.flag_scenes import power_plan

VOLTAGES = 96
ALL_SIGNALS = {("noise", 0.0)} | {(kind, sigma) for kind in ("pulse", "line") for sigma in SIGNAL_SIGMAS}


def block(seed=1, times=2048, voltages=VOLTAGES):
    power = np.random.default_rng(seed).gamma(VOLTAGES, 1 / VOLTAGES, (times, 256, 1)).astype(np.float32)
    flags = np.zeros(power.shape[:2], np.uint16)
    return Cells(0, power, flags, ("I",), np.full(times, voltages, np.int32))


class UnguardedFlagger:
    """Flags all cells above 5 sigma, without protection of pulses."""

    backend = ThreadBackend(1)

    def flag(self, power, moment4, accumulated, n_pols, flags):
        excess = (power[:, :, :n_pols].sum(axis=2) / n_pols - 1) * np.sqrt(VOLTAGES * n_pols)
        flags[excess > 5] |= np.uint16(Flag.POWER)


def measured(flagger=None, number=0, voltages=VOLTAGES):
    plan = power_plan()
    with ThreadBackend(1) as backend:
        costs = SignalLossMeter(plan, flagger or FlagStage(plan, backend).flagger).measure(
            block(voltages=voltages), number
        )
    return {(cost.flagger, cost.signal, cost.sigma): cost.lost for cost in costs}


def test_the_loss_of_each_signal_by_each_flagger_is_measured():
    assert {key[0] for key in measured()} == {flag.name.lower() for flag in FLAGGERS} | {"all"}
    assert {key[1:] for key in measured()} == ALL_SIGNALS


def test_a_flagger_that_flags_pulses_has_a_high_loss():
    costs = measured(UnguardedFlagger())
    assert costs["power", "pulse", 30.0] > 0.5
    assert costs["power", "line", 30.0] == pytest.approx(1, abs=1e-3)
    assert costs["all", "pulse", 30.0] == costs["power", "pulse", 30.0]
    assert costs["channel", "pulse", 30.0] == 0
    assert costs["power", "pulse", 0.5] < 0.01


def test_the_chain_loses_hardly_any_signal_and_noise():
    costs = measured()
    assert max(costs["all", kind, sigma] for kind, sigma in ALL_SIGNALS - {("noise", 0.0)}) < 0.01
    assert costs["all", "noise", 0.0] < 1e-3


@pytest.mark.parametrize("number", range(4))
def test_noise_of_an_unknown_number_of_voltages_is_hardly_flagged(number):
    """The scatter is measured below the mean, where power scatters less than above."""
    assert measured(number=number, voltages=0)["all", "noise", 0.0] < 1e-3


def test_the_result_follows_from_the_block_and_its_number():
    assert measured(number=3) == measured(number=3)
    assert measured(UnguardedFlagger(), 3) != measured(UnguardedFlagger(), 4)
