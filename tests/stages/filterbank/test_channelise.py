from fractions import Fraction

import numpy as np
import pytest

from edgefilter.compute.threads import ThreadBackend
from edgefilter.core.cells import Cells, Flag
from edgefilter.core.chunk import Chunk, Gap, Loss
from edgefilter.core.config import BlockSettings, ChanneliseSettings, DetectSettings, IntegrateSettings, Reduction
from edgefilter.core.errors import ConfigError
from edgefilter.core.plan import Plan, resolve
from edgefilter.core.stream import Encoding, SampleKind, Stream
from edgefilter.stages.filterbank.channelise import Channeliser, input_stage
from edgefilter.stages.filterbank.unpack import Unpacker
from edgefilter_kernels.filterbank.workspace import prototype_filter
from tests.reference.filterbank.pfb import pfb as reference


def plan_of(
    n_pols: int = 2,
    complex_samples: bool = True,
    bits: int = 8,
    encoding: Encoding = Encoding.SIGNED,
    channels: int = 2,
    fine: int = 16,
    taps: int = 4,
    window: str = "hamming",
    stokes: str = "I",
    spectra: int = 6,
    rows: int = 16,
    cells: int = 1,
    step_hz: float = 1e6,
    oversampling: str = "1",
) -> Plan:
    stream = Stream(
        name="test",
        kind=SampleKind.VOLTAGE,
        epoch_tai_ns=0,
        rate=Fraction(1_000_000 if complex_samples else 2_000_000),
        channels=channels,
        first_channel_hz=1.4e9,
        channel_step_hz=step_hz,
        products=("X", "Y")[:n_pols],
        bits=bits,
        encoding=encoding,
        complex_samples=complex_samples,
    )
    settings = Reduction(
        block=BlockSettings(rows=rows),
        channelise=ChanneliseSettings(channels=fine, taps=taps, window=window, oversampling=oversampling),
        detect=DetectSettings(stokes=stokes, spectra=spectra),
        integrate=IntegrateSettings(cells=cells),
    )
    return Plan(stream, resolve(settings, stream))


def raw_of(plan: Plan, block: int = 0, gaps: tuple[Gap, ...] = (), seed: int = 3) -> Chunk:
    """Cut a block, with its history, out of a stream that is the same however it is cut."""
    start, stop = block * plan.samples_per_block - plan.filter_samples, (block + 1) * plan.samples_per_block
    numbers = np.random.default_rng(seed).integers(
        0, 256, (stop + plan.filter_samples, plan.stream.sample_bytes), np.uint8
    )
    if plan.stream.encoding is Encoding.FLOAT:
        numbers = (numbers[:, ::4].astype(np.float32) - 128).view(np.uint8)
    return Chunk(start, np.ascontiguousarray(numbers[start + plan.filter_samples :]), gaps)


def reduce(plan: Plan, raw: Chunk, threads: int = 1) -> Cells:
    with ThreadBackend(threads) as backend:
        return Channeliser(plan, backend).reduce(raw)


def as_bytes(cells: Cells) -> tuple[bytes, ...]:
    assert cells.moment4 is not None
    return tuple(array.tobytes() for array in (cells.power, cells.flags, cells.accumulated, cells.moment4))


def test_cells_are_those_of_the_reference_in_the_plan_s_order_of_channels() -> None:
    plan = plan_of(stokes="IQUV")
    raw = raw_of(plan, block=2)
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
def test_a_tone_lands_at_its_sky_frequency(step_hz: float, complex_samples: bool) -> None:
    plan = plan_of(1, complex_samples, 32, Encoding.FLOAT, channels=1, step_hz=step_hz)
    channel = 11
    # Offset from DC in Hz; a negative step says that the baseband spectrum runs downwards on the sky.
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
        plan_of(),
        plan_of(1, complex_samples=False, bits=4),
        plan_of(bits=32, encoding=Encoding.FLOAT, stokes="IQUV", taps=1, spectra=1),
        plan_of(fine=256, channels=1, spectra=70),
        plan_of(fine=32, oversampling="32/27"),
        plan_of(1, complex_samples=False, oversampling="4/3"),
    ],
    ids=["int8", "real 4 bit", "float", "long cells", "oversampled", "oversampled real"],
)
def test_bits_do_not_depend_on_threads_nor_on_where_time_is_cut(plan: Plan) -> None:
    whole = raw_of(plan, block=1, gaps=(Gap(plan.samples_per_block + 3, plan.samples_per_block + 40, Loss.MISSING),))
    expected = as_bytes(reduce(plan, whole))
    assert as_bytes(reduce(plan, whole, threads=3)) == expected

    # The same stream in blocks twice as long: the second half of block 0 holds the same cells.
    longer = Plan(plan.stream, plan.settings.model_copy(update={"block": BlockSettings(rows=32)}))
    data = np.concatenate([raw_of(plan).data[: plan.samples_per_block], whole.data])
    joined = reduce(longer, Chunk(-plan.filter_samples, data, whole.gaps), threads=2)
    assert joined.moment4 is not None
    half = Cells(
        16, joined.power[16:], joined.flags[16:], joined.products, joined.accumulated[16:], joined.moment4[16:]
    )
    assert as_bytes(half) == expected


