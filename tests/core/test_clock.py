from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefilter.core import clock

# TAI - UTC at 1970-01-01 was 8.000082 s in the pre-1972 UTC; from 1972 on it is whole seconds (IERS Bulletin C).
TAI_MINUS_UTC = {"1972-01-01": 10, "1999-01-01": 32, "2006-01-01": 33, "2017-01-01": 37, "2026-01-01": 37}
DAYS = {"1972-01-01": 730, "1999-01-01": 10592, "2006-01-01": 13149, "2017-01-01": 17167, "2026-01-01": 20454}
MODERN = st.integers(70_000_000 * clock.NS, 4_000_000_000 * clock.NS)


@pytest.mark.parametrize("date", TAI_MINUS_UTC)
def test_tai_is_utc_and_the_leap_seconds(date: str) -> None:
    want = (DAYS[date] * 86400 + TAI_MINUS_UTC[date]) * clock.NS
    assert clock.tai_ns_from_iso(f"{date}T00:00:00") == want
    assert clock.tai_ns_from_utc_mjd(40587 + DAYS[date]) == want
    assert clock.tai_ns_from_mjd(40587.0 + DAYS[date]) == want
    assert clock.utc_iso(want) == f"{date}T00:00:00.000000"
    assert clock.utc_date(want) == date
    assert clock.utc_us(np.array([want], np.int64)).tolist() == [DAYS[date] * 86_400_000_000]


def test_the_leap_second_is_a_second_of_its_own() -> None:
    before, leap, after = (
        clock.tai_ns_from_iso(text) for text in ("2016-12-31T23:59:59", "2016-12-31T23:59:60", "2017-01-01T00:00:00")
    )
    assert leap - before == after - leap == clock.NS
    assert clock.utc_iso(leap) == "2016-12-31T23:59:60.000000"
    assert clock.utc_date(leap) == "2016-12-31"


def test_seconds_of_a_day_are_exact_to_the_nanosecond() -> None:
    day = clock.tai_ns_from_utc_mjd(61000)
    assert clock.tai_ns_from_utc_mjd(61000, Fraction(86399_999_999_999, 10**9)) == day + 86_399_999_999_999
    assert clock.tai_ns_from_utc_mjd(61000, Fraction(1, 10**9)) == day + 1
    assert clock.tai_ns_from_iso("2026-11-23T12:00:00.123456789") - clock.tai_ns_from_iso("2026-11-23T12:00:00") == (
        123_456_789
    )


@given(st.integers(70_000_000 * clock.NS, 1_700_000_000 * clock.NS))
@settings(max_examples=50, deadline=None)
def test_astropy_gives_back_the_nanosecond(instant: int) -> None:
    back = clock.to_time(instant).tai
    days = Fraction(float(back.jd1)) + Fraction(float(back.jd2)) - Fraction(4881175, 2)
    assert abs(days * 86400 * clock.NS - instant) < Fraction(1, 5)


@given(MODERN)
@settings(max_examples=50, deadline=None)
def test_shown_time_is_right_to_its_last_digit(instant: int) -> None:
    assert abs(clock.tai_ns_from_iso(clock.utc_iso(instant)) - instant) <= 501
    assert abs(clock.tai_ns_from_mjd(clock.mjd(instant)) - instant) < 1000


@given(st.lists(st.integers(1_500_000_000, 4_000_000_000), max_size=4))
@settings(max_examples=30, deadline=None)
def test_microseconds_of_utc_agree_with_the_text(seconds: list[int]) -> None:
    instants = np.array([second * clock.NS + 250_000_000 for second in seconds], np.int64)
    micros = clock.utc_us(instants)
    text = [clock.utc_iso(int(instant)) for instant in instants]
    assert [str(np.datetime64(int(value), "us")) for value in micros] == text


@given(
    MODERN,
    st.fractions(min_value=Fraction(1, 10), max_value=Fraction(10**9), max_denominator=10**6),
    st.integers(0, 2**60),
)
@settings(max_examples=100, deadline=None)
def test_samples_and_instants_are_inverse(epoch: int, rate: Fraction, sample: int) -> None:
    instant = clock.tai_ns(epoch, rate, sample)
    assert abs((instant - epoch) * rate / clock.NS - sample) <= rate / clock.NS / 2
    if rate < clock.NS:
        assert clock.sample_at(epoch, rate, instant) == sample


def test_no_drift_over_a_year_at_an_awkward_rate() -> None:
    rate = Fraction(781250 * 32, 27)
    samples = round(rate * 86400 * 365)
    assert clock.tai_ns(0, rate, samples) == pytest.approx(86400 * 365 * clock.NS, abs=600)
    assert clock.tai_ns(0, Fraction(3), 3 * 10**9) == clock.NS * 10**9


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01T00:00:00", "", "61000.5"])
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        clock.tai_ns_from_iso(text)


@pytest.mark.parametrize("mjd", [0.0, 40000.5, 75000.25, 105000.0])
def test_dates_beyond_the_leap_second_table_warn_nobody(mjd: float) -> None:
    # Headers hold such dates; pytest turns astropy's "dubious year" into an error if it escapes.
    instant = clock.tai_ns_from_mjd(mjd)
    assert clock.mjd(instant) == pytest.approx(mjd, abs=1e-7)  # before 1972 a UTC second is not quite one of TAI
    assert len(clock.utc_iso(instant)) == 26
    clock.utc_us(np.array([instant], np.int64))
