"""The header of a stream: what its samples are. It travels with them and never changes."""

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from enum import StrEnum
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefilter.core.errors import InputError
from edgefilter.core.html import property_table


class SampleKind(StrEnum):
    """What a sample is."""

    VOLTAGE = "voltage"
    POWER = "power"


class Encoding(StrEnum):
    """How one number is written in ``bits`` bits, little-endian; below 8 bits the first number is in the low bits."""

    UNSIGNED = "unsigned"
    SIGNED = "signed"  # two's complement
    OFFSET = "offset"  # unsigned, zero at 2^(bits-1)
    FLOAT = "float"  # IEEE 754, 32 bits; NaN is a missing number


_ALLOWED_BITS = {
    Encoding.UNSIGNED: (1, 2, 4, 8, 16),
    Encoding.SIGNED: (4, 8, 16),
    Encoding.OFFSET: (2, 4, 8, 16),
    Encoding.FLOAT: (32,),
}

ALLOWED_PRODUCTS = (
    ("I",),
    ("I", "Q", "U", "V"),
    ("AA", "BB"),
    ("AA", "BB", "CR", "CI"),
    ("X",),
    ("X", "Y"),
)
"""What ``products`` may be: Stokes or coherence products for power, one or two polarisations for voltages."""


@dataclass(frozen=True)
class Stream:
    """One telescope signal.

    A raw sample is ``sample_bytes`` bytes: the numbers of ``[channel, product, component]``, channel slowest, component
    being real and imaginary part of complex voltages.

    Parameters
    ----------
    name
        Short name, letters, digits, ``+ - _ .`` only; it begins the names of products.
    kind
        Voltages or detected power.
    epoch_tai_ns
        TAI of sample 0, ns since 1970-01-01T00:00:00 TAI.
    rate
        Samples a second, Hz, exact. Real voltages of bandwidth B have rate 2B, complex ones rate B.
    channels
        Frequency channels in a raw sample (1 for a baseband stream that is not channelised yet).
    first_channel_hz, channel_step_hz
        Sky frequency of the centre of channel 0, and the signed step to the next one, Hz. The magnitude of the step is
        the bandwidth of a channel; a negative step also says that each voltage channel's spectrum runs downwards.
    products
        One of :data:`ALLOWED_PRODUCTS`.
    bits, encoding
        How one number is written.
    complex_samples
        Whether voltages are complex. Always False for power.
    telescope, source
        As the header gives them, or empty.

    Raises
    ------
    InputError
        If the fields do not describe a stream.
    """

    name: str
    kind: SampleKind
    epoch_tai_ns: int
    rate: Fraction
    channels: int
    first_channel_hz: float
    channel_step_hz: float
    products: tuple[str, ...]
    bits: int
    encoding: Encoding
    complex_samples: bool = False
    telescope: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise InputError(f"stream {self.name!r}: {problem}")

    def _problem(self) -> str | None:
        if not re.fullmatch(r"[A-Za-z0-9+._-]{1,64}", self.name) or self.name.startswith("."):
            return "name must be 1 to 64 of letters, digits and + - _ ."
        if not -(1 << 63) <= self.epoch_tai_ns < 1 << 63:
            return f"epoch_tai_ns is {self.epoch_tai_ns}, must fit 64 bits"
        if self.rate <= 0:
            return f"rate is {float(self.rate)} Hz, must be positive"
        if not 1 <= self.channels <= 1 << 20:
            return f"{self.channels} channels, must be 1 to {1 << 20}"
        last_channel_hz = self.first_channel_hz + self.channel_step_hz * self.channels
        if not (np.isfinite(self.first_channel_hz) and np.isfinite(last_channel_hz) and self.channel_step_hz):
            return "frequencies must be finite and the channel step not zero"
        if self.products not in ALLOWED_PRODUCTS:
            return f"products are {self.products}, must be one of {ALLOWED_PRODUCTS}"
        if (self.kind is SampleKind.VOLTAGE) != (self.products[0] == "X"):
            return f"products {self.products} do not go with {self.kind}"
        if self.complex_samples and self.kind is SampleKind.POWER:
            return "power is never complex"
        if self.bits not in _ALLOWED_BITS[self.encoding]:
            return f"{self.bits} bits {self.encoding}, must be {_ALLOWED_BITS[self.encoding]} bits"
        if self.values_per_sample * self.bits % 8:
            return f"a sample of {self.values_per_sample} numbers of {self.bits} bits does not end on a byte"
        return None

    @property
    def values_per_sample(self) -> int:
        """Numbers in one raw sample."""
        return self.channels * len(self.products) * (2 if self.complex_samples else 1)

    @property
    def sample_bytes(self) -> int:
        """Bytes of one raw sample."""
        return self.values_per_sample * self.bits // 8

    @property
    def bandwidth_hz(self) -> float:
        """Bandwidth of the whole stream, Hz, positive."""
        return abs(self.channel_step_hz) * self.channels

    @property
    def frequencies_hz(self) -> NDArray[np.float64]:
        """Centre frequencies of the raw channels, Hz, shape ``[channel]``."""
        return np.asarray(self.first_channel_hz + self.channel_step_hz * np.arange(self.channels), np.float64)

    def seconds(self, samples: int) -> float:
        """Return the duration of a number of samples.

        Parameters
        ----------
        samples
            Number of samples.

        Returns
        -------
        float
            Seconds.
        """
        return float(samples / self.rate)

    def to_json(self) -> str:
        """Return canonical JSON text: equal streams always give the same text."""
        fields = asdict(self)
        fields["rate"] = str(self.rate)
        fields["products"] = list(self.products)
        return json.dumps(fields, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> "Stream":
        """Read a header: the inverse of :meth:`to_json`.

        Parameters
        ----------
        text
            JSON.

        Returns
        -------
        Stream
            The header.

        Raises
        ------
        InputError
            If the text does not describe a stream.
        """
        try:
            fields: dict[str, Any] = json.loads(text)
            # Exponents are not ours, and "1e999999999" would take the machine's memory.
            if not re.fullmatch(r"[0-9]{1,40}(/[0-9]{1,40})?", fields["rate"], re.ASCII):
                raise ValueError("rate must be a whole number or a fraction n/d")
            fields["rate"] = Fraction(fields["rate"])
            fields["products"] = tuple(fields["products"])
            fields["kind"] = SampleKind(fields["kind"])
            fields["encoding"] = Encoding(fields["encoding"])
            for name in ("epoch_tai_ns", "channels", "bits"):
                if type(fields[name]) is not int:
                    raise ValueError(f"{name} must be an integer")
            for name in ("first_channel_hz", "channel_step_hz"):
                fields[name] = float(fields[name])
            if type(fields.get("complex_samples", False)) is not bool:
                raise ValueError("complex_samples must be true or false")
            for name in ("name", "telescope", "source"):
                if not isinstance(fields.get(name, ""), str):
                    raise ValueError(f"{name} must be text")
                fields.get(name, "").encode()  # lone surrogates are not text
            return cls(**fields)
        except (ValueError, TypeError, KeyError, ZeroDivisionError, OverflowError, RecursionError) as error:
            raise InputError(f"not a stream description: {error}") from None

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of :meth:`to_json`, 32 bytes."""
        return hashlib.sha256(self.to_json().encode()).digest()

    @property
    def id(self) -> str:
        """Name and the first 8 digits of the digest; names of products and folders contain it."""
        return f"{self.name}-{self.digest.hex()[:8]}"

    def _repr_html_(self) -> str:
        low, high = (f(self.frequencies_hz) / 1e6 for f in (min, max))
        half = abs(self.channel_step_hz) / 2e6
        rows = [
            ("samples", f"{self.kind}, {'complex ' if self.complex_samples else ''}{self.bits} bit {self.encoding}"),
            ("rate", f"{float(self.rate):.9g} Hz"),
            ("band", f"{low - half:.6g} to {high + half:.6g} MHz"),
            ("channels", f"{self.channels} of {abs(self.channel_step_hz) / 1e3:.6g} kHz"),
            ("products", ", ".join(self.products)),
            ("telescope", self.telescope or "not given"),
            ("source", self.source or "not given"),
        ]
        return property_table(f"stream {self.id}", rows)


def stream_name(text: str) -> str:
    """Turn any text, such as the name of a source or of a file, into a valid stream name.

    Parameters
    ----------
    text
        The text.

    Returns
    -------
    str
        1 to 64 letters, digits and ``+ - _ .``; ``unnamed`` if nothing is left.
    """
    name = re.sub(r"[^A-Za-z0-9+._-]+", "-", text).strip("-.")[:64]
    return name or "unnamed"
