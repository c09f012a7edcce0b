import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefilter_kernels.simulation import noise
from tests.reference.simulation import noise as reference

KEYS = st.integers(0, 2**64 - 1)
NUMBERS = st.integers(-(2**63), 2**63)


def draw_samples(key: int, first: int, count: int) -> np.ndarray:
    out = np.empty((count, 4), np.float32)
    noise.draw(out, key, first, noise.normal_table())
    return out


def test_the_hash_is_splitmix64() -> None:
    # First outputs of the published generator from state 1234567, as the Rosetta Code page lists them.
    assert noise.hash_numbers(1234567, 0, 3).tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@given(KEYS, NUMBERS, st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_draw_equals_its_reference_bit_for_bit(key: int, first: int, count: int) -> None:
    np.testing.assert_array_equal(
        draw_samples(key, first, count), reference.draw(key, first, count, noise.normal_table())
    )


@given(KEYS, NUMBERS, st.integers(0, 50), st.integers(0, 50))
@settings(max_examples=30, deadline=None)
def test_draws_do_not_depend_on_where_they_start(key: int, first: int, left: int, right: int) -> None:
    parts = np.concatenate([draw_samples(key, first, left), draw_samples(key, first + left, right)])
    np.testing.assert_array_equal(parts, draw_samples(key, first, left + right))


def test_draws_are_normal_white_and_independent() -> None:
    x = draw_samples(noise.make_key(5, 0), 0, 1 << 20).astype(np.float64)
    n = len(x)
    assert np.abs(x.mean(axis=0)).max() < 5 / np.sqrt(n)
    assert np.abs(x.std(axis=0) - 1).max() < 5 / np.sqrt(2 * n)
    assert np.abs((x**4).mean(axis=0) - 3).max() < 5 * np.sqrt(96 / n)
    assert np.abs(np.corrcoef(x.T) - np.eye(4)).max() < 5 / np.sqrt(n)
    for lag in (1, 2, 3, 1024):
        assert np.abs((x[lag:] * x[:-lag]).mean(axis=0)).max() < 5 / np.sqrt(n - lag)
        assert np.abs((x[lag:] ** 2 - 1) * (x[:-lag] ** 2 - 1)).mean() < 2


def test_sequences_of_one_seed_and_of_neighbouring_seeds_differ() -> None:
    keys = {noise.make_key(seed, use) for seed in (-1, 0, 1, 2**63) for use in range(8)}
    assert len(keys) == 32


@pytest.mark.parametrize("shape", [1.0, 40.0, 1e5])
def test_gamma_table_has_the_skew_of_its_distribution(shape: float) -> None:
    table = noise.gamma_table(shape).astype(np.float64)
    assert table.mean() == pytest.approx(0, abs=1e-6)
    assert table.std() == pytest.approx(1, rel=1e-6)
    assert (table**3).mean() == pytest.approx(2 / np.sqrt(shape), rel=0.02, abs=1e-4)


@given(KEYS, KEYS, st.integers(0, 2**50))
@settings(max_examples=20, deadline=None)
def test_tone_equals_its_reference(phase: int, step: int, chirp_rate: int) -> None:
    out = np.zeros((300, 4), np.float32)
    noise.add_chirp(out, phase, step, chirp_rate, (1.0, 0.25), noise.cosine_table())
    np.testing.assert_allclose(out, reference.tone(300, phase, step, chirp_rate, (1.0, 0.25)), atol=2e-4)


@pytest.mark.parametrize("count", [1, 511, 512, 513, 2000])
def test_filter_rounds_and_clips_its_reference(count: int) -> None:
    samples = draw_samples(1, 0, count + 12)
    taps = draw_samples(2, 0, 4)[:, 0].repeat(4)[:13] / np.float32(2)
    out = np.empty((count, 4), np.int8)
    noise.filter_to_int8(out, samples, taps, 40.0)
    want = reference.filtered(samples, taps, 40.0)
    assert np.abs(out - np.clip(want, -127, 127)).max() < 0.501
    assert count < 500 or (np.abs(want) > 127).any()


@given(st.integers(-40, 40), st.integers(1, 30))
@settings(max_examples=30, deadline=None)
def test_profiles_are_added_where_they_overlap(first: int, rows: int) -> None:
    starts = np.array([0, 3, -7], np.int64)
    profiles = np.arange(1, 16, dtype=np.float32).reshape(3, 5)
    out = np.zeros((rows, 4), np.float32)
    noise.add_channel_profiles(out, first, starts, profiles)
    want = np.zeros((200, 4), np.float32)
    for channel, start in enumerate(starts):
        want[start + 100 : start + 105, channel] = profiles[channel]
    np.testing.assert_array_equal(out, want[first + 100 : first + 100 + rows])


def test_arrays_that_do_not_fit_are_rejected() -> None:
    table, good = noise.normal_table(), np.zeros((8, 4), np.float32)
    with pytest.raises(ValueError, match=r"\(any, 4\)"):
        noise.draw(np.zeros((8, 3), np.float32), 0, 0, table)
    with pytest.raises(ValueError, match="float32"):
        noise.draw(np.zeros((8, 4)), 0, 0, table)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="contiguous"):
        noise.add_chirp(good[::2], 0, 0, 0, (1, 1), table)
    with pytest.raises(ValueError, match="must be"):
        noise.filter_to_int8(np.zeros((8, 4), np.int8), good, np.ones(3, np.float32), 1)
    with pytest.raises(ValueError, match="at least the 5"):
        noise.add_channel_profiles(good, 0, np.zeros(5, np.int64), np.zeros((5, 2), np.float32))
