"""Every CUDA source compiles for the cards that are meant; no card is needed for that."""

import pytest

from edgefilter_kernels.bank import make_bank, prototype
from edgefilter_kernels.cuda import raw
from edgefilter_kernels.cuda.pfb import variant

nvrtc = pytest.importorskip("cupy_backends.cuda.libs.nvrtc", reason="needs CuPy and NVRTC, without a card")


def compile_for(code, architecture, defines=()):
    program = nvrtc.createProgram(code, "source.cu", (), ())
    try:
        nvrtc.compileProgram(program, (*raw.OPTIONS, *defines, f"-arch=sm_{architecture}"))
        return nvrtc.getCUBIN(program)
    finally:
        nvrtc.destroyProgram(program)


@pytest.mark.parametrize("architecture", [80, 90, 100])
@pytest.mark.parametrize("source", raw.sources())
def test_sources_compile(source, architecture):
    assert compile_for(raw.text(source), architecture)


@pytest.mark.parametrize("architecture", [80, 90, 100])
@pytest.mark.parametrize("complex_samples", [True, False])
@pytest.mark.parametrize("products", [1, 2, 4])
@pytest.mark.parametrize("encoding", [(1, "unsigned"), (2, "offset"), (4, "signed"), (16, "signed"), (32, "float")])
def test_filterbanks_compile(encoding, products, complex_samples, architecture):
    filter_ = prototype(64, 4, "hamming", complex_samples)
    bank = make_bank(filter_, 64, *encoding, min(products, 2), complex_samples)
    defines = [f"-D{key}={value}" for key, value in variant(bank, products).items()]
    assert compile_for(raw.text("pfb.cu"), architecture, defines)


def test_a_broken_source_does_not():
    with pytest.raises(nvrtc.NVRTCError):
        compile_for('extern "C" __global__ void broken(float* x) { x[0] = y; }', 90)
