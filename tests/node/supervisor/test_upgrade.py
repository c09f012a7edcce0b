"""Processes that are replaced while samples arrive: no block is lost or repeated, and a failure changes nothing."""

import os
import stat
import sys
from pathlib import Path

import pytest

from edgefilter.core.config import NodeConfig
from edgefilter.core.errors import EdgefilterError
from edgefilter.core.plan import resolve
from edgefilter.core.validation import validate
from edgefilter.products.naming import parse
from tests.helpers.running_node import (
    Node,
    SenderThread,
    contents,
    replayed,
    settings_tree,
    sky,
    sky_until,
    toml,
    wait_for,
)


def interpreter(folder: Path, name: str, head: str) -> str:
    """Write a script that stands for the interpreter of another installation; return its path."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{head}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_upgrades_in_a_row_lose_nothing_and_broken_ones_change_nothing(tmp_path):
    other = interpreter(tmp_path, "other", f'exec {sys.executable} "$@"')
    altered = tmp_path / "altered"
    altered.mkdir()
    (altered / "sitecustomize.py").write_text(
        "from edgefilter.products import ledger\n"
        "original = ledger.ledger_row\n"
        "def altered(inputs): return original(inputs) | {'bytes_out': inputs.bytes_out + 1}\n"
        "ledger.ledger_row = altered\n"
    )
    older = tmp_path / "older"
    older.mkdir()
    (older / "sitecustomize.py").write_text("from edgefilter.node import ipc\nipc.PROTOCOL = 1\n")
    path, older_path = (os.pathsep.join([str(first), *filter(None, sys.path)]) for first in (altered, older))
    broken = {
        interpreter(tmp_path, "old", f'PYTHONPATH={older_path} exec {sys.executable} "$@"'): "uses other messages",
        str(tmp_path / "none"): "cannot be started",
        interpreter(tmp_path, "dies", "echo 'no module named edgefilter' >&2; exit 3"): "no module named edgefilter",
        interpreter(tmp_path, "differs", f'PYTHONPATH={path} exec {sys.executable} "$@"'): "differs",
    }
    with Node(tmp_path) as node:
        telescope = SenderThread(sky(600.0), node.endpoint, 1.0, frame_bytes=65_536)
        wait_for(lambda: node.blocks() >= 1)
        for python in (other, sys.executable):
            said: list[str] = []
            before = node.pid("reducer")
            node.call("upgrade", said.append, python=python, shadow=1)
            assert any("takes over at block" in line for line in said), said
            assert sum("is equal" in line for line in said) >= 1, said
            assert node.pid("reducer") != before
        for python, why in broken.items():
            before = node.pid("reducer")
            with pytest.raises(EdgefilterError, match=f"{why}.*the old reducer continues"):
                node.call("upgrade", python=python, shadow=1)
            assert node.pid("reducer") == before
        before = node.pid("receiver")
        node.call("upgrade", receiver=True, python=other)
        assert node.pid("receiver") != before
        node.config.write_text(toml(settings_tree(tmp_path, pulses={"snr": -1})))
        with pytest.raises(EdgefilterError, match=r"pulses\.snr"):
            node.call("reload")
        blocks_before = node.blocks()
        wait_for(lambda: node.blocks() > blocks_before + 8)  # more blocks than are in work: the stream continues
        sent = telescope.stop()
        assert node.wait() == 0
    source = sky_until(sent.end)
    assert source.samples == sent.samples
    assert contents(tmp_path / "store") == replayed(source, tmp_path)


def test_a_new_configuration_takes_effect_at_the_reported_block(tmp_path):
    longer = {"block": {"rows": 512}}
    (tmp_path / "after").mkdir()
    length = 32 * 32 * 256
    with Node(tmp_path, input={"buffer_seconds": 9.0}) as node:
        telescope = SenderThread(sky(600.0), node.endpoint, 1.0, frame_bytes=65_536)
        wait_for(lambda: node.blocks() >= 1)
        said: list[str] = []
        node.config.write_text(toml(settings_tree(tmp_path, input={"buffer_seconds": 9.0}, **longer)))
        node.call("reload", said.append)
        (line,) = [line for line in said if "takes over" in line]
        sample = int(line.rpartition(" ")[2].rstrip(")"))
        wait_for(lambda: f"block {sample // length // 2}:" in "\n".join(node.lines))
        source = sky_until(telescope.stop().end)
        assert node.wait() == 0
    before, after = replayed(source, tmp_path), replayed(source, tmp_path / "after", **longer)
    settings = resolve(validate(NodeConfig, settings_tree(tmp_path, **longer)), source.stream)
    got = contents(tmp_path / "store")

    def of(objects: dict[str, bytes], first: int, stop: int) -> dict[str, bytes]:
        return {
            name: content
            for name, content in objects.items()
            if (first <= parse(name).block < stop if parse(name).block >= 0 else name.startswith("streams"))
        }

    expected = of(before, 0, sample // length) | of(after, sample // length // 2, 1 << 40)
    assert sample % (2 * length) == 0
    assert {name for name in got if "config" not in name} == set(expected)
    assert all(got[name] == content for name, content in expected.items())
    assert f"configs/{settings.digest()}.json" in got
