"""Every CUDA source compiles for the cards that are meant; no card is needed for that."""

import pytest

from edgefilter_kernels.cuda import raw

nvrtc = pytest.importorskip("cupy_backends.cuda.libs.nvrtc", reason="needs CuPy and NVRTC, without a card")


def compile_for(code, architecture):
    program = nvrtc.createProgram(code, "source.cu", (), ())
    try:
        nvrtc.compileProgram(program, (*raw.OPTIONS, f"-arch=sm_{architecture}"))
        return nvrtc.getCUBIN(program)
    finally:
        nvrtc.destroyProgram(program)


@pytest.mark.parametrize("architecture", [80, 90, 100])
@pytest.mark.parametrize("source", raw.sources())
def test_sources_compile(source, architecture):
    assert compile_for(raw.text(source), architecture)


def test_a_broken_source_does_not():
    with pytest.raises(nvrtc.NVRTCError):
        compile_for('extern "C" __global__ void broken(float* x) { x[0] = y; }', 90)
