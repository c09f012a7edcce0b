"""A node, in processes of its own, whose GPU fails: the processor continues, and every block is kept exactly once."""

import shutil
import urllib.request
from collections import Counter
from pathlib import Path

import pytest

from edgefilter.products.naming import parse
from tests.helpers.running_node import Node, SenderThread, contents, ledger, replayed, sky, sky_until, wait_for

WINDOW = 9
"""The GPU fails when it gets the samples of this window."""

REDUCER = f"""
import sys
if "edgefilter.node.reducer.process" in sys.orig_argv:
    sys.path.append({str(Path(__file__).parents[3])!r})
    from edgefilter.pipeline import backend
    from edgefilter_kernels.cuda import raw
    from tests.helpers.emulator import compiler, gpu
    raw.module = compiler.module
    backend.GpuBackend = lambda: gpu.FailingGpuBackend({WINDOW})
"""
"""Code that Python runs at the start of every process of the node: it gives the reducer an emulated GPU."""


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to compile the CUDA sources for the host with")
def test_the_node_continues_with_the_processor_when_its_gpu_fails(tmp_path, monkeypatch):
    (tmp_path / "start").mkdir()
    (tmp_path / "start" / "sitecustomize.py").write_text(REDUCER)
    monkeypatch.syspath_prepend(tmp_path / "start")
    # The emulated GPU is slow, and the first block compiles its kernels.
    node_settings = {"backend": "auto", "health_port": 0, "hang_seconds": 60.0}
    with Node(tmp_path, node=node_settings) as node:
        telescope = SenderThread(sky(600.0), node.endpoint, 1.0, frame_bytes=65_536)
        wait_for(lambda: node.call("status")["streams"][0]["backend"] == "gpu")
        wait_for(lambda: node.call("status")["streams"][0]["backend"] == "cpu")
        blocks_before = node.blocks()
        wait_for(lambda: node.blocks() > max(blocks_before, WINDOW) + 3)
        with urllib.request.urlopen(f"http://127.0.0.1:{node.call('status')['health_port']}/metrics") as response:
            metrics = response.read().decode()
        source = sky_until(telescope.stop().end)
        assert node.wait() == 0
    got, want = contents(tmp_path / "store"), replayed(source, tmp_path)

    rows = sorted(ledger(got, tmp_path), key=lambda row: row["block"])
    assert [row["block"] for row in rows] == list(range(-(-source.samples // (32 * 32 * 256))))
    assert all(row["samples_received"] == row["samples_expected"] for row in rows)
    first = [row["backend"] for row in rows].index("cpu")
    assert 0 < first <= WINDOW
    assert [row["backend"] for row in rows] == ["gpu"] * first + ["cpu"] * (len(rows) - first)

    def of(objects, blocks):
        return {name: content for name, content in objects.items() if (parse(name).block < first) == blocks}

    assert of(got, False) == of(want, False)
    kinds = [Counter((parse(name).folder, parse(name).block) for name in of(one, True)) for one in (got, want)]
    assert kinds[0] == kinds[1]

    assert 'edgefilter_backend{backend="cpu",stream="main"} 1.0' in metrics
    assert f'edgefilter_reduced_card_blocks_total{{stream="main"}} {first}.0' in metrics
    said = "\n".join(node.lines)
    assert f"reduced by: GPU {first} blocks, processor {len(rows) - first}" in said
    log = (tmp_path / "errors.txt").read_text()
    assert f"from block {first} on: the GPU has failed: GpuLostError: cudaErrorDeviceUnavailable: device lost" in log
