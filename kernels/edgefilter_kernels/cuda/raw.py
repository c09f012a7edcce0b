"""Compilation and launch of the CUDA sources."""

import functools
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

OPTIONS = ("-std=c++17",)
"""Options of NVRTC: a product and a sum may be fused, as on the CPU; nothing else is rearranged."""

_HERE = Path(__file__).parent
_INCLUDE = re.compile(r'^#include "(\w+\.h)"$', re.MULTILINE)


def launch(
    source: str,
    name: str,
    grid: tuple[int, ...],
    block: tuple[int, ...],
    args: tuple[Any, ...],
    shared: int = 0,
    defines: Mapping[str, int | str] | None = None,
) -> None:
    """Launch a kernel on the current CUDA stream; its source is compiled at the first launch.

    Parameters
    ----------
    source, name
        File below this folder, such as ``rfi/combine.cu``, and name of the function in it.
    grid, block
        Blocks of the grid, and threads of a block.
    args
        GPU arrays, and NumPy scalars of the exact C type.
    shared
        Bytes of dynamic shared memory.
    defines
        Macros with which the source is compiled.
    """
    function = module(source, tuple(sorted((defines or {}).items()))).get_function(name)
    function(grid, block, args, shared_mem=shared)


def array_namespace(array: Any) -> ModuleType:
    """Return the module of an array: ``cupy`` or ``numpy``.

    Parameters
    ----------
    array
        An array.

    Returns
    -------
    module
        Namespace of functions that take such arrays.
    """
    return sys.modules[type(array).__module__.partition(".")[0]]


def source_text(source: str) -> str:
    """Return a source file with its own include files inserted, each once.

    CuPy names its cache of compiled code by this text, so an entry is stale as soon as any of the files changes.

    Parameters
    ----------
    source
        File below this folder.

    Returns
    -------
    str
        CUDA C++.
    """
    seen: set[str] = set()

    def inline(name: str) -> str:
        if name in seen:
            return ""
        seen.add(name)
        code = (_HERE / name).read_text(encoding="utf-8").replace("#pragma once\n", "")
        return _INCLUDE.sub(lambda found: inline(found[1]), code)

    return inline(source)


def sources() -> list[str]:
    """Return the names of all source files."""
    return sorted(str(path.relative_to(_HERE)) for path in _HERE.rglob("*.cu"))


@functools.cache
def module(source: str, defines: tuple[tuple[str, int | str], ...]) -> Any:
    """Compile a source for the current GPU, or return the module from an earlier call.

    Parameters
    ----------
    source
        File below this folder.
    defines
        Names and values of macros, sorted.

    Returns
    -------
    cupy.RawModule
        The compiled module.
    """
    import cupy

    macros = (f"-D{name}={value}" for name, value in defines)
    return cupy.RawModule(code=source_text(source), options=(*OPTIONS, *macros))
