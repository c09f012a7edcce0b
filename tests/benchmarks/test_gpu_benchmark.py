"""The GPU benchmark: all of it runs, and without a GPU it writes nothing."""

import sys

from benchmarks import gpu
from benchmarks.harness import Bench
from edgefilter.compute.threads import ThreadBackend
from edgefilter.core.errors import ConfigError

SMALL = gpu.Sizes(
    copy_bytes=1 << 16, samples=1 << 14, channels=64, times=128, search_rows=256, chain_rows=16, bands=1, dm=(0.0, 20.0)
)
WITHOUT_OVERLAP = "whole chain without overlap", "edgefilter"


def test_everything_is_measured(gpu_backend):
    bench = Bench(seconds=0)
    with ThreadBackend(2) as processor:
        gpu.measure(bench, gpu_backend, processor, SMALL)
    rates = {(result.case.split(",")[0], result.who): result.rate for result in bench.results}
    for case in ("channelise", "flag", "search", "whole chain"):
        assert rates[case, "edgefilter"] > 0
        assert rates[case, "processor"] > 0
    limits = ("memory", "bus", "channelise", "whole chain")
    for beside in (*((case, "limit") for case in limits), ("channelise", "plain CuPy"), WITHOUT_OVERLAP):
        assert rates[beside] > 0


def test_without_a_gpu_nothing_is_written(monkeypatch, capsys, tmp_path):
    def raise_no_gpu():
        raise ConfigError("no GPU: there is none")

    monkeypatch.setattr(gpu, "GpuBackend", raise_no_gpu)
    monkeypatch.setattr(sys, "argv", ["gpu", "--out", str(tmp_path / "gpu.json")])
    gpu.main()
    assert capsys.readouterr().out == "nothing is measured: no GPU: there is none\n"
    assert not list(tmp_path.iterdir())
