"""Every kernel of the CPU has a twin for a card, which is called in the same way."""

import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import edgefilter_kernels
from edgefilter_kernels import cuda

# How the CPU's kernels are made: vector code and Numba; what makes a bank; what is within another kernel on a card; and
# what the host does, whatever reduces.
MODULES_WITHOUT_TWIN = {
    "filterbank.fft", "filterbank.fir", "rfi.broadband_steps", "rfi.channel_major", "rfi.intensity",
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


@pytest.mark.parametrize("name", sorted(NAMES - MODULES_WITHOUT_TWIN))
def test_signatures_are_the_same(name):
    there, here = functions(f"edgefilter_kernels.{name}"), functions(f"edgefilter_kernels.cuda.{name}")
    assert set(there) & set(here)
    for key in set(there) & set(here):
        assert list(inspect.signature(here[key]).parameters) == list(inspect.signature(there[key]).parameters), key


def test_all_is_imported_without_cupy():
    names = [module.name for module in pkgutil.walk_packages(cuda.__path__, "edgefilter_kernels.cuda.")]
    code = f"import sys; sys.modules['cupy'] = None; import edgefilter.pipeline.engine, {', '.join(names)}"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_nothing_that_flags_is_without_a_twin():
    for name in (name for name in NAMES - MODULES_WITHOUT_TWIN if name.startswith("rfi.")):
        there, here = functions(f"edgefilter_kernels.{name}"), functions(f"edgefilter_kernels.cuda.{name}")
        # What works on no range of cells is the host's.
        assert {key for key in there if "stop" in inspect.signature(there[key]).parameters} <= here.keys()
