"""Runs the CUDA sources on the host: the same text, compiled by g++ behind a small shim."""

import ctypes
import functools
import hashlib
import re
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from edgefilter_kernels.cuda import raw

_SHIM = Path(__file__).parent / "shim.h"
_KERNEL = re.compile(r'extern "C" __global__ void (\w+)\(([^)]*)\)')
_TYPES = {"int": np.int32, "long long": np.int64, "float": np.float32, "double": np.float64}


@functools.cache
def _folder():
    return tempfile.TemporaryDirectory(prefix="edgefilter-emulator-")


@functools.cache
def _library(source, defines):
    code = [f'#include "{_SHIM}"', raw.text(source)]
    kinds = {}
    for name, parameters in _KERNEL.findall(raw.text(source)):
        kinds[name] = [re.sub(r"\w+$|__restrict__|const ", "", one.strip()).strip() for one in parameters.split(",")]
        values = ", ".join(
            f"({kind})arguments[{i}]" if kind.endswith("*") else f"*({kind}*)arguments[{i}]"
            for i, kind in enumerate(kinds[name])
        )
        code.append(
            f'extern "C" void run_{name}(const int* size, void** arguments)\n'
            f"{{ run(size, size + 3, [=] {{ {name}({values}); }}); }}"
        )
    stem = Path(_folder().name) / hashlib.sha256("\n".join(code).encode()).hexdigest()
    stem.with_suffix(".cpp").write_text("\n".join(code))
    macros = [f"-D{key}={value}" for key, value in defines]
    command = ["g++", "-O2", "-w", "-shared", "-fPIC", "-std=c++17", *macros, "-o", f"{stem}.so", f"{stem}.cpp"]
    subprocess.run(command, check=True)
    return ctypes.CDLL(f"{stem}.so"), kinds


def launch(source, name, grid, block, args, shared=0, defines=None):
    """As ``raw.launch``, on NumPy arrays: they must be C-contiguous, and scalars of the C type."""
    library, kinds = _library(source, tuple(sorted((defines or {}).items())))
    assert len(args) == len(kinds[name])
    size = np.ones(6, np.int32)
    size[: len(grid)], size[3 : 3 + len(block)] = grid, block
    held = []
    for kind, value in zip(kinds[name], args, strict=True):
        if kind.endswith("*"):
            assert value.flags.c_contiguous
        else:
            assert value.dtype == _TYPES[kind]
        held.append(np.asarray(value))
    pointers = (ctypes.c_void_p * len(held))(*(value.ctypes.data for value in held))
    getattr(library, f"run_{name}")(size.ctypes.data_as(ctypes.c_void_p), pointers)
