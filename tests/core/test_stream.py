import json
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefilter.core.errors import InputError
from edgefilter.core.stream import Encoding, SampleKind, Stream, stream_name

STREAM = Stream(
    name="B0531+21",
    kind=SampleKind.VOLTAGE,
    epoch_tai_ns=1_767_225_637_000_000_000,
    rate=Fraction(781250 * 32, 27),
    channels=4,
    first_channel_hz=200e6,
    channel_step_hz=781250.0,
    products=("X", "Y"),
    bits=8,
    encoding=Encoding.SIGNED,
    complex_samples=True,
    telescope="Murchison",
    source="Crab ☆",
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def test_json_round_trip() -> None:
    back = Stream.from_json(STREAM.to_json())
    assert back == STREAM
    assert back.digest == STREAM.digest
    assert back.rate == Fraction(25_000_000, 27)
    assert Stream.from_json(STREAM.to_json().encode()) == STREAM


def test_digest_stays_what_it_is() -> None:
    # Stored products are named by it: if this changes, they lose their stream.
    assert STREAM.digest.hex() == "c94f765ea65b7c1f627122c88ff8eeb092901b36aaf62920876e1bfe7c446ac5"
    assert STREAM.id == "B0531+21-c94f765e"


@given(
    st.builds(
        replace,
        st.just(STREAM),
        name=st.from_regex(r"[A-Za-z0-9+_-][A-Za-z0-9+._-]{0,20}", fullmatch=True),
        epoch_tai_ns=st.integers(-(2**62), 2**62),
        rate=st.fractions(min_value=Fraction(1, 1000), max_denominator=10**9),
        channels=st.integers(1, 1 << 20),
        first_channel_hz=st.floats(-1e12, 1e12),
        channel_step_hz=st.floats(1e-3, 1e9) | st.floats(-1e9, -1e-3),
        source=st.text(max_size=20),
    )
)
@settings(max_examples=50, deadline=None)
def test_any_stream_survives_json(stream: Stream) -> None:
    assert Stream.from_json(stream.to_json()) == stream


@given(st.binary(max_size=60) | JSON.map(json.dumps))
@settings(max_examples=200, deadline=None)
def test_what_is_no_description_is_an_input_error(text: str | bytes) -> None:
    with pytest.raises(InputError):
        Stream.from_json(text)


@given(st.sampled_from([*json.loads(STREAM.to_json()), "unknown"]), JSON)
@settings(max_examples=300, deadline=None)
def test_a_spoiled_field_is_an_input_error_or_a_stream(field: str, value: Any) -> None:
    fields = {**json.loads(STREAM.to_json()), field: value}
    try:
        stream = Stream.from_json(json.dumps(fields))
    except InputError:
        return
    assert Stream.from_json(stream.to_json()) == stream
    assert hash(stream) is not None
    assert np.isfinite(stream.frequencies_hz).all()


@pytest.mark.parametrize("field", [*json.loads(STREAM.to_json())])
def test_a_missing_field_is_an_input_error(field: str) -> None:
    fields = json.loads(STREAM.to_json())
    del fields[field]
    if field in ("complex_samples", "telescope", "source"):
        Stream.from_json(json.dumps(fields))
    else:
        with pytest.raises(InputError, match="not a stream description"):
            Stream.from_json(json.dumps(fields))


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"rate": "1/0"}',
        STREAM.to_json().replace('"25000000/27"', "1e999"),
        STREAM.to_json().replace('"25000000/27"', '"' + "9" * 5000 + '"'),
        STREAM.to_json().replace("1767225637000000000", "9" * 30),
        STREAM.to_json().replace('"complex_samples":true', '"complex_samples":"no"'),
    ],
)
def test_hostile_descriptions_are_input_errors(text: str) -> None:
    with pytest.raises(InputError):
        Stream.from_json(text)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"name": "a/b"}, "name"),
        ({"name": ".hidden"}, "name"),
        ({"name": ""}, "name"),
        ({"name": "a\n"}, "name"),
        ({"rate": Fraction(0)}, "rate"),
        ({"channels": 0}, "channels"),
        ({"channel_step_hz": 0.0}, "step"),
        ({"first_channel_hz": float("nan")}, "finite"),
        ({"products": ("X", "Z")}, "products"),
        ({"products": ("I",)}, "do not go with"),
        ({"kind": SampleKind.POWER, "products": ("I",)}, "never complex"),
        ({"bits": 5}, "bits"),
        ({"bits": 32}, "bits"),
        ({"bits": 2, "encoding": Encoding.OFFSET, "channels": 1, "products": ("X",), "complex_samples": False}, "byte"),
    ],
)
def test_what_is_no_stream_is_refused(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        replace(STREAM, **change)


def test_sizes() -> None:
    assert STREAM.values_per_sample == 16
    assert STREAM.sample_bytes == 16
    assert STREAM.bandwidth_hz == 3_125_000
    np.testing.assert_allclose(STREAM.frequencies_hz, 200e6 + 781250 * np.arange(4))
    assert replace(STREAM, bits=4).sample_bytes == 8
    assert STREAM.seconds(25_000_000) == 27


@given(st.text(max_size=100))
@settings(max_examples=100, deadline=None)
def test_any_text_makes_a_name(text: str) -> None:
    assert replace(STREAM, name=stream_name(text)).name
