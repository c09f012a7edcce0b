"""Processes of a node that are killed or hang: the store is the same as after an undisturbed run."""

import os
import random
import signal
import time
from contextlib import suppress

import pytest

from edgefilter.node.ring import RingReader
from edgefilter.products.naming import parse
from tests.helpers.running_node import Node, SenderThread, contents, ledger, replayed, sky, sky_until, wait_for

SEED = 3
FRAME = 65_536
BLOCK = 32 * 32 * 256


def test_killed_and_hung_processes_change_nothing(tmp_path):
    source = sky(5.0)
    want = replayed(source, tmp_path)
    rng = random.Random(SEED)
    faults = ["reducer", "supervisor", "hang", "forwarder", "supervisor"]
    kill_blocks = sorted(rng.sample(range(1, 12), len(faults)))
    # With a shorter time, healthy processes that start slowly on a busy machine count as hung.
    with Node(tmp_path, node={"hang_seconds": 3.0}) as node:
        telescope = SenderThread(source, node.endpoint, 2.0, frame_bytes=FRAME)
        for fault, kill_block in zip(faults, kill_blocks, strict=True):
            wait_for(lambda kill_block=kill_block: node.blocks() >= kill_block)
            time.sleep(rng.uniform(0, 0.1))  # anywhere within a block's work
            if fault == "supervisor":
                node.restart_supervisor()
            elif fault == "hang":
                stopped = node.kill("reducer", signal.SIGSTOP)
                wait_for(lambda stopped=stopped: node.pid("reducer") != stopped)
            else:
                node.kill(fault)
        assert telescope.wait().samples == source.samples
        assert node.wait() == 0
    assert contents(tmp_path / "store") == want
    assert any(f"{source.samples} expected = {source.samples} received + 0 lost" in line for line in node.lines)
    assert "hung" in (tmp_path / "errors.txt").read_text()


def test_frames_in_flight_to_a_killed_receiver_are_repeated(tmp_path):
    rng = random.Random(SEED)
    with Node(tmp_path) as node:
        telescope = SenderThread(sky(600.0), node.endpoint, 1.0, frame_bytes=FRAME)
        for kill_block in sorted(rng.sample(range(1, 8), 2)):
            wait_for(lambda kill_block=kill_block: node.blocks() >= kill_block)
            killed = node.kill("receiver")
            wait_for(lambda killed=killed: node.pid("receiver") != killed)
        blocks_before = node.blocks()
        wait_for(lambda: node.blocks() > blocks_before + 8)  # more blocks than are in work: the stream continues
        source = sky_until(telescope.stop().end)
        assert node.wait() == 0
    assert contents(tmp_path / "store") == replayed(source, tmp_path)


def test_a_forwarder_of_an_earlier_supervisor_that_dies_during_drain_is_replaced(tmp_path):
    source = sky(4.0)
    with Node(tmp_path) as node:
        telescope = SenderThread(source, node.endpoint, 1.0, frame_bytes=FRAME)
        wait_for(lambda: "forwarder" in node.roles())
        node.restart_supervisor()
        stopped = node.kill("forwarder", signal.SIGSTOP)
        telescope.wait()
        wait_for(lambda: node.roles() == ["forwarder"])
        # If it was stopped within a transaction, it blocks the reducer until the supervisor kills it as hung.
        with suppress(ProcessLookupError):
            os.kill(stopped, signal.SIGKILL)
        assert node.wait() == 0
    assert contents(tmp_path / "store") == replayed(source, tmp_path)


@pytest.mark.parametrize("policy", ["hold", "drop-oldest"])
def test_a_slow_reducer_blocks_the_sender_or_loses_what_the_ledger_says(policy, tmp_path):
    source = sky(6.0)
    options = {"input": {"policy": policy, "shallow": True, "buffer_seconds": 1.1}}
    want = replayed(source, tmp_path, **options)
    with Node(tmp_path, **options) as node:
        telescope = SenderThread(source, node.endpoint, 4.0, frame_bytes=FRAME)
        wait_for(lambda: node.blocks() >= 1)
        stopped = node.kill("reducer", signal.SIGSTOP)
        (path,) = (tmp_path / "run").glob("ring-*")
        with RingReader.attach(path, None) as ring:
            begun = ring.tail
            full = ring.capacity - 2 * FRAME // source.stream.sample_bytes
            wait_for(lambda: ring.head - begun > full if policy == "hold" else telescope.report)
        os.kill(stopped, signal.SIGCONT)
        assert telescope.wait().samples == source.samples
        assert node.wait() == 0
    got = contents(tmp_path / "store")
    if policy == "hold":
        assert got == want
    rows = ledger(got, tmp_path)
    overrun = sum(row["lost_overrun"] for row in rows)
    assert (overrun > 0) == (policy == "drop-oldest")
    assert sum(row["samples_expected"] for row in rows) == source.samples
    assert sum(row["samples_received"] for row in rows) == source.samples - overrun
    incomplete_blocks = {row["block"] for row in rows if row["lost_overrun"]}
    for name in want:
        if name.startswith("flags"):
            assert name in got or {parse(name).block, parse(name).block - 1} & incomplete_blocks, name
