"""Cut-outs: HDF5 that plain h5py reads, the same bytes every time."""

import hashlib
import io
import subprocess
import sys
from dataclasses import replace

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgefilter.core.errors import StoreError
from edgefilter.products.cutout_file import decode, encode
from tests.helpers.cutouts import TAI, cutouts_equal, make_cutout, rounded


def test_it_comes_back_as_it_was() -> None:
    cutout = make_cutout()
    assert cutouts_equal(decode(encode(cutout)), rounded(cutout))


def test_whole_numbers_come_back_exactly() -> None:
    cutout = make_cutout()
    whole = replace(cutout, data=np.where(cutout.data == 0, 0, np.rint(cutout.data * 12)).astype(np.float32) // 4 * 4)
    np.testing.assert_array_equal(decode(encode(whole)).data, whole.data)


def test_rows_along_a_sweep_come_back_in_their_place() -> None:
    cutout = make_cutout(rows=5, channels=3, stokes=("I",))
    cutout = replace(cutout, mask=np.zeros((5, 3), np.uint8), first=np.array([-2, 0, 4]))
    level = np.array([[10.0, 11.0, 0.0]], np.float32)
    back = decode(encode(replace(cutout, level=level, scatter=level / 10)))
    assert back.data.shape == (9, 1, 3)
    for channel, first in enumerate((-2, 0, 4)):
        used = np.arange(max(first, 0), first + 5)
        assert np.flatnonzero(back.mask[:, channel] == 0).tolist() == used.tolist()
        expected = cutout.data[used - first, 0, channel]
        np.testing.assert_allclose(back.data[used, 0, channel], expected, atol=0.15)
    assert back.level == pytest.approx(level, abs=0.04)
    assert back.scatter == pytest.approx(level / 10, abs=0.04)


def test_a_bright_pulse_is_not_clipped() -> None:
    cutout = make_cutout()
    cutout.data[17, 0, 5], cutout.mask[17, 5] = 1e9, 0
    scatter = np.ones((4, 40), np.float32)
    assert decode(encode(replace(cutout, level=10 * scatter, scatter=scatter))).data[17, 0, 5] == pytest.approx(
        1e9, rel=1e-4
    )


def test_a_rectangle_of_an_earlier_version_is_read() -> None:
    cutout = make_cutout()
    memory = io.BytesIO(encode(cutout))
    with h5py.File(memory, "r+") as file:
        attributes = dict(file["data"].attrs)
        del file["data"], file["channels"], file.attrs["pulse_snr_search"]
        file["data"], file["mask"] = cutout.data, np.broadcast_to(cutout.mask[:, None], cutout.data.shape)
        file["data"].attrs.update(attributes)
    back = decode(memory.getvalue())
    assert cutouts_equal(back, replace(cutout, pulse=replace(cutout.pulse, snr_search=None)))


def test_it_comes_back_without_its_own_name() -> None:
    named = make_cutout()
    named = replace(named, pulse=replace(named.pulse, cutout="cutouts/x.h5"))
    assert decode(encode(named)).pulse == make_cutout().pulse
    assert encode(named) == encode(make_cutout())


@settings(deadline=None, max_examples=20)
@given(
    data=hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=3, max_dims=3, max_side=6),
        elements=st.floats(-(2.0**100), 2.0**100, width=32),
    ),
    text=st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=20),
)
def test_any_values_and_any_text_come_back(data: np.ndarray, text: str) -> None:
    mask = np.zeros((data.shape[0], data.shape[2]), np.uint8)
    stokes = tuple(f"S{i}" for i in range(data.shape[1]))
    cutout = replace(make_cutout(), data=data, mask=mask, stokes=stokes, source=text, telescope="")
    back = decode(encode(cutout))
    assert cutouts_equal(replace(back, data=data), cutout)
    reach = np.abs(data.astype(np.float64) - data.mean(axis=0, dtype=np.float64))
    assert (np.abs(back.data.astype(np.float64) - data) <= 0.2 * reach.max(axis=0) + 1e-6 * np.abs(data) + 1e-35).all()


