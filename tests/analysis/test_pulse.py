"""A pulse: its cut-out with units, dedispersion, the arrays of its diagnostic figure."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefilter.analysis.plots.pulse_diagnostic import (
    delay_rows_per_dm,
    diagnose,
    dm_snr,
    normalise_channels,
    shift_channels,
)
from edgefilter.core.errors import StoreError
from tests.helpers.pulse_cutout import DM, FIRST_ROW, make_cutout


def test_a_cutout_has_coordinates_with_units_and_nan_for_unused_cells(run):
    pulse = run.pulses[0]
    shown, product = pulse.cutout, pulse.product
    assert shown.dims == ("time", "stokes", "frequency")
    assert shown["frequency"].attrs["units"] == "MHz"
    np.testing.assert_array_equal(np.isnan(shown.values[:, 0]), product.mask > 0)
    np.testing.assert_allclose(shown["time"], product.seconds + product.row_seconds / 2)
    # The peak of the top channels is at the pulse's time.
    top = shown.isel(stokes=0, frequency=slice(0, 16)).mean("frequency", skipna=False)
    assert abs(float(top["time"][int(top.argmax("time"))]) - pulse.seconds) < 0.01
    arrival = np.datetime64(pulse.time.isot)
    nearest = shown["utc"].values[int(np.abs(shown["time"].values - pulse.seconds).argmin())]
    assert abs(nearest - arrival) < np.timedelta64(2, "ms")


def test_dedispersion_aligns_the_pulse_in_time(run):
    pulse = run.pulses[0]
    flat = pulse.dedisperse(normalise=True).isel(stokes=0)
    profile = flat.mean("frequency")
    assert abs(float(profile["time"][int(profile.argmax("time"))]) - pulse.seconds) < 0.003
    smeared = pulse.dedisperse(0.0, normalise=True).isel(stokes=0).mean("frequency")
    assert float(profile.max()) > 1.5 * float(smeared.max())
    assert flat.attrs["dm"] == pulse.dm
    raw = pulse.dedisperse()
    assert raw.dims == ("time", "stokes", "frequency")
    top = int(np.argmax(raw["frequency"].values))
    np.testing.assert_array_equal(raw[:, 0, top], pulse.cutout[:, 0, top])
    with pytest.raises(StoreError, match="dm is -1"):
        pulse.dedisperse(-1.0)


@given(delays=st.lists(st.integers(-20, 20), min_size=1, max_size=6), start=st.integers(-10, 10))
@settings(max_examples=30)
def test_each_channel_is_shifted_by_its_delay(delays, start):
    values = np.random.default_rng(1).normal(size=(len(delays), 12))
    moved = shift_channels(values, start, np.array(delays), 9, np.nan)
    for c, delay in enumerate(delays):
        for t in range(9):
            at = start + delay + t
            expected = values[c, at] if 0 <= at < 12 else np.nan
            np.testing.assert_equal(moved[c, t], expected)


@pytest.mark.parametrize("rising", [False, True])
def test_the_diagnostic_shows_the_pulse_where_it_is(rising):
    shown = diagnose(make_cutout(rising=rising))
    assert shown.snr == pytest.approx(30, rel=0.12)
    assert abs(shown.times_ms[np.nanargmax(shown.profile)]) <= 2
    trial, time = np.unravel_index(np.nanargmax(shown.bow_tie), shown.bow_tie.shape)
    assert abs(shown.trial_dm[trial] - DM) < 2
    assert abs(shown.trial_times_ms[time]) <= 2
    assert shown.bow_tie.max() == pytest.approx(shown.snr, rel=0.1)
    assert np.all(np.diff(shown.frequencies_mhz) > 0)
    assert np.all(np.diff(shown.channels_mhz) > 0)
    # Noise elsewhere has unit variance.
    quiet = shown.dynamic[:, np.abs(shown.times_ms) > 8]
    assert np.nanstd(quiet) == pytest.approx(1, abs=0.08)


def test_channel_order_does_not_matter():
    one, two = make_cutout(), make_cutout()
    flipped = replace(
        two, data=np.ascontiguousarray(two.data[..., ::-1]), mask=two.mask[:, ::-1].copy(),
        first_channel_mhz=float(two.frequencies_mhz[-1]), channel_mhz=-two.channel_mhz,
    )  # fmt: skip
    for name in ("dynamic", "profile", "spectrum", "bow_tie", "channels_mhz", "unused"):
        np.testing.assert_allclose(getattr(diagnose(one), name), getattr(diagnose(flipped), name), atol=2e-5)


def test_flagged_channels_are_marked_and_do_not_count():
    shown = diagnose(make_cutout(mask=slice(10, 20)), subbands=64)
    assert shown.unused[::-1][10:20].min() == 1
    assert shown.unused[::-1][:10].max() == 0
    assert np.isnan(shown.dynamic[::-1][10:20]).all()
    assert np.isnan(shown.spectrum[::-1][10:20]).all()
    assert shown.snr == pytest.approx(30 * np.sqrt(54 / 64), rel=0.12)


def test_a_pulse_found_in_part_of_the_band_is_measured_there():
    whole, part = diagnose(make_cutout()), diagnose(make_cutout(freq_low=1300.0, freq_high=1400.0))
    assert part.snr == pytest.approx(whole.snr / np.sqrt(2), rel=0.15)
    assert part.dynamic.shape[0] <= 64
    assert part.band_mhz == whole.band_mhz


def test_another_dm_smears_the_profile_and_is_named_in_the_diagnostic():
    shown = diagnose(make_cutout(), dm=100.0)
    assert shown.dm == 100
    assert np.nanmax(shown.profile) < 0.6 * np.nanmax(diagnose(make_cutout()).profile)
    with pytest.raises(StoreError, match="dm is nan"):
        diagnose(make_cutout(), dm=float("nan"))
    with pytest.raises(StoreError, match="subbands is 0, must be 1 to 64"):
        diagnose(make_cutout(), subbands=0)


def test_unknown_frequencies_have_no_bow_tie():
    cutout = replace(make_cutout(), first_channel_mhz=0.0, channel_mhz=1.0)
    shown = diagnose(cutout)
    assert shown.bow_tie.shape[0] == 0
    assert not delay_rows_per_dm(cutout).any()


def test_a_pulse_that_ends_after_its_cutout_is_diagnosed_from_the_part_inside():
    whole = make_cutout()
    cut = replace(whole, data=whole.data[: FIRST_ROW + 20].copy(), mask=whole.mask[: FIRST_ROW + 20].copy())
    shown = diagnose(cut)
    assert np.isnan(shown.dynamic[0]).any()
    assert 5 < shown.snr < 30


def test_the_diagnostic_of_a_fully_flagged_cutout_is_nan():
    shown = diagnose(make_cutout(mask=slice(None)))
    assert np.isnan(shown.snr)
    assert np.isnan(shown.dynamic).all()
    assert (shown.unused == 1).all()
    assert np.isnan(dm_snr(make_cutout(mask=slice(None)), np.array([1.0, 2.0]))).all()


def test_snr_peaks_at_the_true_dm():
    dms = np.linspace(30, 70, 41)
    assert abs(dms[np.argmax(dm_snr(make_cutout(), dms))] - DM) <= 2


def test_normalisation_ignores_flagged_channels():
    value, weights = normalise_channels(make_cutout(mask=slice(0, 3)))
    assert not value[:3].any()
    assert not weights[:3].any()
    assert weights[3:].all()
    assert value[3:, :FIRST_ROW].std() == pytest.approx(1, abs=0.05)


def test_an_id_identifies_one_pulse(run):
    pulses = run.pulses
    assert run.pulse(pulses[1].id).row == pulses[1].row
    assert run.pulse(pulses[1].id[:-3]).row == pulses[1].row
    assert [pulse.id for pulse in pulses[1:]] == [pulses[1].id, pulses[2].id]
    assert pulses[-1].snr == min(pulse.snr for pulse in pulses)
    with pytest.raises(StoreError, match=r"'sky-' is the beginning of 3 pulses"):
        run.pulse("sky-")
    with pytest.raises(StoreError, match="'nothing' is not one of the 3 pulses"):
        run.pulse("nothing")


def test_a_pulse_without_cutout_raises_an_error(run):
    pulse = replace(run.pulses[0], row=replace(run.pulses[0].row, cutout=""))
    with pytest.raises(StoreError, match="has no cut-out"):
        _ = pulse.cutout
