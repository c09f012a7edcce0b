"""Cut-outs for tests, made of random numbers."""

from dataclasses import replace
from fractions import Fraction

import numpy as np

from edgefilter.core.clock import tai_ns_from_iso
from edgefilter.products.base import Provenance
from edgefilter.products.cutout import Cutout
from edgefilter.products.cutout_file import decode, encode
from edgefilter.products.pulses import PulseRow

TAI = tai_ns_from_iso("2026-11-23T12:00:00")


def make_cutout(
    rows: int = 300, channels: int = 40, stokes: tuple[str, ...] = ("I", "Q", "U", "V"), seed: int = 1
) -> Cutout:
    """A cut-out with Stokes planes and masked cells, the same for the same seed."""
    rng = np.random.default_rng(seed)
    data = rng.normal(10, 1, (rows, len(stokes), channels)).astype(np.float32)
    mask = (rng.random((rows, channels)) < 0.1).astype(np.uint8)
    data[np.broadcast_to(mask[:, None, :] > 0, data.shape)] = 0
    return Cutout(
        data=data,
        mask=mask,
        stokes=stokes,
        first_sample=12_000,
        tai_ns=TAI,
        rate=Fraction(1_000_000, 3),
        samples_per_row=100,
        first_channel_mhz=1500.0,
        channel_mhz=-0.1,
        pulse=PulseRow(12_345, 0.037, -0.5, TAI + 5, 474.8, 0.4, 0.002, 13.5, 1496.0, 1500.05, 7, 0.25, "", 13.1),
        provenance=Provenance("sky-01234567", "0123456789abcdef", "0.1.0"),
        block=3,
        telescope="Parkes",
        source="FRB é",
    )


def rounded(cutout: Cutout) -> Cutout:
    """A cut-out as it is read: its power is rounded to steps, by at most an eighth of the scatter of its noise."""
    back = decode(encode(cutout))
    assert np.abs(back.data - cutout.data).max() <= 0.15 * cutout.data[cutout.data != 0].std()
    return replace(cutout, data=back.data)


def cutouts_equal(left: Cutout, right: Cutout) -> bool:
    """Whether two cut-outs hold the same, values to the bit."""
    plain = {"data": np.zeros((1, len(left.stokes), 1), np.float32), "mask": np.zeros((1, 1), np.uint8)}
    fields = [
        {name: getattr(replace(cutout, **plain), name) for name in Cutout.__dataclass_fields__ if name not in plain}
        for cutout in (left, right)
    ]
    return (
        fields[0] == fields[1]
        and left.data.tobytes() == right.data.tobytes()
        and left.mask.tobytes() == right.mask.tobytes()
    )
