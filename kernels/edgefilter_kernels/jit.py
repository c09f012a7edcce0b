"""How every kernel is compiled, and where what was compiled is kept.

No ``parallel=True``: callers run kernels in threads of their own, which ``nogil`` lets them. ``fastmath`` is limited to
contraction and reassociation, which keep NaN and Inf what they are.

Compiled kernels are kept where Numba keeps such things: in the folder of ``NUMBA_CACHE_DIR``, otherwise in
``__pycache__`` beside the source, or in the user's cache folder where that cannot be written to. If nothing can, each
process compiles for itself. Three things differ from Numba's own cache:

- It is stale as soon as its file changes, or any that this one imports: a kernel has those that it calls compiled in.
- Processes that compile at the same time take turns to write: each reads the index before it adds to it.
- A file that cannot be read (power was lost while it was written) is compiled anew, a full disk is no error.
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
    """Compile a function when it is first called, or load it if it was compiled before."""
    dispatcher = njit(**OPTIONS)(function)
    with contextlib.suppress(RuntimeError):  # no folder can be written to
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
        except Exception:  # whatever unpickling half a file may raise
            return None

    def save_overload(self, signature: Any, compiled: Any) -> None:
        with contextlib.suppress(OSError):
            self._impl.locator.ensure_cache_path()
            with (Path(self._cache_path) / "lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                try:
                    super().save_overload(signature, compiled)
                except (EOFError, UnpicklingError):  # half an index: begin a new one
                    self.flush()
                    super().save_overload(signature, compiled)


def _digest(path: Path) -> str:
    """Digest of a file of kernels and of all that it imports from this package."""
    digest = hashlib.sha256()
    for source in sorted(_sources(path)):
        digest.update(source.read_bytes())
    return digest.hexdigest()


@functools.cache
def _sources(path: Path) -> frozenset[Path]:
    found = {path}
    for package, *names in _IMPORTS.findall(path.read_text(encoding="utf-8")):
        place = Path(__file__).parent.joinpath(*package.split("."))
        modules = [place, *(place / name for name in re.findall(r"\w+", " ".join(names)))]
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
    """While this lasts, call ``on_compile`` with the name of each kernel that is about to be compiled.

    Compiling takes seconds; what is loaded from the cache is not told. Kernels that another one calls are part of it.
    """
    with event.install_listener("numba:compile", _CompilationListener(on_compile)):
        yield
