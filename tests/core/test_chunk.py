import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefilter.core.chunk import Chunk, Gap, Loss, SampleAccount, clip_gaps, gaps_between


@st.composite
def chunks(draw: st.DrawFn) -> tuple[Chunk, list[Loss | None]]:
    """A chunk and, sample by sample, why it is not there."""
    start = draw(st.integers(-20, 20))
    model = draw(st.lists(st.none() | st.sampled_from(Loss), max_size=60))
    gaps: list[Gap] = []
    for number, loss in enumerate(model, start):
        if loss is None:
            continue
        # Touching gaps of one reason may come joined or not: both are allowed.
        if gaps and gaps[-1].stop == number and gaps[-1].reason is loss and draw(st.booleans()):
            gaps[-1] = Gap(gaps[-1].start, number + 1, loss)
        else:
            gaps.append(Gap(number, number + 1, loss))
    return Chunk(start, np.zeros((len(model), 2), np.uint8), tuple(gaps)), model


@given(chunks(), st.integers(1, 7))
@settings(max_examples=100, deadline=None)
def test_valid_says_where_all_samples_are_there(case: tuple[Chunk, list[Loss | None]], step: int) -> None:
    chunk, model = case
    if len(model) % step:
        with pytest.raises(ValueError, match="multiple"):
            chunk.valid(step)
    else:
        want = [all(loss is None for loss in model[i : i + step]) for i in range(0, len(model), step)]
        assert chunk.valid(step).tolist() == want
    assert chunk.stop == chunk.start + len(model)


@given(chunks(), st.data())
@settings(max_examples=100, deadline=None)
def test_account_counts_the_samples(case: tuple[Chunk, list[Loss | None]], data: st.DataObject) -> None:
    chunk, model = case
    first = data.draw(st.integers(0, len(model)))
    last = data.draw(st.integers(first, len(model)))
    part = model[first:last]
    outside = part.count(Loss.OUTSIDE)
    lost = {reason: part.count(reason) for reason in Loss if reason in part and reason is not Loss.OUTSIDE}
    account = chunk.account(chunk.start + first, chunk.start + last)
    assert account == SampleAccount(len(part) - outside, part.count(None), lost)
    assert account.expected == account.received + sum(account.lost.values())


@given(chunks(), st.integers(-30, 90), st.integers(-30, 90))
@settings(max_examples=100, deadline=None)
def test_clipped_gaps_are_the_same_samples(case: tuple[Chunk, list[Loss | None]], start: int, stop: int) -> None:
    chunk, model = case
    clipped = clip_gaps(chunk.gaps, start, stop)
    found = {number: gap.reason for gap in clipped for number in range(gap.start, gap.stop)}
    assert found == {n: loss for n, loss in enumerate(model, chunk.start) if loss is not None and start <= n < stop}
    assert all(start <= gap.start < gap.stop <= stop for gap in clipped)


@given(st.lists(st.integers(-20, 60), max_size=12, unique=True), st.integers(-30, 70), st.integers(-30, 70))
@settings(max_examples=150, deadline=None)
def test_complement_is_what_is_not_present(edges: list[int], start: int, stop: int) -> None:
    edges = sorted(edges)[: len(edges) // 2 * 2]
    present = list(zip(edges[::2], edges[1::2], strict=True))
    gaps = gaps_between(present, start, stop, Loss.MISSING)
    there = {number for first, last in present for number in range(first, last)}
    missing = [number for gap in gaps for number in range(gap.start, gap.stop)]
    assert missing == [number for number in range(start, stop) if number not in there]
    assert all(gap.reason is Loss.MISSING and gap.start < gap.stop for gap in gaps)
