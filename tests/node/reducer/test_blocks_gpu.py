"""The reducer's process with a card: windows that it reads ahead out of the ring make the products of a replay."""

import pytest

from edgefilter.batch.local import Replay
from edgefilter.core.config import NodeConfig, validate
from edgefilter.node.reducer.blocks import Reducing
from edgefilter.node.ring import RingReader, RingWriter
from edgefilter.pipeline import backend
from edgefilter.pipeline.backend import Compute
from tests.helpers.emulator.gpu import EmulatedCard
from tests.helpers.running_node import contents, sky, tree
from tests.node.reducer.test_blocks import FakeLink, fill, settings, spooled


@pytest.mark.parametrize("refused", [False, True])
def test_windows_that_are_read_ahead_make_the_same_products(card, monkeypatch, tmp_path, refused):
    """Also where each is refused once, because the ring may have been overwritten: it is read and copied again."""
    if not isinstance(card, EmulatedCard):
        pytest.skip("one process, one ring: nothing that a real card adds")
    monkeypatch.setattr(backend, "Card", EmulatedCard)
    source, seen, read = sky(1.3), set(), []
    wanted = settings(tmp_path, node={"backend": "gpu"})
    still_valid, window = RingReader.still_valid, Reducing._read_ahead

    def once(self, chunk):
        valid = still_valid(self, chunk) and not (refused and chunk.start not in seen)
        seen.add(chunk.start)
        return valid

    def ahead(self, start, stop):
        read.append(window(self, start, stop))
        return read[-1]

    monkeypatch.setattr(RingReader, "still_valid", once)
    monkeypatch.setattr(Reducing, "_read_ahead", ahead)
    with RingWriter.create(wanted["ring"], source.stream, 5_000_000) as ring:
        fill(ring, source)
    with Reducing(FakeLink(), wanted) as reducing:
        reducing.run()
    assert sum(chunk is not None for chunk in read) == (len(seen) - 1) * (1 + refused)
    assert read[-1] is None  # the run has ended
    reduction = validate(NodeConfig, tree(tmp_path))
    for _ in Replay(source, reduction, tmp_path / "replayed", compute=Compute("gpu")).run():
        pass
    assert spooled(tmp_path) == contents(tmp_path / "replayed")
