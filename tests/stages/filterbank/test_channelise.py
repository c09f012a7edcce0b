from fractions import Fraction

import numpy as np
import pytest

from edgefilter.compute.threads import ThreadBackend
from edgefilter.core.cells import Cells, Flag
from edgefilter.core.chunk import Chunk, Gap, Loss
from edgefilter.core.config import BlockSettings, Reduction
from edgefilter.core.errors import ConfigError
from edgefilter.core.plan import Plan, resolve
from edgefilter.core.stream import Encoding, SampleKind, Stream
from edgefilter.stages.filterbank.channelise import Channeliser, input_stage
from edgefilter.stages.filterbank.unpack import Unpacker
from edgefilter_kernels.filterbank.workspace import prototype_filter
from tests.helpers.voltage_blocks import voltage_block, voltage_plan
from tests.reference.filterbank.pfb import pfb as reference


def reduce(plan: Plan, raw: Chunk, threads: int = 1) -> Cells:
    with ThreadBackend(threads) as backend:
        return Channeliser(plan, backend).reduce(raw)


def as_bytes(cells: Cells) -> tuple[bytes, ...]:
    assert cells.moment4 is not None
    return tuple(array.tobytes() for array in (cells.power, cells.flags, cells.accumulated, cells.moment4))


def test_cells_equal_the_reference_in_the_plan_s_channel_order() -> None:
    plan = voltage_plan(stokes="IQUV")
    raw = voltage_block(plan, block=2)
    cells = reduce(plan, raw)

    values = raw.data.view(np.int8).astype(np.float64).reshape(len(raw.data), 2, 2, 2)
    valid = np.ones(16 * 6, np.bool_)
    filter_ = prototype_filter(16, 4, "hamming", True)
    power, moment4, _ = reference(values[..., 0] + 1j * values[..., 1], filter_, 16, valid, 16)
    assert cells.start == 32
    assert cells.products == ("XX", "YY", "CR", "CI")
    assert cells.power.shape == (16, plan.channels, 4)
    assert (cells.accumulated == 6).all()
    assert not cells.flags.any()
    np.testing.assert_allclose(cells.power, power, rtol=1e-4, atol=1e-4 * power.max())
    np.testing.assert_allclose(cells.moment4, moment4, rtol=1e-4)


@pytest.mark.parametrize("step_hz", [1e6, -1e6])
@pytest.mark.parametrize("complex_samples", [True, False])
def test_a_tone_is_found_at_its_sky_frequency(step_hz: float, complex_samples: bool) -> None:
    plan = voltage_plan(
        n_pols=1, complex_samples=complex_samples, bits=32, encoding=Encoding.FLOAT, channels=1, step_hz=step_hz
    )
    channel = 11
    # Offset from DC in Hz; with a negative step, the baseband spectrum is inverted on the sky.
    offset = (plan.frequencies_mhz[channel] - plan.frequencies_mhz[8 if complex_samples else 0]) * 1e6
    phase = 2 * np.pi * offset * np.sign(step_hz) / float(plan.stream.rate)
    time = np.arange(-plan.filter_samples, plan.samples_per_block)
    tone = np.exp(1j * phase * time).astype(np.complex64) if complex_samples else np.cos(phase * time)
    data = np.ascontiguousarray(tone, np.complex64 if complex_samples else np.float32)[:, None].view(np.uint8)
    cells = reduce(plan, Chunk(-plan.filter_samples, data))
    assert cells.products == ("XX",)
    assert (cells.power[..., 0].argmax(axis=1) == channel).all()


@pytest.mark.parametrize(
    "plan",
    [
        voltage_plan(),
        voltage_plan(n_pols=1, complex_samples=False, bits=4),
        voltage_plan(bits=32, encoding=Encoding.FLOAT, stokes="IQUV", taps=1, spectra=1),
        voltage_plan(fine=256, channels=1, spectra=70),
        voltage_plan(fine=32, oversampling="32/27"),
        voltage_plan(n_pols=1, complex_samples=False, oversampling="4/3"),
    ],
    ids=["int8", "real 4 bit", "float", "long cells", "oversampled", "oversampled real"],
)
def test_bits_do_not_depend_on_threads_or_block_length(plan: Plan) -> None:
    whole = voltage_block(
        plan, block=1, gaps=(Gap(plan.samples_per_block + 3, plan.samples_per_block + 40, Loss.MISSING),)
    )
    expected = as_bytes(reduce(plan, whole))
    assert as_bytes(reduce(plan, whole, threads=3)) == expected

    # The same stream in blocks twice as long: the second half of block 0 has the same cells.
    longer = Plan(plan.stream, plan.settings.model_copy(update={"block": BlockSettings(rows=32)}))
    data = np.concatenate([voltage_block(plan).data[: plan.samples_per_block], whole.data])
    joined = reduce(longer, Chunk(-plan.filter_samples, data, whole.gaps), threads=2)
    assert joined.moment4 is not None
    half = Cells(
        16, joined.power[16:], joined.flags[16:], joined.products, joined.accumulated[16:], joined.moment4[16:]
    )
    assert as_bytes(half) == expected


