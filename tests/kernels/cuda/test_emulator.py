"""The emulator finds errors that have undefined results on a GPU."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgefilter_kernels.cuda import raw
from tests.helpers.emulator import compiler
from tests.helpers.emulator.gpu import as_gpu

THREADS = 64
ROOT = Path(__file__).parents[3]


@pytest.fixture
def run(gpu_backend, monkeypatch):
    """Run the body of a kernel in one block of 64 threads; ``out`` is int32 [64]."""
    if raw.module is not compiler.module:
        pytest.skip("a real GPU does not report these errors")

    def run(body, before=""):
        code = f'{before}\nextern "C" __global__ void tried(int* out, int n)\n{{ int i = threadIdx.x; {body} }}'
        monkeypatch.setattr(raw, "source_text", lambda _: code)
        out = as_gpu(np.zeros(THREADS, np.int32))
        compiler._Module("", ()).get_function("tried")((1,), (THREADS,), (out, np.int32(THREADS)), 0)
        return np.asarray(out).tolist()

    return run


@pytest.mark.parametrize("away", [1, THREADS - 1])
def test_a_missing_barrier_shows(run, away):
    write, read = f"__shared__ int seen[{THREADS}]; seen[i] = i;", f"out[i] = seen[(i + {away}) % n];"
    wanted = [(i + away) % THREADS for i in range(THREADS)]
    assert run(f"{write} __syncthreads(); {read}") == wanted
    assert run(f"{write} {read}") != wanted


def test_uninitialised_shared_memory_shows(run):
    assert 0 not in run("__shared__ int some; out[i] = some;")


def test_threads_must_reach_the_same_barrier(run):
    with pytest.raises(AssertionError, match="different barriers"):
        run("if (i % 2) {\n__syncthreads();\n} else {\n__syncthreads();\n}")
    with pytest.raises(AssertionError, match="ended while others"):
        run("if (i == 3) return; __syncthreads();")


def test_too_much_shared_memory_is_an_error(run):
    body = "__shared__ int room[%s]; room[i] = i; __syncthreads(); out[i] = room[i ^ 1];"
    assert run(body % "12 << 10") == [i ^ 1 for i in range(THREADS)]
    with pytest.raises(AssertionError, match="more shared memory"):
        run(body % "(12 << 10) + 1")


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to compile the CUDA sources for the host with")
def test_an_access_beyond_an_array_is_a_segmentation_fault():
    code = (
        "import numpy as np\n"
        "from tests.helpers.emulator import compiler\n"
        "from tests.helpers.emulator.gpu import as_gpu\n"
        "compiler.raw.source_text = lambda _: 'extern \"C\" __global__ void tried(int* out, int n) { out[n] = 1; }'\n"
        "tried = compiler._Module('', ()).get_function('tried')\n"
        "out = as_gpu(np.zeros(5, np.int32))\n"
        "for n in (4, 5):\n"
        "    tried((1,), (1,), (out, np.int32(n)), 0)\n"
        "    print(out.view(np.ndarray)[-1], flush=True)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (ended.returncode, ended.stdout) == (-signal.SIGSEGV, "1\n"), ended.stderr
