"""The emulator notices what a card would do wrong now and then."""

import shutil

import numpy as np
import pytest

from edgefilter_kernels.cuda import raw
from tests.emulator import emulator
from tests.emulator.card import EmulatedCard

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to compile the CUDA sources with")

TURN = """
extern "C" __global__ void turn(const int* in, int* out)
{
    __shared__ int some[32];
    some[threadIdx.x] = in[blockIdx.x * blockDim.x + threadIdx.x];
    BARRIER
    out[blockIdx.x * blockDim.x + threadIdx.x] = some[blockDim.x - 1 - threadIdx.x];
}
"""


def turned(monkeypatch, barrier):
    monkeypatch.setattr(raw, "text", lambda _: TURN)
    kernel = emulator.module("turn.cu", (("BARRIER", barrier),)).get_function("turn")
    with EmulatedCard() as card:
        numbers = np.arange(64, dtype=np.int32)
        out = card.zeros(64, np.int32)
        kernel((2,), (32,), (card.put(numbers), out), shared_mem=0)
        return np.array_equal(card.get(out).reshape(2, 32), numbers.reshape(2, 32)[:, ::-1])


def test_a_barrier_that_is_missing_shows_in_one_order_or_the_other(monkeypatch):
    assert turned(monkeypatch, "__syncthreads();")
    assert not turned(monkeypatch, "")


@pytest.mark.parametrize(("grid", "block"), [((1, 1, 65536), (32,)), ((1,), (32, 16))])
def test_a_launch_that_a_card_refuses_is_refused(monkeypatch, grid, block):
    monkeypatch.setattr(raw, "text", lambda _: TURN)
    kernel = emulator.module("turn.cu", (("BARRIER", "__syncthreads();"),)).get_function("turn")
    with EmulatedCard() as card, pytest.raises(AssertionError):
        kernel(grid, block, (card.zeros(64, np.int32), card.zeros(64, np.int32)), shared_mem=0)