def test_cells_with_fewer_than_half_of_their_spectra_are_lost() -> None:
    plan = voltage_plan(taps=2, spectra=6)
    step, cell = plan.samples_per_spectrum, plan.samples_per_cell
    gaps = (
        Gap(-step, 0, Loss.OUTSIDE),  # invalidates the first spectrum
        Gap(cell, cell + 2 * step, Loss.MISSING),  # invalidates 3 of 6
        Gap(2 * cell, 2 * cell + 2 * step + 1, Loss.DAMAGED),  # invalidates 4 of 6
        Gap(4 * cell - 1, 4 * cell, Loss.MISSING),  # invalidates the last of one cell and the first of the next
    )
    cells = reduce(plan, voltage_block(plan, gaps=gaps))
    assert cells.accumulated[:6].tolist() == [5, 3, 0, 5, 5, 6]
    lost = np.zeros(16, np.bool_)
    lost[2] = True
    assert ((cells.flags == Flag.LOST) == lost[:, None]).all()
    assert cells.moment4 is not None
    assert not cells.power[2].any()
    assert not cells.moment4[2].any()
    assert (cells.power[~lost] > 0).all()


@pytest.mark.parametrize("oversampling", ["1", "4/3"])
@pytest.mark.parametrize("seed", range(5))
def test_a_spectrum_is_valid_if_no_gap_overlaps_its_filter(oversampling: str, seed: int) -> None:
    plan = voltage_plan(taps=3, spectra=6, oversampling=oversampling)
    random = np.random.default_rng(seed)
    edges = np.sort(random.choice(np.arange(-plan.filter_samples, plan.samples_per_block + 1), 8, replace=False))
    gaps = tuple(Gap(int(a), int(b), Loss.MISSING) for a, b in zip(edges[::2], edges[1::2], strict=True))
    present = np.ones(plan.filter_samples + plan.samples_per_block, np.bool_)
    for gap in gaps:
        present[gap.start + plan.filter_samples : gap.stop + plan.filter_samples] = False
    step, length = plan.samples_per_spectrum, plan.filter_samples + plan.samples_per_spectrum
    complete = [present[r * step : r * step + length].all() for r in range(16 * 6)]
    count = np.reshape(complete, (16, 6)).sum(axis=1)
    cells = reduce(plan, voltage_block(plan, gaps=gaps))
    np.testing.assert_array_equal(cells.accumulated, np.where(2 * count < 6, 0, count))


def test_a_missing_block_is_lost() -> None:
    plan = voltage_plan()
    raw = voltage_block(plan)
    cells = reduce(plan, Chunk(raw.start, raw.data, (Gap(raw.start, raw.stop, Loss.OUTSIDE),)))
    assert (cells.flags == Flag.LOST).all()
    assert not cells.power.any()
    assert not cells.accumulated.any()


@pytest.mark.parametrize("complex_samples", [True, False])
def test_samples_in_gaps_have_no_effect(complex_samples: bool) -> None:
    plan = voltage_plan(complex_samples=complex_samples, bits=32, encoding=Encoding.FLOAT)
    raw = voltage_block(plan)
    gaps = (Gap(raw.start, 0, Loss.OUTSIDE), Gap(100, 133, Loss.MISSING), Gap(700, 1500, Loss.OVERRUN))
    results = []
    for garbage in (0, 1e38, np.nan, -np.inf):
        data = raw.data.copy()
        for gap in gaps:
            data.view(np.float32)[gap.start - raw.start : gap.stop - raw.start] = garbage
        results.append(as_bytes(reduce(plan, Chunk(raw.start, data, gaps))))
    assert results[1:] == results[:1] * 3


@pytest.mark.parametrize("bad", [np.nan, np.inf, 3e38, 1e12])
def test_nan_and_infinity_lose_their_own_cells_only(bad: float) -> None:
    plan = voltage_plan(bits=32, encoding=Encoding.FLOAT, taps=1)
    raw = voltage_block(plan)
    data = raw.data.copy()
    data.view(np.float32)[2 * plan.samples_per_cell + 5, 1] = bad  # cell 2, raw channel 0, polarisation X
    clean, cells = reduce(plan, raw), reduce(plan, Chunk(raw.start, data))
    lost = np.zeros((16, plan.channels), np.bool_)
    lost[2, :16] = True
    assert ((cells.flags == Flag.LOST) == lost).all()
    assert cells.moment4 is not None
    assert not cells.power[lost].any()
    assert not cells.moment4[lost].any()
    np.testing.assert_array_equal(cells.power[~lost], clean.power[~lost])


def test_a_chunk_that_is_not_a_block_is_rejected() -> None:
    plan = voltage_plan()
    raw = voltage_block(plan)
    with ThreadBackend(1) as backend:
        stage = Channeliser(plan, backend)
        for chunk in (
            Chunk(raw.start + 1, raw.data),
            Chunk(raw.start, raw.data[1:]),
            Chunk(raw.start, raw.data[:, :4]),
        ):
            with pytest.raises(ValueError, match="must be a block"):
                stage.reduce(chunk)


def test_a_filter_that_cannot_be_designed_is_a_configuration_error() -> None:
    with ThreadBackend(1) as backend, pytest.raises(ConfigError, match="hann"):
        Channeliser(voltage_plan(fine=2, taps=1, window="hann"), backend)


def test_the_first_stage_depends_on_the_kind_of_samples() -> None:
    power = Stream("p", SampleKind.POWER, 0, Fraction(1000), 4, 1e9, 1e6, ("I",), 8, Encoding.UNSIGNED)
    with ThreadBackend(1) as backend:
        assert isinstance(input_stage(voltage_plan(), backend), Channeliser)
        assert isinstance(input_stage(Plan(power, resolve(Reduction(), power)), backend), Unpacker)