def test_cells_with_fewer_than_half_of_their_spectra_are_lost() -> None:
    plan = plan_of(taps=2, spectra=6)
    step, cell = plan.samples_per_spectrum, plan.samples_per_cell
    gaps = (
        Gap(-step, 0, Loss.OUTSIDE),  # takes the first spectrum
        Gap(cell, cell + 2 * step, Loss.MISSING),  # takes 3 of 6
        Gap(2 * cell, 2 * cell + 2 * step + 1, Loss.DAMAGED),  # takes 4 of 6
        Gap(4 * cell - 1, 4 * cell, Loss.MISSING),  # takes the last of one cell and the first of the next
    )
    cells = reduce(plan, raw_of(plan, gaps=gaps))
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
def test_a_spectrum_counts_where_no_gap_touches_its_filter(oversampling: str, seed: int) -> None:
    plan = plan_of(taps=3, spectra=6, oversampling=oversampling)
    random = np.random.default_rng(seed)
    edges = np.sort(random.choice(np.arange(-plan.filter_samples, plan.samples_per_block + 1), 8, replace=False))
    gaps = tuple(Gap(int(a), int(b), Loss.MISSING) for a, b in zip(edges[::2], edges[1::2], strict=True))
    there = np.ones(plan.filter_samples + plan.samples_per_block, np.bool_)
    for gap in gaps:
        there[gap.start + plan.filter_samples : gap.stop + plan.filter_samples] = False
    step, reach = plan.samples_per_spectrum, plan.filter_samples + plan.samples_per_spectrum
    complete = [there[r * step : r * step + reach].all() for r in range(16 * 6)]
    count = np.reshape(complete, (16, 6)).sum(axis=1)
    cells = reduce(plan, raw_of(plan, gaps=gaps))
    np.testing.assert_array_equal(cells.accumulated, np.where(2 * count < 6, 0, count))


def test_a_block_that_is_not_there_is_lost_whole() -> None:
    plan = plan_of()
    raw = raw_of(plan)
    cells = reduce(plan, Chunk(raw.start, raw.data, (Gap(raw.start, raw.stop, Loss.OUTSIDE),)))
    assert (cells.flags == Flag.LOST).all()
    assert not cells.power.any()
    assert not cells.accumulated.any()


@pytest.mark.parametrize("complex_samples", [True, False])
def test_garbage_under_gaps_changes_no_bit(complex_samples: bool) -> None:
    plan = plan_of(2, complex_samples, 32, Encoding.FLOAT)
    raw = raw_of(plan)
    gaps = (Gap(raw.start, 0, Loss.OUTSIDE), Gap(100, 133, Loss.MISSING), Gap(700, 1500, Loss.OVERRUN))
    results = []
    for garbage in (0, 1e38, np.nan, -np.inf):
        data = raw.data.copy()
        for gap in gaps:
            data.view(np.float32)[gap.start - raw.start : gap.stop - raw.start] = garbage
        results.append(as_bytes(reduce(plan, Chunk(raw.start, data, gaps))))
    assert results[1:] == results[:1] * 3


@pytest.mark.parametrize("bad", [np.nan, np.inf, 3e38, 1e12])
def test_numbers_that_are_not_finite_lose_their_cells_and_no_others(bad: float) -> None:
    plan = plan_of(bits=32, encoding=Encoding.FLOAT, taps=1)
    raw = raw_of(plan)
    data = raw.data.copy()
    data.view(np.float32)[2 * plan.samples_per_cell + 5, 1] = bad  # cell 2, raw channel 0, hand X
    clean, cells = reduce(plan, raw), reduce(plan, Chunk(raw.start, data))
    lost = np.zeros((16, plan.channels), np.bool_)
    lost[2, :16] = True
    assert ((cells.flags == Flag.LOST) == lost).all()
    assert cells.moment4 is not None
    assert not cells.power[lost].any()
    assert not cells.moment4[lost].any()
    np.testing.assert_array_equal(cells.power[~lost], clean.power[~lost])


def test_a_chunk_that_is_not_a_block_is_refused() -> None:
    plan = plan_of()
    raw = raw_of(plan)
    with ThreadBackend(1) as backend:
        stage = Channeliser(plan, backend)
        for chunk in (
            Chunk(raw.start + 1, raw.data),
            Chunk(raw.start, raw.data[1:]),
            Chunk(raw.start, raw.data[:, :4]),
        ):
            with pytest.raises(ValueError, match="must be a block"):
                stage.reduce(chunk)


def test_a_filter_that_cannot_be_made_is_a_mistake_of_the_configuration() -> None:
    with ThreadBackend(1) as backend, pytest.raises(ConfigError, match="hann"):
        Channeliser(plan_of(fine=2, taps=1, window="hann"), backend)


def test_front_picks_by_kind() -> None:
    power = Stream("p", SampleKind.POWER, 0, Fraction(1000), 4, 1e9, 1e6, ("I",), 8, Encoding.UNSIGNED)
    with ThreadBackend(1) as backend:
        assert isinstance(input_stage(plan_of(), backend), Channeliser)
        assert isinstance(input_stage(Plan(power, resolve(Reduction(), power)), backend), Unpacker)