def test_plain_h5py_reads_it() -> None:
    cutout = rounded(make_cutout())
    program = (
        "import sys, io, h5py\n"
        "f = h5py.File(io.BytesIO(sys.stdin.buffer.read()))\n"
        "assert 'hdf5plugin' not in sys.modules\n"
        "codes, channels = f['data'][:], f['channels'][:]\n"
        "zero, step = channels[1:].reshape(-1, *codes.shape[1:])[:2]\n"
        "power = (zero + step * (codes - 32896.0)) * (codes > 0)\n"
        "print(float(power.sum(dtype='f8')), (codes == 0).sum())"
    )
    done = subprocess.run([sys.executable, "-c", program], input=encode(cutout), capture_output=True, check=True)
    total, masked = map(float, done.stdout.split())
    assert total == pytest.approx(float(cutout.data.sum(dtype=np.float64)), rel=1e-4)
    assert masked == cutout.mask.sum() * 4

    with h5py.File(io.BytesIO(encode(cutout))) as file:
        data, header = file["data"], dict(file["data"].attrs)
        assert (data.shape, data.dtype) == ((300, 4, 40), np.uint16)
        assert header["tstart"] == pytest.approx(61367.5, abs=1e-9)
        assert header["tsamp"] == pytest.approx(3e-4)
        assert (header["telescope_id"], header["source_name"]) == (4, "FRB é".encode())
        assert (header["fch1"], header["foff"], header["nchans"], header["nifs"]) == (1500.0, -0.1, 40, 4)
        assert file.attrs["stream"] == b"sky-01234567"
        assert file.attrs["pulse_dm"] == 474.8
        assert b"not used" in header["description"]


def test_axes_have_the_length_of_the_data_and_stated_units() -> None:
    cutout = make_cutout()
    assert cutout.seconds.shape == (300,)
    assert cutout.seconds[0] == pytest.approx(0.036)
    assert cutout.seconds[-1] == pytest.approx(0.036 + 299 * 3e-4)
    assert cutout.frequencies_mhz[[0, -1]] == pytest.approx([1500.0, 1496.1])
    assert cutout.masked.mask.sum() == cutout.mask.sum() * 4


def test_another_process_makes_the_same_bytes() -> None:
    program = (
        "import hashlib, numpy\nnumpy.full(1 << 22, 255, 'u1')\n"
        "from edgefilter.products.cutout_file import encode\nfrom tests.helpers.cutouts import make_cutout\n"
        "print(hashlib.sha256(encode(make_cutout())).hexdigest())"
    )
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (
        there.stdout.strip()
        == hashlib.sha256(encode(make_cutout())).hexdigest()
        == hashlib.sha256(encode(make_cutout())).hexdigest()
    )


def test_a_pulse_that_shares_a_cutout_has_its_own_part() -> None:
    whole = make_cutout(rows=3000)
    row = replace(whole.pulse, sample=12_000 + 1000 * 100, dm=50.0, width=0.003)  # row 1000, 10 rows wide
    part = whole.around(row)
    sweep = 50.0 / 2.41e-4 * (1496.1**-2 - 1500.0**-2) / 3e-4  # rows
    first, stop = 1000 - 25, int(np.ceil(1000 + sweep + 25))
    assert part.pulse == row
    assert np.array_equal(part.data, whole.data[first:stop])
    assert np.array_equal(part.mask, whole.mask[first:stop])
    assert part.seconds == pytest.approx(whole.seconds[first:stop])
    assert part.tai_ns == TAI + round(first * 3e-4 * 1e9)
    assert len(whole.around(replace(row, sample=0)).data) > 0  # arrives before the first row that there is
    assert len(whole.around(replace(row, sample=12_000 + 2999 * 100)).data) == 26


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "flipped", "other"])
def test_damage_is_one_line_that_names_the_object(damage: str) -> None:
    good = encode(make_cutout())
    other = io.BytesIO()
    with h5py.File(other, "w") as file:
        file["data"] = np.zeros(3)
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 0xFF
    bad = {"empty": b"", "text": b"hello", "cut": good[:-500], "flipped": bytes(flipped), "other": other.getvalue()}
    with pytest.raises(StoreError, match=r"^name\.h5: damaged") as caught:
        decode(bad[damage], "name.h5")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"data": np.zeros((3, 1, 2))},
        {"data": np.zeros((0, 4, 40), np.float32)},
        {"mask": np.zeros((300, 39), np.uint8)},
        {"stokes": ("I",)},
    ],
)
def test_arrays_that_do_not_fit_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"must be|names for"):
        replace(make_cutout(), **changes)
