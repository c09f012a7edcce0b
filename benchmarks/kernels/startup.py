"""Time of a node from its start to its first reduced block, with an empty and with a filled cache of kernels."""

import os
import subprocess
import sys
import tempfile
import time

from benchmarks.harness import Bench

GROUP = "start-up"
_PROGRAM = """
from fractions import Fraction
from edgefilter.pipeline.resource_budget import measure_cores
from edgefilter.core.config import Reduction
from edgefilter.core.plan import Plan, resolve
from edgefilter.core.stream import Encoding, SampleKind, Stream
stream = Stream("s", SampleKind.VOLTAGE, 0, Fraction(16_000_000), 1, 1.4e9, 16e6, ("X", "Y"), 8, Encoding.SIGNED)
settings = Reduction.model_validate({"block": {"rows": 64}, "channelise": {"channels": 64}, "pulses": {"dm": [0, 10]}})
measure_cores(Plan(stream, resolve(settings, stream)), 1)
"""


def run(bench: Bench) -> None:
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"NUMBA_CACHE_DIR": cache}
        for case, program in (
            ("first start: import, compile, reduce a block", _PROGRAM),
            ("second start: import, load, reduce a block", _PROGRAM),
            ("second start: import alone", "import edgefilter.node.reducer.blocks"),
        ):
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", program], env=environment, check=True)
            bench.record(GROUP, case, "edgefilter node", time.perf_counter() - started, "s")
