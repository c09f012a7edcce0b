"""The work of a reducer with a GPU: windows that it reads ahead from the ring make the same products as a replay."""

import pytest

from edgefilter.batch.local import Replay
from edgefilter.core.config import NodeConfig
from edgefilter.core.validation import validate
from edgefilter.node.reducer.blocks import ReducerWorker
from edgefilter.node.ring import RingReader, RingWriter
from edgefilter.pipeline import backend
from edgefilter.pipeline.backend import BackendSelector
from tests.helpers.emulator.gpu import EmulatedGpuBackend
from tests.helpers.reducer_worker import FakeIpc, begin_run, spool_contents, write_all
from tests.helpers.running_node import contents, settings_tree, sky


@pytest.mark.parametrize("refused", [False, True])
def test_windows_that_are_read_ahead_make_the_same_products(gpu_backend, monkeypatch, tmp_path, refused):
    """With ``refused``, each window counts as overwritten once, so it is read and copied again."""
    if not isinstance(gpu_backend, EmulatedGpuBackend):
        pytest.skip("a real GPU would test nothing more than the emulated one")
    monkeypatch.setattr(backend, "GpuBackend", EmulatedGpuBackend)
    source, seen, read = sky(1.3), set(), []
    settings, run = begin_run(tmp_path, source, node={"backend": "gpu"})
    still_valid, window = RingReader.still_valid, ReducerWorker._read_ahead

    def once(self, chunk):
        valid = still_valid(self, chunk) and not (refused and chunk.start not in seen)
        seen.add(chunk.start)
        return valid

    def ahead(self, start, stop):
        read.append(window(self, start, stop))
        return read[-1]

    monkeypatch.setattr(RingReader, "still_valid", once)
    monkeypatch.setattr(ReducerWorker, "_read_ahead", ahead)
    with RingWriter.create(run.ring, source.stream, 6_000_000) as ring:
        write_all(ring, source)
    with ReducerWorker(FakeIpc(), settings) as worker:
        worker.run()
    assert sum(chunk is not None for chunk in read) == (len(seen) - 1) * (1 + refused)
    assert read[-1] is None  # the run has ended
    reduction = validate(NodeConfig, settings_tree(tmp_path))
    for _ in Replay(source, reduction, tmp_path / "replayed", backend_selector=BackendSelector("gpu")).run():
        pass
    assert spool_contents(tmp_path) == contents(tmp_path / "replayed")
