"""A pulse: its cut-out in real units, dedispersion, the numbers of its picture."""

from dataclasses import replace
from fractions import Fraction

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
from edgefilter.core.plan import dispersion_delay
from edgefilter.products.base import Provenance
from edgefilter.products.cutout import Cutout
from edgefilter.products.pulses import PulseRow

DM, ROW, WIDTH, AT = 50.0, 1e-3, 4, 60


def make_cutout(
    channels: int = 64, rising: bool = False, mask: slice | None = None, snr: float = 30.0, **pulse
) -> Cutout:
    """Noise and one pulse of known track, which begins at row AT at the top of the band."""
    step = (1 if rising else -1) * 200.0 / channels
    first = 1200.0 if rising else 1400.0
    frequencies = first + step * np.arange(channels)
    rng = np.random.default_rng(7)
    power = rng.normal(100, 5, (256, channels))
    for c, frequency in enumerate(frequencies):
        start = AT + round(dispersion_delay(DM, frequency, frequencies.max()) / ROW)
        power[start : start + WIDTH, c] += 5 * snr / np.sqrt(WIDTH * channels)
    flags = np.zeros((256, channels), np.uint8)
    if mask is not None:
        flags[:, mask] = 1
        power[:, mask] = 0
    seconds = 10 + (AT + WIDTH / 2) * ROW
    row = PulseRow(0, seconds, seconds - 0.1, 0, DM, 1.0, WIDTH * ROW, snr, 1190.0, 1410.0, 5, 0.0, "")
    return Cutout(
        power[:, None].astype(np.float32), flags, ("I",), 10_000, 10_000_000_000, Fraction(1000), 1, first, step,
        replace(row, **pulse), Provenance("sky-00000000", "0" * 16, "0"), 0,
    )  # fmt: skip


def test_a_cutout_has_real_coordinates_and_nan_where_nothing_is_known(run):
    pulse = run.pulses[0]
    shown, product = pulse.cutout, pulse.product
    assert shown.dims == ("time", "stokes", "frequency")
    assert shown["frequency"].attrs["units"] == "MHz"
    np.testing.assert_array_equal(np.isnan(shown.values[:, 0]), product.mask > 0)
    np.testing.assert_allclose(shown["time"], product.seconds + product.row_seconds / 2)
    # The peak of the top channels is at the pulse's time.
    top = shown.isel(stokes=0, frequency=slice(0, 16)).mean("frequency")
    assert abs(float(top["time"][int(top.argmax("time"))]) - pulse.seconds) < 0.01
    arrival = np.datetime64(pulse.time.isot)
    nearest = shown["utc"].values[int(np.abs(shown["time"].values - pulse.seconds).argmin())]
    assert abs(nearest - arrival) < np.timedelta64(2, "ms")


def test_dedispersion_lines_the_pulse_up(run):
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
def test_shifting_takes_each_channel_along_its_delay(delays, start):
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


def test_another_dm_smears_the_profile_and_is_said():
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


def test_a_cutout_whose_pulse_runs_off_its_end_is_shown_as_far_as_it_goes():
    whole = make_cutout()
    cut = replace(whole, data=whole.data[: AT + 20].copy(), mask=whole.mask[: AT + 20].copy())
    shown = diagnose(cut)
    assert np.isnan(shown.dynamic[0]).any()
    assert 5 < shown.snr < 30


def test_a_cutout_of_which_nothing_is_known_is_shown_empty():
    shown = diagnose(make_cutout(mask=slice(None)))
    assert np.isnan(shown.snr)
    assert np.isnan(shown.dynamic).all()
    assert (shown.unused == 1).all()
    assert np.isnan(dm_snr(make_cutout(mask=slice(None)), np.array([1.0, 2.0]))).all()


def test_snr_peaks_at_the_true_dm():
    dms = np.linspace(30, 70, 41)
    assert abs(dms[np.argmax(dm_snr(make_cutout(), dms))] - DM) <= 2


def test_whitening_leaves_out_what_is_not_used():
    value, weights = normalise_channels(make_cutout(mask=slice(0, 3)))
    assert not value[:3].any()
    assert not weights[:3].any()
    assert weights[3:].all()
    assert value[3:, :AT].std() == pytest.approx(1, abs=0.05)


def test_an_id_names_one_pulse(run):
    pulses = run.pulses
    assert run.pulse(pulses[1].id).row == pulses[1].row
    assert run.pulse(pulses[1].id[:-3]).row == pulses[1].row
    assert [pulse.id for pulse in pulses[1:]] == [pulses[1].id, pulses[2].id]
    assert pulses[-1].snr == min(pulse.snr for pulse in pulses)
    with pytest.raises(StoreError, match=r"'sky-' is the beginning of 3 pulses"):
        run.pulse("sky-")
    with pytest.raises(StoreError, match="'nothing' is not one of the 3 pulses"):
        run.pulse("nothing")


def test_a_pulse_without_cutout_says_so(run):
    pulse = replace(run.pulses[0], row=replace(run.pulses[0].row, cutout=""))
    with pytest.raises(StoreError, match="has no cut-out"):
        _ = pulse.cutout
