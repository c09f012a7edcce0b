"""Compiler options of all kernels, and the cache of compiled kernels.

``parallel=True`` is not used: callers run kernels in their own threads, and ``nogil`` lets these run at the same time.
``fastmath`` is limited to contraction and reassociation, which preserve NaN and Inf.

The cache lies where Numba's does: in the folder of ``NUMBA_CACHE_DIR``, otherwise in ``__pycache__`` beside the source,
or in the user's cache folder if that cannot be written. If no folder can be written, each process compiles its own
kernels. The cache differs from Numba's in three points:

- An entry is stale as soon as its source file changes, or any file that this one imports: a compiled kernel contains
  the kernels that it calls.
- Processes that compile at the same time write one after the other: each reads the index before it adds an entry.
- A file that cannot be read (for example after a power cut during writing) is compiled again. A full disk is no error.
"""

import contextlib
import fcntl
import functools
import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from numba import njit
from numba.core import event
from numba.core.caching import FunctionCache, IndexDataCacheFile

_IMPORTS = re.compile(r"^from edgefilter_kernels((?:\.\w+)*) import (?:\(([\w\s,]+)\)|([\w ,]+))$", re.MULTILINE)

OPTIONS: dict[str, Any] = {"nogil": True, "fastmath": {"contract", "reassoc"}}


def kernel(function: Callable[..., Any]) -> Any:
    """Return a kernel that is compiled at its first call, or loaded from the cache.

    Parameters
    ----------
    function
        Python function in the subset that Numba compiles.

    Returns
    -------
    numba.core.dispatcher.Dispatcher
        The kernel.
    """
    dispatcher = njit(**OPTIONS)(function)
    with contextlib.suppress(RuntimeError):  # no cache folder can be written
        dispatcher._cache = _SharedCache(function)
    return dispatcher


class _SharedCache(FunctionCache):  # type: ignore[misc]
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file = IndexDataCacheFile(
            self._cache_path, self._impl.filename_base, _digest(Path(function.__code__.co_filename))
        )

    def load_overload(self, signature: Any, context: Any) -> Any:
        try:
            return super().load_overload(signature, context)
        except Exception:  # unpickling a truncated file may raise anything
            return None

    def save_overload(self, signature: Any, compiled: Any) -> None:
        with contextlib.suppress(OSError):
            self._impl.locator.ensure_cache_path()
            with (Path(self._cache_path) / "lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                try:
                    super().save_overload(signature, compiled)
                except (EOFError, UnpicklingError):  # truncated index: start a new one
                    self.flush()
                    super().save_overload(signature, compiled)


def _digest(path: Path) -> str:
    """Return the digest of a source file and of all files that it imports from this package."""
    digest = hashlib.sha256()
    for source in sorted(_sources(path)):
        digest.update(source.read_bytes())
    return digest.hexdigest()


@functools.cache
def _sources(path: Path) -> frozenset[Path]:
    found = {path}
    for package, *names in _IMPORTS.findall(path.read_text(encoding="utf-8")):
        imported = Path(__file__).parent.joinpath(*package.split("."))
        modules = [imported, *(imported / name for name in re.findall(r"\w+", " ".join(names)))]
        for other in (module.with_suffix(".py") for module in modules):
            if other != path and other.is_file():
                found |= _sources(other)
    return frozenset(found)


class _CompilationListener(event.Listener):  # type: ignore[misc]
    def __init__(self, on_compile: Callable[[str], None]) -> None:
        self._on_compile = on_compile
        self._depth = 0

    def on_start(self, event: Any) -> None:
        if self._depth == 0:
            self._on_compile(event.data["dispatcher"].py_func.__name__.lstrip("_"))
        self._depth += 1

    def on_end(self, event: Any) -> None:  # noqa: ARG002
        self._depth -= 1


@contextlib.contextmanager
def watch_compilations(on_compile: Callable[[str], None]) -> Iterator[None]:
    """Call ``on_compile`` with the name of each kernel that is compiled inside the ``with`` block.

    Compilation takes seconds. Kernels that are loaded from the cache are not reported, nor are those that the reported
    kernel calls.

    Parameters
    ----------
    on_compile
        Called with the kernel's name before its compilation starts.

    Yields
    ------
    None
    """
    with event.install_listener("numba:compile", _CompilationListener(on_compile)):
        yield
