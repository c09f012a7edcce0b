"""The compiler options of every kernel, in one place.

No ``parallel=True``: callers run kernels in threads of their own, which ``nogil`` lets them. ``fastmath`` is limited to
contraction and reassociation, which keep NaN and Inf what they are.
"""

from typing import Any

from numba import njit

OPTIONS: dict[str, Any] = {"nogil": True, "cache": True, "fastmath": {"contract", "reassoc"}}

kernel = njit(**OPTIONS)
