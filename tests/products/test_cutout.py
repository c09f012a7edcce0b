"""Cut-outs: FBH5 that plain h5py reads, the same bytes every time."""

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
from edgefilter.products.cutout import decode, encode
from tests.helpers.cutouts import TAI, cutouts_equal, make_cutout


def test_it_comes_back_as_it_was() -> None:
    cutout = make_cutout()
    assert cutouts_equal(decode(encode(cutout)), cutout)


def test_it_comes_back_without_its_own_name() -> None:
    named = make_cutout()
    named = replace(named, pulse=replace(named.pulse, cutout="cutouts/x.h5"))
    assert decode(encode(named)).pulse == make_cutout().pulse
    assert encode(named) == encode(make_cutout())


@settings(deadline=None, max_examples=20)
@given(
    data=hnp.arrays(np.float32, hnp.array_shapes(min_dims=3, max_dims=3, max_side=6)),
    text=st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=20),
)
def test_any_values_and_any_text_come_back(data: np.ndarray, text: str) -> None:
    mask = np.ones((data.shape[0], data.shape[2]), np.uint8)
    stokes = tuple(f"S{i}" for i in range(data.shape[1]))
    cutout = replace(make_cutout(), data=data, mask=mask, stokes=stokes, source=text, telescope="")
    assert cutouts_equal(decode(encode(cutout)), cutout)


def test_plain_h5py_finds_what_fbh5_promises() -> None:
    cutout = make_cutout()
    program = (
        "import sys, io, h5py\n"
        "f = h5py.File(io.BytesIO(sys.stdin.buffer.read()))\n"
        "assert 'hdf5plugin' not in sys.modules\n"
        "print(float(f['data'][:].sum(dtype='f8')), f['mask'][:].sum())"
    )
    done = subprocess.run([sys.executable, "-c", program], input=encode(cutout), capture_output=True, check=True)
    total, masked = map(float, done.stdout.split())
    assert total == float(cutout.data.sum(dtype=np.float64))
    assert masked == cutout.mask.sum() * 4

    with h5py.File(io.BytesIO(encode(cutout))) as file:
        assert file.attrs["CLASS"] == b"FILTERBANK"
        assert file.attrs["VERSION"] == b"1.0"
        data, header = file["data"], dict(file["data"].attrs)
        assert data.shape == (300, 4, 40)
        assert data.dtype == np.float32
        assert data.shape == file["mask"].shape
        assert header.pop("DIMENSION_LABELS").tolist() == [b"time", b"feed_id", b"frequency"]
        assert header.pop("tstart") == pytest.approx(61367.5, abs=1e-9)
        assert header.pop("tsamp") == pytest.approx(3e-4)
        assert header == {
            "machine_id": 0,
            "telescope_id": 4,
            "source_name": "FRB é".encode(),
            "data_type": 1,
            "fch1": 1500.0,
            "foff": -0.1,
            "nchans": 40,
            "nifs": 4,
            "nbits": 32,
            "src_raj": 0.0,
            "src_dej": 0.0,
            "az_start": 0.0,
            "za_start": 0.0,
        }
        assert file.attrs["stream"] == b"sky-01234567"
        assert file.attrs["pulse_dm"] == 474.8
        assert b"not used" in file["mask"].attrs["description"]


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
        "from edgefilter.products.cutout import encode\nfrom tests.helpers.cutouts import make_cutout\n"
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
    first, stop = 1000 - 40, int(np.ceil(1000 + sweep + 40))
    assert part.pulse == row
    assert np.array_equal(part.data, whole.data[first:stop])
    assert np.array_equal(part.mask, whole.mask[first:stop])
    assert part.seconds == pytest.approx(whole.seconds[first:stop])
    assert part.tai_ns == TAI + round(first * 3e-4 * 1e9)
    assert len(whole.around(replace(row, sample=0)).data) > 0  # arrives before the first row that there is
    assert len(whole.around(replace(row, sample=12_000 + 2999 * 100)).data) == 41


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
