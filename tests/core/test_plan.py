from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefilter.core.config import (
    BlockSettings,
    ChanneliseSettings,
    DetectSettings,
    FlagSettings,
    IntegrateSettings,
    PulseSettings,
    Reduction,
    ReductionSection,
)
from edgefilter.core.errors import ConfigError
from edgefilter.core.plan import Plan, dispersion_delay, resolve
from edgefilter.core.stream import Encoding, SampleKind, Stream

VOLTAGE = Stream(
    name="v",
    kind=SampleKind.VOLTAGE,
    epoch_tai_ns=0,
    rate=Fraction(16_000_000),
    channels=1,
    first_channel_hz=600e6,
    channel_step_hz=16e6,
    products=("X", "Y"),
    bits=8,
    encoding=Encoding.SIGNED,
    complex_samples=True,
)
POWER = Stream(
    name="p",
    kind=SampleKind.POWER,
    epoch_tai_ns=0,
    rate=Fraction(1000),
    channels=256,
    first_channel_hz=1499.5e6,
    channel_step_hz=-1e6,
    products=("I",),
    bits=8,
    encoding=Encoding.UNSIGNED,
)
EXPLICIT = Reduction(
    block=BlockSettings(rows=64),
    channelise=ChanneliseSettings(channels=256, taps=4),
    detect=DetectSettings(spectra=32),
    integrate=IntegrateSettings(cells=2),
    pulses=PulseSettings(dm=(0.0, 100.0)),
)


def test_sizes_follow_from_the_settings() -> None:
    plan = Plan(VOLTAGE, resolve(EXPLICIT, VOLTAGE))
    assert plan.settings == EXPLICIT
    assert plan.samples_per_spectrum == 256
    assert plan.samples_per_cell == 256 * 32
    assert plan.samples_per_row == 256 * 32 * 2
    assert plan.samples_per_block == 256 * 32 * 2 * 64
    assert plan.cells_per_block == 128
    assert plan.filter_samples == 3 * 256
    assert plan.row_seconds == pytest.approx(1.024e-3)
    assert plan.block_seconds == pytest.approx(65.536e-3)
    assert plan.dm_range == (0.0, 100.0)
    assert [plan.block_of_sample(n) for n in (0, plan.samples_per_block - 1, plan.samples_per_block)] == [0, 0, 1]


def test_real_voltages_take_twice_the_samples() -> None:
    real = replace(VOLTAGE, complex_samples=False, rate=Fraction(32_000_000))
    plan = Plan(real, resolve(EXPLICIT, real))
    assert plan.samples_per_spectrum == 512
    assert plan.row_seconds == pytest.approx(1.024e-3)


@pytest.mark.parametrize(("oversampling", "hop"), [("4/3", 192), ("32/27", 216)])
def test_oversampled_spectra_overlap(oversampling: str, hop: int) -> None:
    channelise = EXPLICIT.channelise.model_copy(update={"oversampling": oversampling})
    plan = Plan(VOLTAGE, resolve(EXPLICIT.model_copy(update={"channelise": channelise}), VOLTAGE))
    usual = Plan(VOLTAGE, resolve(EXPLICIT, VOLTAGE))
    taps = EXPLICIT.channelise.taps
    assert (plan.samples_per_tap, plan.samples_per_spectrum) == (256, hop)
    assert plan.filter_samples == taps * 256 - hop
    assert plan.samples_per_block == hop * plan.spectra_per_cell * plan.cells_per_row * plan.rows_per_block
    np.testing.assert_array_equal(plan.frequencies_mhz, usual.frequencies_mhz)
    # The centre of a filter lies so much before the centre of the samples that its spectrum adds.
    assert plan.sample_of_row(4) == 4 * plan.samples_per_row - plan.filter_samples // 2


def test_oversampling_needs_channels_enough() -> None:
    with pytest.raises(ConfigError, match=r"oversampling is 32/27: it takes at least 32 channels"):
        resolve(Reduction(channelise=ChanneliseSettings(channels=16, oversampling="32/27")), VOLTAGE)


def test_power_is_already_cells() -> None:
    plan = Plan(POWER, resolve(EXPLICIT, POWER))
    assert (plan.channels, plan.samples_per_cell, plan.samples_per_row, plan.filter_samples) == (256, 1, 2, 0)
    np.testing.assert_allclose(plan.frequencies_mhz, 1499.5 - np.arange(256))
    assert plan.band_mhz == pytest.approx((1244.0, 1500.0))


def test_frequencies_of_fine_channels() -> None:
    settings_ = Reduction(channelise=ChanneliseSettings(channels=4))
    up = Plan(VOLTAGE, resolve(settings_, VOLTAGE))
    np.testing.assert_allclose(up.frequencies_mhz, [592, 596, 600, 604])
    two = replace(VOLTAGE, channels=2, first_channel_hz=608e6, channel_step_hz=-16e6)
    down = Plan(two, resolve(settings_, two))
    np.testing.assert_allclose(down.frequencies_mhz, [616, 612, 608, 604, 600, 596, 592, 588])


