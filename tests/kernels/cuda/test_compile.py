"""Every CUDA source compiles for the supported GPUs; that needs no GPU."""

import struct

import pytest

from edgefilter_kernels.cuda import raw
from edgefilter_kernels.cuda.filterbank.pfb import compile_macros
from edgefilter_kernels.filterbank.workspace import make_filterbank, prototype_filter

nvrtc = pytest.importorskip("cupy_backends.cuda.libs.nvrtc", reason="needs CuPy and NVRTC, but no GPU")


def compile_for(code, architecture, defines=()):
    program = nvrtc.createProgram(code, "source.cu", (), ())
    try:
        nvrtc.compileProgram(program, (*raw.OPTIONS, *defines, f"-arch=sm_{architecture}"))
        return nvrtc.getCUBIN(program)
    finally:
        nvrtc.destroyProgram(program)


THREADS = 256  # maximum of a block, in every launch
REGISTERS, SHARED = 1 << 16, 48 << 10  # limits of a block; bytes of shared memory without a special launch


def sections(cubin):
    """Yield name, bytes and size of the sections of an ELF file; sections of shared memory have no bytes."""
    (table,), (each, count, names) = struct.unpack_from("<Q", cubin, 40), struct.unpack_from("<HHH", cubin, 58)
    heads = [struct.unpack_from("<IIQQQQ", cubin, table + each * number) for number in range(count)]
    for name, _, _, _, at, size in heads:
        start = heads[names][4] + name
        yield cubin[start : cubin.index(b"\0", start)].decode(), cubin[at : at + size], size


def registers(info):
    """Yield the registers per thread of each kernel, from section ``.nv.info``: attribute 0x2f, symbol, number."""
    at = 0
    while at < len(info):
        form, attribute, size = struct.unpack_from("<BBH", info, at)
        if attribute == 0x2F:
            yield struct.unpack_from("<I", info, at + 8)[0]
        at += 4 + (size if form == 4 else 0)


@pytest.mark.parametrize("architecture", [80, 90, 100])
@pytest.mark.parametrize("source", raw.sources())
def test_sources_compile_to_kernels_that_can_be_launched(source, architecture):
    found = list(sections(compile_for(raw.source_text(source), architecture)))
    kernels = sum(name.startswith(".text.") for name, _, _ in found)
    used = [number for name, info, _ in found if name == ".nv.info" for number in registers(info)]
    assert len(used) == kernels > 0
    assert max(used) * THREADS <= REGISTERS
    assert max((size for name, _, size in found if name.startswith(".nv.shared.")), default=0) <= SHARED


# The sources above are compiled for each architecture: here, each architecture compiles a third of the variants.
@pytest.mark.parametrize("complex_samples", [True, False])
@pytest.mark.parametrize(("products", "architecture"), [(1, 80), (2, 90), (4, 100)])
@pytest.mark.parametrize("encoding", [(1, "unsigned"), (2, "offset"), (4, "signed"), (16, "signed"), (32, "float")])
def test_filterbanks_compile(encoding, products, complex_samples, architecture):
    filter_ = prototype_filter(64, 4, "hamming", complex_samples)
    bank = make_filterbank(filter_, 64, *encoding, min(products, 2), complex_samples)
    defines = [f"-D{key}={value}" for key, value in compile_macros(bank, products).items()]
    assert compile_for(raw.source_text("filterbank/pfb.cu"), architecture, defines)


def test_a_broken_source_does_not_compile():
    with pytest.raises(nvrtc.NVRTCError):
        compile_for('extern "C" __global__ void broken(float* x) { x[0] = y; }', 90)
