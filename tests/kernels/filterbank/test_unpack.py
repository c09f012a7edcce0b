import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefilter_kernels.filterbank.unpack import flag_nonfinite, unpack, zero_nonfinite
from tests.helpers.filterbanks import ENCODINGS
from tests.reference.filterbank.unpack import unpack as reference


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(ENCODINGS), st.integers(0, 70), st.integers(0, 2**32 - 1))
def test_every_encoding_equals_the_reference(encoding: tuple[int, str], words: int, seed: int) -> None:
    raw = np.random.default_rng(seed).integers(0, 256, words * 4, np.uint8)
    out = np.empty(raw.size * 8 // encoding[0], np.float32)
    unpack(raw, *encoding, out)
    np.testing.assert_array_equal(out, reference(raw, *encoding))


@pytest.mark.parametrize(
    ("bits", "encoding", "raw", "numbers"),
    [
        (1, "unsigned", [0b00000110], [0, 1, 1, 0, 0, 0, 0, 0]),
        (2, "offset", [0b11100100], [-2, -1, 0, 1]),
        (4, "signed", [0x8F], [-1, -8]),
        (8, "signed", [0x80, 0x7F], [-128, 127]),
        (16, "offset", [0x00, 0x80, 0xFF, 0xFF], [0, 32767]),
        (16, "signed", [0x01, 0x00, 0xFE, 0xFF], [1, -2]),
    ],
)
def test_known_numbers(bits: int, encoding: str, raw: list[int], numbers: list[int]) -> None:
    out = np.empty(len(numbers), np.float32)
    unpack(np.array(raw, np.uint8), bits, encoding, out)
    assert out.tolist() == numbers


def test_unaligned_bytes() -> None:
    raw = np.arange(41, dtype=np.uint8)[1:]
    out = np.empty(20, np.float32)
    unpack(raw, 16, "unsigned", out)
    np.testing.assert_array_equal(out, reference(raw, 16, "unsigned"))


@pytest.mark.parametrize(
    ("raw", "bits", "encoding", "out"),
    [
        (np.zeros(4, np.uint8), 3, "unsigned", np.zeros(4, np.float32)),
        (np.zeros(4, np.uint8), 8, "gray", np.zeros(4, np.float32)),
        (np.zeros(8, np.uint8)[::2], 8, "signed", np.zeros(4, np.float32)),
        (np.zeros(4, np.int8), 8, "signed", np.zeros(4, np.float32)),
        (np.zeros(3, np.uint8), 16, "signed", np.zeros(1, np.float32)),
        (np.zeros(4, np.uint8), 8, "signed", np.zeros(5, np.float32)),
        (np.zeros(4, np.uint8), 8, "signed", np.zeros(4, np.float64)),
    ],
)
def test_arrays_that_do_not_fit_are_rejected(raw: np.ndarray, bits: int, encoding: str, out: np.ndarray) -> None:
    with pytest.raises(ValueError, match="must be"):
        unpack(raw, bits, encoding, out)


def test_a_cell_with_a_nan_or_infinity_is_zeroed_and_flagged() -> None:
    power = np.ones((2, 3, 2), np.float32)
    power[0, 1, 0], power[1, 2, 1] = np.nan, -np.inf
    flags = np.zeros((2, 3), np.uint16)
    zero_nonfinite(power, flags, 1)
    assert flags.tolist() == [[0, 1, 0], [0, 0, 1]]
    np.testing.assert_array_equal(power, np.where(flags == 0, 1, 0)[..., None] * np.ones(2))


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 9), st.integers(1, 40), st.integers(1, 3), st.integers(0, 1000))
def test_cells_with_a_nan_or_infinity_are_flagged_and_not_changed(times, channels, products, seed) -> None:
    rng = np.random.default_rng(seed)
    power = rng.choice(
        np.float32([0, -0.0, 1e-45, 3.4e38, -3.4e38, np.inf, -np.inf, np.nan]), (times, channels, products)
    )
    flags = rng.integers(0, 3, (times, channels)).astype(np.uint16)
    expected, before = np.where(np.isfinite(power).all(axis=2), flags, 7), power.copy()
    flag_nonfinite(power, flags, 7)
    np.testing.assert_array_equal(flags, expected)
    np.testing.assert_array_equal(power, before)


def test_power_that_does_not_fit_the_flags_is_rejected() -> None:
    for power in (np.ones((2, 3, 2)), np.ones((3, 2, 1), np.float32), np.ones((2, 6, 1), np.float32)[:, ::2]):
        with pytest.raises(ValueError, match="do not fit flags"):
            flag_nonfinite(power, np.zeros((2, 3), np.uint16), 1)
