"""The node as an operator runs it: what comes over the wire becomes the same products as what is read from a file."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
import zmq

from edgefilter.cli.main import main
from edgefilter.core.errors import ConfigError
from edgefilter.node.supervisor.control_socket import call
from edgefilter.products.naming import parse
from edgefilter.sources.live.zmq_wire import pack_frame_header, pack_stream
from edgefilter.sources.simulated.sky import PowerSky, SkyPulse
from tests.helpers.running_node import Node, SenderThread, contents, ledger, replayed, sky, wait_for

BOTH = {"stream": [{"name": "low"}, {"name": "high", "endpoint": "tcp://127.0.0.1:*"}]}


def test_two_live_streams_equal_their_replay_to_the_byte_and_losses_are_exact(tmp_path):
    power = PowerSky(1.3, 5, channels=32, bandwidth_mhz=128, pulses=[SkyPulse(0.2, 20, 3e-3, 40)])
    want = replayed(power, tmp_path)
    voltage = sky(0.9)
    config = {"node": {"health_port": 0}}
    with Node(tmp_path, **config, **BOTH) as node:
        high = SenderThread(power, node.endpoints["high"], None, frame_bytes=10_007)
        wait_for(lambda: node.call("status")["streams"][1]["account"].get("blocks"))
        check_http(node.call("status")["health_port"])
        low = SenderThread(voltage, node.endpoints["low"], None, frame_bytes=4096, drop=lambda frame: frame % 10 == 7)
        low.wait(), high.wait()
        assert node.wait() == 0
    got = contents(tmp_path / "store")
    names = {name for name in got if parse(name).stream == power.stream.id}
    assert {name: got[name] for name in names} == {name: want[name] for name in want if parse(name).stream}
    assert any(parse(name).folder == "pulses" for name in names)
    rows = [row for row in ledger(got, tmp_path) if row["stream"] == voltage.stream.id]
    assert sum(row["samples_expected"] for row in rows) == voltage.samples
    assert sum(row["samples_received"] for row in rows) == low.report.samples
    assert sum(row["lost_missing"] for row in rows) == low.report.dropped_samples
    assert f"{low.report.dropped_samples} missing" in "\n".join(node.lines)


def check_http(port: int) -> None:
    """Ask a node that is at work for its health."""

    def get(path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as response:
            return response.read().decode()

    assert json.loads(get("/healthz"))["ok"]
    assert json.loads(get("/readyz")) == {"ready": True, "problems": []}
    assert [stream["name"] for stream in json.loads(get("/status"))["streams"]] == ["low", "high"]
    metrics = get("/metrics")
    for name in (
        "ready 1.0",
        'received_bytes_total{stream="high"}',
        'reduced_blocks_total{stream="high"}',
        'lag_seconds{stream="high"}',
        'restarts_total{role="reducer"} 0.0',
        'latency_seconds_bucket{le="+Inf",stream="high"}',
        "spool_bytes",
        'backend{backend="cpu",stream="high"} 1.0',
    ):
        assert f"edgefilter_{name}" in metrics
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get("/")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_node_and_what_had_arrived_is_reduced(number, tmp_path):
    source = sky(1.0)
    arrived = 700_001
    with Node(tmp_path, block={"rows": 32}) as node:
        with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
            socket.setsockopt(zmq.LINGER, -1)  # leaving the block waits until all is on its way
            socket.connect(node.endpoint)
            socket.send(pack_stream(source.stream))
            for start in range(0, arrived, 100_000):
                stop = min(start + 100_000, arrived)
                payload = source.read(start, stop).data.tobytes()
                socket.send(pack_frame_header(source.stream, start, stop - start) + payload)
        wait_for(lambda: node.blocks() > 2)
        node.process.send_signal(number)
        assert node.wait() == 0
    assert any(f"{arrived} expected = {arrived} received + 0 lost" in line for line in node.lines)
    assert not list((tmp_path / "run").glob("ring-*"))


def test_settings_that_do_not_go_with_the_stream_are_told_and_leave_nothing(tmp_path):
    power = PowerSky(1.3, 5, channels=32, bandwidth_mhz=128)
    with Node(tmp_path, detect={"stokes": "IQUV"}) as node:
        SenderThread(power, node.endpoint, None, receiver_timeout=1)
        assert node.wait() == 1
    error = (tmp_path / "errors.txt").read_text().strip().splitlines()[-1]
    assert error.startswith("edgefilter: ")
    assert "IQUV" in error
    assert not (tmp_path / "store").exists()
    assert not (tmp_path / "store.spool").exists()


def test_a_node_that_runs_already_and_one_that_does_not_are_told(tmp_path):
    with Node(tmp_path) as node:
        again = Node(tmp_path).start()
        assert again.wait() == 1
        assert "runs already" in (tmp_path / "errors.txt").read_text()
        taken = tmp_path / "taken"
        taken.mkdir()
        other = Node(taken, input={"endpoint": node.endpoint}).start()
        assert other.wait() == 1
        assert node.endpoint in (taken / "errors.txt").read_text().splitlines()[-1]
        assert not (taken / "store").exists()
        node.call("drain")
        assert node.wait() == 0
    with pytest.raises(ConfigError, match="no node runs"):
        call(tmp_path / "run" / "control.sock", "status")


def test_an_interruption_of_the_imports_is_one_line():
    script = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'edgefilter.cli.run': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        "from edgefilter.cli.main import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert done.stderr.splitlines() == ["edgefilter: interrupted"]


def test_logs_are_json_lines_where_that_is_asked_for(tmp_path):
    with Node(tmp_path, "--log-json") as node:
        os.kill(node.process.pid, signal.SIGTERM)
        assert node.wait() == 0
    assert not node.lines
    lines = [json.loads(line) for line in (tmp_path / "errors.txt").read_text().splitlines()]
    assert {"event", "level", "timestamp", "node"} <= set(lines[0])


def test_the_commands_say_how_a_node_is(tmp_path, monkeypatch, capsys):
    def run(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["edgefilter", *words])
        try:
            main()
        except SystemExit as ending:
            return int(ending.code or 0)
        return 0

    with Node(tmp_path) as node:
        assert run("status", str(node.config)) == 0
        assert "node node" in capsys.readouterr().out
        assert run("status", str(node.config), "--json") == 0
        assert json.loads(capsys.readouterr().out)["ready"]
        assert run("drain", str(node.config)) == 0
        assert node.wait() == 0
    assert run("status", str(node.config)) == 1
    assert "no node runs" in capsys.readouterr().err
