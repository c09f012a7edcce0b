"""Description of the machine, for the files of results."""

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any


def describe() -> dict[str, str]:
    """Return processor, cores, memory, Python and library versions."""
    info = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":", 1)[1].strip() for line in info if line.startswith("model name")), "unknown")
    flags = next((line for line in info if line.startswith("flags")), "")
    pages, page = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": f"{model}, {'AVX-512' if 'avx512f' in flags else 'AVX2' if 'avx2' in flags else 'no AVX2'}",
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{pages * page / 2**30:.0f} GiB",
        "python": platform.python_version(),
        **{name: version(name) for name in ("edgefilter", "numpy", "numba", "llvmlite", "pyarrow")},
    }


def write_result(path: Path, result: dict[str, Any]) -> None:
    """Print a result, and write it with the description of the machine as JSON."""
    text = json.dumps(result | {"machine": describe()}, indent=1)
    print(text)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")
