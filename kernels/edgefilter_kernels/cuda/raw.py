"""CUDA sources, compiled when they are first launched."""

import functools
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

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
        File below the folder of this one, such as ``rfi/combine.cu``, and function in it.
    grid, block
        Blocks, and threads in a block.
    args
        Device arrays, and NumPy scalars of the exact C type.
    shared
        Bytes of dynamic shared memory.
    defines
        Macros of this variant.
    """
    function = module(source, tuple(sorted((defines or {}).items()))).get_function(name)
    function(grid, block, args, shared_mem=shared)


def array_namespace(array: Any) -> ModuleType:
    """Return the module whose arrays these are: ``cupy`` for those on a device."""
    return sys.modules[type(array).__module__.partition(".")[0]]


def source_text(source: str) -> str:
    """Return a source with the files that it includes in place, each once.

    A cache of what is compiled is named by this text, so that it is stale as soon as any of the files changes.
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
    """Return the names of all sources."""
    return sorted(str(path.relative_to(_HERE)) for path in _HERE.rglob("*.cu"))


@functools.cache
def module(source: str, defines: tuple[tuple[str, int | str], ...]) -> Any:
    """Compile a source for the card that is there, or return what was compiled before."""
    import cupy

    macros = (f"-D{name}={value}" for name, value in defines)
    return cupy.RawModule(code=source_text(source), options=(*OPTIONS, *macros))
