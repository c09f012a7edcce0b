"""Compiles the CUDA sources for the host: the same text, compiled by g++ with a small header in front.

Compiled sources stay in ``build/emulator``, named by their text: each is compiled once, by the first process that needs
it. The header is compiled once, too, which halves the time of each source.
"""

import ctypes
import functools
import hashlib
import mmap
import re
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from edgefilter_kernels.cuda import raw
from tests.helpers.emulator.gpu import GpuArray, as_host

_SHIM = Path(__file__).parent / "shim.h"
# With _FORTIFY_SOURCE, a jump between fibers is reported as an error.
_OPTIONS = ("-O2", "-w", "-fPIC", "-std=c++17", "-U_FORTIFY_SOURCE")
_FOLDER = Path(__file__).parents[3] / "build" / "emulator"
_KERNEL = re.compile(r'extern "C" __global__ void (\w+)\(([^)]*)\)')
_TYPES = {
    "int": np.int32,
    "long long": np.int64,
    "float": np.float32,
    "double": np.float64,
    "unsigned short": np.uint16,
    "short": np.int16,
    "signed char": np.int8,
    "unsigned char": np.uint8,
    "bool": np.bool_,
    "float2": np.complex64,
}
_C = ctypes.CDLL(None)
_GRID, _BLOCK, _THREADS = ((1 << 31) - 1, 65535, 65535), (1024, 1024, 64), 256
"""Limits of a launch; the number of threads is the one that tests/kernels/cuda/test_compile.py assumes."""


@functools.cache
def _header():
    """Return the header, which is compiled beside it."""
    text = _SHIM.read_text()
    path = _FOLDER / f"{hashlib.sha256(text.encode()).hexdigest()}.h"
    compiled = path.with_suffix(".h.gch")
    if not compiled.exists():
        _publish(path, lambda part: part.write_text(text))
        _publish(compiled, lambda part: _compile(path, part, "-x", "c++-header"))
    return path


def _compile(source, path, *options):
    subprocess.run(["g++", *_OPTIONS, *options, "-o", path, source], check=True)


def _compile_library(text, path):
    source = path.with_suffix(".cpp")
    source.write_text(text)
    _compile(source, path, "-shared")


def _publish(path, make):
    """Make a file that appears when it is complete: other processes look for it at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        part = Path(folder) / path.name
        make(part)
        part.replace(path)


@functools.cache
def module(source, defines):
    """Return a module as ``raw.module`` does; its functions take emulated arrays, and scalars of the C type."""
    return _Module(source, defines)


class _Module:
    def __init__(self, source, defines):
        macros = [f"#define {key} {value}" for key, value in defines]
        code = [f'#include "{_header()}"', *macros, raw.source_text(source)]
        self._kinds = {}
        for name, parameters in _KERNEL.findall(code[-1]):
            kinds = [re.sub(r"\w+$|__restrict__|const ", "", one.strip()).strip() for one in parameters.split(",")]
            values = ", ".join(
                f"({kind})arguments[{i}]" if kind.endswith("*") else f"*({kind}*)arguments[{i}]"
                for i, kind in enumerate(kinds)
            )
            code.append(
                f'extern "C" const char* run_{name}(const int* size, void** arguments)\n'
                f"{{ return run(size, size + 3, [=] {{ {name}({values}); }}); }}"
            )
            self._kinds[name] = kinds
        text = "\n".join(code)
        library = _FOLDER / f"{hashlib.sha256(text.encode()).hexdigest()}.so"
        if not library.exists():
            _publish(library, lambda part: _compile_library(text, part))
        self._library = ctypes.CDLL(str(library))

    def get_function(self, name):
        return functools.partial(self._run, name)

    def _run(self, name, grid, block, args, shared_mem):
        assert shared_mem == 0
        for sizes, most in ((grid, _GRID), (block, _BLOCK)):
            assert all(0 < one <= limit for one, limit in zip(sizes, most, strict=False)), (name, sizes)
        assert np.prod(block) <= _THREADS
        size = np.ones(6, np.int32)
        size[: len(grid)], size[3 : 3 + len(block)] = grid, block
        held, fenced = [], {}
        for kind, value in zip(self._kinds[name], args, strict=True):
            if kind.endswith("*"):
                assert isinstance(value, GpuArray)
                assert value.flags.c_contiguous
                as_host(value)
                # Structures and packed numbers are passed as arrays of another dtype.
                assert value.dtype == _TYPES.get(kind[:-1].strip(), value.dtype), (name, kind, value.dtype)
            else:
                assert isinstance(value, np.generic)
                assert value.dtype == _TYPES[kind]
            if kind.endswith("*"):  # an array that is passed twice has one copy
                held.append(fenced.setdefault((value.ctypes.data, value.nbytes), _PageFencedArray(value)).address)
            else:
                held.append(np.asarray(value))
        pointers = (ctypes.c_void_p * len(held))(*(one if isinstance(one, int) else one.ctypes.data for one in held))
        run = getattr(self._library, f"run_{name}")
        run.restype = ctypes.c_char_p
        fault = run(size.ctypes.data_as(ctypes.c_void_p), pointers)
        assert fault is None, f"{name}: {fault.decode()}"
        for one in fenced.values():
            one.copy_back()


class _PageFencedArray:
    """A copy of an array that ends at an inaccessible page: an access beyond its end is a segmentation fault."""

    def __init__(self, array):
        self._array = array
        size = -(-max(array.nbytes, 1) // mmap.PAGESIZE) * mmap.PAGESIZE
        self._pages = mmap.mmap(-1, size + mmap.PAGESIZE)
        end = ctypes.addressof(ctypes.c_char.from_buffer(self._pages)) + size
        assert _C.mprotect(ctypes.c_void_p(end), mmap.PAGESIZE, 0) == 0
        self.address = end - array.nbytes
        ctypes.memmove(self.address, array.ctypes.data, array.nbytes)

    def copy_back(self):
        ctypes.memmove(self._array.ctypes.data, self.address, self._array.nbytes)