@given(
    st.sampled_from([VOLTAGE, POWER, replace(VOLTAGE, complex_samples=False), replace(POWER, rate=Fraction(1, 7))]),
    st.none() | st.integers(1, 10**10),
    st.none() | st.sampled_from([2, 64, 4096]),
    st.none() | st.integers(1, 4096),
    st.none() | st.integers(1, 500),
)
@settings(max_examples=100, deadline=None)
def test_resolving_is_complete_and_idempotent(
    stream: Stream, samples: int | None, channels: int | None, spectra: int | None, cells: int | None
) -> None:
    wanted = Reduction(
        channelise=ChanneliseSettings(channels=channels),
        detect=DetectSettings(spectra=spectra),
        integrate=IntegrateSettings(cells=cells),
    )
    once = resolve(wanted, stream, samples)
    assert "null" not in once.canonical()
    assert resolve(once, stream, samples) == once
    assert resolve(once, stream) == once
    assert channels is None or once.channelise.channels in (channels, 1)
    assert cells is None or once.integrate.cells == cells
    # A resolved reduction must be writable and readable as a file is.
    assert Reduction.model_validate(once.model_dump()) == once


def test_short_recordings_get_no_dm_that_they_cannot_show() -> None:
    plan = Plan(POWER, resolve(Reduction(), POWER, 500))
    middle, top = 1372.0, 1499.5
    assert dispersion_delay(plan.dm_range[1], middle, top) == pytest.approx(0.5, rel=1e-2)
    assert Plan(POWER, resolve(Reduction(), POWER)).dm_range == (0.0, 3000.0)


def test_delay_is_that_of_the_plasma() -> None:
    # 4.149 ms times DM times the difference of f in GHz to the power -2.
    assert dispersion_delay(100.0, 1000.0, np.inf) == pytest.approx(0.41494, rel=1e-4)
    assert dispersion_delay(0.0, 400.0, 800.0) == 0
    plan = Plan(POWER, resolve(EXPLICIT, POWER))
    sweep = dispersion_delay(100.0, 1244.5, 1499.5)
    assert plan.sweep_rows(100.0) == np.ceil(sweep / 2e-3)


@pytest.mark.parametrize("band", [(100.0, 1244.0), (1500.0, 1600.0), (1500.5, 1501.0)])
def test_a_mask_outside_the_band_is_refused(band: tuple[float, float]) -> None:
    settings_ = Reduction(flag=FlagSettings(mask=(band,)))
    with pytest.raises(ConfigError, match=r"flag\.mask \[.*outside the band, 1244\.000 to 1500\.000 MHz"):
        resolve(settings_, POWER)


def test_a_mask_that_reaches_into_the_band_is_accepted() -> None:
    settings_ = Reduction(flag=FlagSettings(mask=((1200.0, 1250.0), (1300.0, 1301.0), (1499.0, 1700.0))))
    assert resolve(settings_, POWER).flag == settings_.flag


@pytest.mark.parametrize("stream", [POWER, replace(VOLTAGE, products=("X",))])
def test_full_stokes_needs_two_hands(stream: Stream) -> None:
    with pytest.raises(ConfigError, match=r"detect\.stokes is IQUV"):
        resolve(Reduction(detect=DetectSettings(stokes="IQUV")), stream)


def test_one_channel_is_no_channeliser() -> None:
    with pytest.raises(ConfigError, match=r"channelise\.channels is 1"):
        resolve(Reduction(channelise=ChanneliseSettings(channels=1)), VOLTAGE)


def test_an_unresolved_plan_says_so() -> None:
    with pytest.raises(ConfigError, match="not resolved"):
        _ = Plan(VOLTAGE, Reduction()).channels


def test_a_row_names_the_sample_at_its_time() -> None:
    plan = Plan(VOLTAGE, resolve(EXPLICIT, VOLTAGE))
    assert plan.sample_of_row(0) == 0
    assert plan.sample_of_row(Fraction(3, 2)) == plan.samples_per_row * 3 // 2 - 384
    power = Plan(POWER, resolve(EXPLICIT, POWER))
    assert power.sample_of_row(5) == 10


class ExtraSection(ReductionSection):
    level: int = 1


class WithExtra(Reduction):
    extra: ExtraSection = ExtraSection()


def test_a_section_that_resolving_does_not_know_stays_as_it_is() -> None:
    resolved = resolve(WithExtra(extra=ExtraSection(level=5)), POWER)
    assert isinstance(resolved, WithExtra)
    assert resolved.extra.level == 5
