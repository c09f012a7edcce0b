import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefilter.compute.threads import ThreadBackend
from edgefilter.core.cells import Cells, Flag
from edgefilter.core.chunk import Chunk, Gap, Loss
from edgefilter.core.plan import Plan
from edgefilter.core.stream import ALLOWED_PRODUCTS, Encoding
from edgefilter.stages.filterbank.unpack import Unpacker
from tests.helpers.power_blocks import packed_power_plan
from tests.reference.filterbank.unpack import unpack

ENCODINGS = [
    (1, Encoding.UNSIGNED),
    (2, Encoding.UNSIGNED),
    (4, Encoding.UNSIGNED),
    (8, Encoding.UNSIGNED),
    (8, Encoding.SIGNED),
    (16, Encoding.UNSIGNED),
    (32, Encoding.FLOAT),
]


def reduce(plan: Plan, raw: Chunk, threads: int = 1) -> Cells:
    with ThreadBackend(threads) as backend:
        return Unpacker(plan, backend).reduce(raw)


@settings(deadline=None, max_examples=40)
@given(
    encoding=st.sampled_from(ENCODINGS),
    products=st.sampled_from([names for names in ALLOWED_PRODUCTS if names[0] != "X"]),
    channels=st.sampled_from([8, 24]),
    block=st.integers(0, 1000),
    threads=st.integers(1, 3),
    gap=st.tuples(st.integers(0, 32), st.integers(0, 32)),
    seed=st.integers(0, 2**32 - 1),
)
def test_cells_are_the_stream_s_numbers_and_lost_in_gaps(
    encoding: tuple[int, Encoding],
    products: tuple[str, ...],
    channels: int,
    block: int,
    threads: int,
    gap: tuple[int, int],
    seed: int,
) -> None:
    plan = packed_power_plan(*encoding, products, channels)
    data = np.random.default_rng(seed).integers(0, 256, (32, plan.stream.sample_bytes), np.uint8)
    first, last = sorted(gap)
    gaps = (Gap(block * 32 + first, block * 32 + last, Loss.OUTSIDE),) if last > first else ()
    cells = reduce(plan, Chunk(block * 32, data, gaps), threads)

    expected = unpack(data, *encoding).reshape(32, channels, len(products))
    lost = ~np.isfinite(expected).all(axis=2)
    lost[first:last] = True
    assert cells.start == block * 32
    assert cells.products == products
    assert cells.moment4 is None
    assert not cells.accumulated.any()
    assert len(cells.accumulated) == 32
    np.testing.assert_array_equal(cells.flags, np.where(lost, Flag.LOST, 0))
    np.testing.assert_array_equal(cells.power, np.where(lost[..., None], 0, expected))


def test_a_chunk_that_is_not_a_block_is_rejected() -> None:
    plan = packed_power_plan(8, Encoding.UNSIGNED)
    data = np.zeros((32, 8), np.uint8)
    for chunk in (Chunk(1, data), Chunk(0, data[:-1]), Chunk(0, data[:, :4])):
        with pytest.raises(ValueError, match="must be a block"):
            reduce(plan, chunk)
