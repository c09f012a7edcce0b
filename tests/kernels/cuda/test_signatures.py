"""Every kernel has a CUDA version with the same signature."""

import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import edgefilter_kernels
from edgefilter_kernels import cuda

# Vector code, parts of kernels that are within another kernel on a GPU, and work of the host.
CPU_ONLY = {
    "filterbank.detect_simd", "filterbank.fft", "filterbank.fir", "filterbank.fir_simd", "rfi.broadband_steps",
    "rfi.channel_major", "rfi.intensity",
    "search.boxcar_series", "search.sift",
}  # fmt: skip
NAMES = {
    f"{room}.{module.name}"
    for room in ("filterbank", "rfi", "search")
    for module in pkgutil.iter_modules([str(Path(edgefilter_kernels.__file__).parent / room)])
}


def functions(name):
    module = importlib.import_module(name)
    return {
        key: getattr(value, "py_func", value)
        for key, value in vars(module).items()
        if not key.startswith("_") and callable(value) and getattr(value, "__module__", "") == name
        if not inspect.isclass(value)
    }


@pytest.mark.parametrize("name", sorted(NAMES - CPU_ONLY))
def test_signatures_are_the_same(name):
    cpu, gpu = functions(f"edgefilter_kernels.{name}"), functions(f"edgefilter_kernels.cuda.{name}")
    assert set(cpu) & set(gpu)
    for key in set(cpu) & set(gpu):
        assert list(inspect.signature(gpu[key]).parameters) == list(inspect.signature(cpu[key]).parameters), key


def test_all_is_imported_without_cupy():
    names = [module.name for module in pkgutil.walk_packages(cuda.__path__, "edgefilter_kernels.cuda.")]
    code = f"import sys; sys.modules['cupy'] = None; import edgefilter.pipeline.engine, {', '.join(names)}"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_flagging_kernel_has_a_cuda_version():
    for name in (name for name in NAMES - CPU_ONLY if name.startswith("rfi.")):
        cpu, gpu = functions(f"edgefilter_kernels.{name}"), functions(f"edgefilter_kernels.cuda.{name}")
        # Functions without a range of cells run on the host.
        assert {key for key in cpu if "stop" in inspect.signature(cpu[key]).parameters} <= gpu.keys()
