"""CUDA sources, compiled when they are first launched."""

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

OPTIONS = ("-std=c++17",)
"""Of the compiler: products and sums may become one instruction, as on the CPU; nothing else is rearranged."""

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
    """Launch a kernel on the current stream, compiling its source if this is the first time.

    Parameters
    ----------
    source, name
        File beside this one, and function in it.
    grid, block
        Blocks, and threads in a block.
    args
        Device arrays, and NumPy scalars of the exact C type.
    shared
        Bytes of dynamic shared memory.
    defines
        Macros of this variant.
    """
    _module(source, tuple(sorted((defines or {}).items()))).get_function(name)(grid, block, args, shared_mem=shared)


def namespace(array: Any) -> ModuleType:
    """Return the module whose arrays these are: ``cupy`` for those on a device, otherwise ``numpy``."""
    if isinstance(array, np.ndarray):
        return np
    import cupy

    return cupy  # type: ignore[no-any-return]


def text(source: str) -> str:
    """Return a source with the files that it includes in place: what is compiled is what a cache of it is named by."""
    return _INCLUDE.sub(lambda found: text(found[1]), (_HERE / source).read_text(encoding="utf-8"))


def sources() -> list[str]:
    """Return the names of all sources."""
    return sorted(path.name for path in _HERE.glob("*.cu"))


@functools.cache
def _module(source: str, defines: tuple[tuple[str, int | str], ...]) -> Any:
    import cupy

    return cupy.RawModule(code=text(source), options=(*OPTIONS, *(f"-D{name}={value}" for name, value in defines)))
