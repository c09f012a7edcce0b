"""The node as an operator runs it: a live stream gives the same products as the same samples from a file."""

import io
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import redirect_stderr, redirect_stdout

import pytest
import zmq

from edgefilter.cli.main import main
from edgefilter.products.naming import parse
from edgefilter.sources.live.zmq_wire import pack_frame_header, pack_stream
from edgefilter.sources.simulated.sky import PowerSky, SkyPulse
from tests.helpers.running_node import Node, SenderThread, contents, ledger, replayed, sky, wait_for

BOTH = {"stream": [{"name": "low"}, {"name": "high", "endpoint": "tcp://127.0.0.1:*"}]}


def test_two_live_streams_give_the_products_of_a_replay_and_exact_losses(tmp_path):
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
    """Check the health pages of a running node."""

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
def test_a_signal_ends_the_node_after_what_has_arrived_is_reduced(number, tmp_path):
    source = sky(1.0)
    arrived = 700_001
    with Node(tmp_path, block={"rows": 32}) as node:
        with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
            socket.setsockopt(zmq.LINGER, -1)  # the end of the with block waits until all is sent
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


def test_settings_that_do_not_fit_the_stream_are_an_error_and_leave_no_files(tmp_path):
    power = PowerSky(1.3, 5, channels=32, bandwidth_mhz=128)
    with Node(tmp_path, detect={"stokes": "IQUV"}) as node:
        SenderThread(power, node.endpoint, None, receiver_timeout=1)
        assert node.wait() == 1
    error = (tmp_path / "errors.txt").read_text().strip().splitlines()[-1]
    assert error.startswith("edgefilter: ")
    assert "IQUV" in error
    assert not (tmp_path / "store").exists()
    assert not (tmp_path / "store.spool").exists()


def run_command(*words: str) -> tuple[int, str, str]:
    """Run a command of ``edgefilter`` in this process; return its exit status, output and errors."""
    output, errors = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(output), redirect_stderr(errors):
        patch.setattr(sys, "argv", ["edgefilter", *words])
        try:
            main()
            status = 0
        except SystemExit as ending:
            status = int(ending.code or 0)
    return status, output.getvalue(), errors.getvalue()


@pytest.fixture(scope="module")
def idle_node(tmp_path_factory):
    """Yield a node without a sender, which logs JSON; end it with the command ``drain``."""
    with Node(tmp_path_factory.mktemp("idle"), "--log-json") as node:
        yield node
        assert run_command("drain", str(node.config))[0] == 0
        assert node.wait() == 0
    status, _, errors = run_command("status", str(node.config))
    assert status == 1
    assert "no node runs" in errors


def test_the_command_status(idle_node):
    status, output, _ = run_command("status", str(idle_node.config))
    assert status == 0
    assert "node node" in output
    status, output, _ = run_command("status", str(idle_node.config), "--json")
    assert status == 0
    assert json.loads(output)["ready"]


def test_logs_are_json_lines_with_the_option_log_json(idle_node):
    os.kill(idle_node.process.pid, signal.SIGHUP)  # the reload logs at least one line
    log = idle_node.folder / "errors.txt"
    first = json.loads(wait_for(log.read_text).splitlines()[0])
    assert {"event", "level", "timestamp", "node"} <= set(first)
    assert not idle_node.lines


def test_a_second_node_of_the_same_name_or_endpoint_is_an_error(idle_node, tmp_path):
    for section, settings, reason in (
        ("node", {"run_directory": str(idle_node.folder / "run")}, "runs already"),
        ("input", {"endpoint": idle_node.endpoint}, idle_node.endpoint),
    ):
        folder = tmp_path / section
        folder.mkdir()
        assert Node(folder, **{section: settings}).start().wait() == 1
        assert reason in (folder / "errors.txt").read_text().splitlines()[-1]
        assert not (folder / "store").exists()


def test_an_interrupt_during_the_imports_is_one_line():
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
