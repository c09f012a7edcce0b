"""Processes of a node that are killed or hang: the store afterwards is that of an undisturbed run."""

import random
import signal
import time

from tests.node.running import Node, Sending, contents, ledger, replayed, sky, wait_for

SEED = 3
FRAME = 65_536


def test_killed_and_hung_processes_change_nothing(tmp_path):
    source = sky(7.0)
    want = replayed(source, tmp_path)
    dice = random.Random(SEED)
    faults = ["reducer", "supervisor", "hang", "forwarder", "supervisor"]
    moments = sorted(dice.sample(range(1, 18), len(faults)))
    with Node(tmp_path, node={"hang_seconds": 1.0}) as node:
        telescope = Sending(source, node.endpoint, 2.0, frame_bytes=FRAME)
        for fault, moment in zip(faults, moments, strict=True):
            wait_for(lambda moment=moment: node.blocks() >= moment)
            time.sleep(dice.uniform(0, 0.1))  # anywhere within a block's work
            if fault == "supervisor":
                node.die()
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


def test_a_killed_receiver_loses_what_was_in_flight_and_the_ledger_says_what(tmp_path):
    source = sky(6.0)
    want = replayed(source, tmp_path)
    dice = random.Random(SEED)
    with Node(tmp_path) as node:
        telescope = Sending(source, node.endpoint, 2.0, frame_bytes=FRAME)
        for moment in sorted(dice.sample(range(1, 8), 2)):
            wait_for(lambda moment=moment: node.blocks() >= moment)
            node.kill("receiver")
        telescope.wait()
        assert node.wait() == 0
    got = contents(tmp_path / "store")
    rows = ledger(got, tmp_path)
    assert sum(row["samples_expected"] for row in rows) == source.samples
    assert sum(row["samples_received"] + row["lost_missing"] for row in rows) == source.samples
    # A gap is in what is made of its block; blocks far from any are untouched, and no block is there twice.
    assert sorted(row["block"] for row in rows) == list(range(len(rows)))
    hurt = {row["block"] for row in rows if row["lost_missing"]}
    assert len(hurt) <= 4
    for name, content in want.items():
        if name.startswith("ledger"):
            assert (name not in got) == (int(name.split("-")[-2]) in hurt), name
            assert got.get(name, content) == content
