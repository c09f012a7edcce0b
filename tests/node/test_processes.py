"""The processes of a node, each on its own under a small process manager: no supervisor is needed to lose nothing."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import zmq

from edgefilter.core.config import NodeConfig
from edgefilter.core.errors import ConfigError
from edgefilter.core.locks import acquire_lock
from edgefilter.core.plan import resolve
from edgefilter.core.validation import validate
from edgefilter.node.ring import RingReader, RingWriter
from edgefilter.node.run_file import RunFile
from edgefilter.products.naming import parse
from edgefilter.sources.live.zmq_wire import pack_frame_header, pack_stream
from tests.helpers.packages import Installer
from tests.helpers.running_node import (
    BASE_SETTINGS,
    SenderThread,
    ledger,
    replayed,
    settings_tree,
    sky,
    sky_until,
    toml,
    wait_for,
)
from tests.helpers.services import NodeServices, Service, send_signal

FRAME = 65_536
BLOCK = 32 * 32 * 256
TWO_STREAMS = {"stream": [{"name": "low"}, {"name": "high", "endpoint": "tcp://127.0.0.1:*"}]}


def test_processes_that_are_killed_in_each_phase_of_a_run_change_nothing(tmp_path):
    with NodeServices(tmp_path) as node:
        send_signal(signal.SIGKILL, *node.all)  # before the header
        telescope = SenderThread(sky(600.0), node.endpoint, 1.0, frame_bytes=FRAME)
        wait_for(node.run_file().exists)  # while the reducer prepares: perhaps there is no ring yet
        send_signal(signal.SIGKILL, node.receiver, node.reducer)
        wait_for(lambda: node.blocks() >= 2)
        send_signal(signal.SIGKILL, *node.all)
        blocks = node.blocks()
        wait_for(lambda: node.blocks() > blocks)
        check_health(node)
        with RingReader.attach(wait_for(node.ring), None) as reader:
            source = sky_until(telescope.stop().end)
            wait_for(lambda: reader.last is not None)
        send_signal(signal.SIGKILL, *node.all)  # at the end: perhaps not all is reduced
        wait_for(lambda: not node.run_file().exists() and node.ring() is None)
        assert node.stop() == replayed(source, tmp_path)
        assert all("WATCHDOG=1" in service.notified for service in node.all)
        assert all("STOPPING=1" in service.notified for service in (node.receiver, node.forwarder))


def check_health(node: NodeServices) -> None:
    """Check the health pages of each process."""
    expected = {
        "receive": 'received_samples_total{stream="main"}',
        "reduce": 'reduced_blocks_total{stream="main"}',
        "forward": "store_uploaded_total",
    }
    for service in node.all:
        port = service.events("health pages")[-1]["port"]

        def get(path: str, port: int = port) -> str:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as response:
                return response.read().decode()

        assert json.loads(get("/healthz"))["ok"]
        assert json.loads(get("/readyz")) == {"ready": True, "problems": []}
        assert json.loads(get("/status"))["node"] == "node"
        assert f"edgefilter_{expected[service.name]}" in get("/metrics")


def test_processes_that_start_again_with_other_settings_continue_the_run(tmp_path):
    other = {"pulses": BASE_SETTINGS["pulses"] | {"snr": 6.5}}
    (tmp_path / "after").mkdir()
    with NodeServices(tmp_path) as node:
        telescope = SenderThread(sky(600.0), node.endpoint, 1.0, frame_bytes=FRAME)
        wait_for(lambda: node.blocks() >= 2)
        node.config.write_text(toml(settings_tree(tmp_path, **other)))
        send_signal(signal.SIGTERM, node.reducer)
        send_signal(signal.SIGHUP, node.receiver, node.forwarder)
        blocks = node.blocks()
        wait_for(lambda: node.blocks() > blocks + 2)
        source = sky_until(telescope.stop().end)
        wait_for(lambda: not node.run_file().exists())
        got = node.stop()
        kinds = [event["event"] for event in node.reducer.events("block", "ready")]
        at = kinds.index("ready", 1) - 1  # number of blocks before the second reducer
    settings = resolve(validate(NodeConfig, settings_tree(tmp_path, **other)), source.stream)
    assert f"configs/{settings.digest()}.json" in got
    before, after = replayed(source, tmp_path), replayed(source, tmp_path / "after", **other)
    expected = {name: content for name, content in before.items() if parse(name).block < at}
    expected |= {name: content for name, content in after.items() if parse(name).block >= at}
    got = {name: content for name, content in got.items() if "config" not in name}
    assert got == {name: content for name, content in expected.items() if "config" not in name}


def test_a_receiver_that_is_stopped_ends_the_run_and_the_next_one_begins_a_new_run_there(tmp_path):
    source = sky(5.2)
    stop_at = 3_000_001  # 11 blocks: the first one waits for the blocks that its baseline needs
    with NodeServices(tmp_path) as node, zmq.Context() as context:

        def send(start: int, stop: int) -> None:
            with context.socket(zmq.PUSH) as socket:
                socket.setsockopt(zmq.LINGER, -1)  # the end of the with block waits until all is sent
                socket.connect(node.endpoint)
                socket.send(pack_stream(source.stream))
                for at in range(start, stop, 100_000):
                    end = min(at + 100_000, stop)
                    socket.send(pack_frame_header(source.stream, at, end - at) + source.read(at, end).data.tobytes())

        send(0, stop_at)
        wait_for(lambda: node.blocks() >= 1)
        send_signal(signal.SIGTERM, node.receiver)
        node.endpoint = (tmp_path / "run" / "endpoint-main").read_text()
        send(stop_at, source.samples)
        with RingReader.attach(wait_for(node.ring), None) as reader:
            wait_for(lambda: reader.head == source.samples)
        rows = ledger(node.stop(), tmp_path)
    assert sorted(row["block"] for row in rows) == list(range(-(-source.samples // BLOCK)))
    # The rest of the block in which the first run has ended belongs to no run.
    outside = -(-stop_at // BLOCK) * BLOCK - stop_at
    assert sum(row["samples_received"] for row in rows) == source.samples - outside
    assert sum(row["samples_expected"] for row in rows) == source.samples - outside


def test_a_second_signal_ends_a_receiver_at_once_and_keeps_the_run_open(tmp_path):
    source = sky(1.0)
    (tmp_path / "run").mkdir()
    config = tmp_path / "node.toml"
    config.write_text(toml(settings_tree(tmp_path)))
    run = RunFile(tmp_path / "run", "main").begin(source.stream)
    with RingWriter.create(run.ring, source.stream, 50_000) as ring, ExitStack() as stack:
        reader = stack.enter_context(RingReader.attach(run.ring, "reducer"))
        service = Service(tmp_path, "receive", "receive", str(config))
        stack.callback(service.close)
        wait_for(service.starts)
        telescope = SenderThread(source, (tmp_path / "run" / "endpoint-main").read_text(), None, receiver_timeout=0.2)
        wait_for(lambda: ring.head - reader.cursor >= 50_000)  # full: the receiver waits for room
        service._stopping.set()
        service.process.terminate()
        wait_for(lambda: "STOPPING=1" in service.notified)
        service.process.terminate()
        wait_for(lambda: service.statuses)
        assert (service.statuses, ring.last) == ([0], None)
        telescope._stop.set()


def run_command(*words: str, folder: Path) -> tuple[int, list[str]]:
    """Run a command of ``edgefilter``; return its exit status and the lines of its errors."""
    done = subprocess.run(
        [sys.executable, "-m", "edgefilter.cli.main", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        timeout=60,
    )
    return done.returncode, done.stderr.splitlines()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["receive", "node.toml"], "stream low: another receiver runs in"),
        (["reduce", "node.toml", "--stream", "high"], "stream high: another reducer runs in"),
        (["receive", "broken.toml"], "pulses.snr"),
        (["forward", "node.toml"], "another forwarder runs in"),
        (["forward", "absent.toml"], "absent.toml: cannot be read"),
    ],
)
def test_a_process_that_cannot_start_says_why_in_one_line(tmp_path: Path, words: list[str], why: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "node.toml").write_text(toml(settings_tree(tmp_path, **TWO_STREAMS)))
    (tmp_path / "broken.toml").write_text(toml(settings_tree(tmp_path, pulses={"snr": -1})))
    with ExitStack() as stack:
        for lock in ("receiver-low", "receiver-high", "reducer-high", "forwarder"):
            acquire_lock(stack, tmp_path / "run" / f"{lock}.lock", 0.0, ConfigError("locked"))
        status, errors = run_command(*words, folder=tmp_path)
    assert status == 1
    assert [line for line in errors if line.startswith("edgefilter: ") and why in line] == errors


STAGE = """
import pyarrow as pa
from edgefilter.core.stage_settings import ReductionSection
from edgefilter.products.base import column
from edgefilter.stages.base import StagePlugin

class Settings(ReductionSection):
    pass

def make(plan, settings, compute):
    raise FileNotFoundError("weights.npz")

COLUMN = column("gain", pa.float32(), "", "Gain.")
UNSET = StagePlugin(settings=Settings, make=make, columns=(COLUMN,))
TWICE = StagePlugin(settings=Settings, make=make, columns=(COLUMN, COLUMN))
"""
HEADER = {"name": "main", "rate_hz": 1e6, "centre_mhz": 400.0, "bandwidth_mhz": 1.0}


@pytest.mark.parametrize(
    ("sections", "why"),
    [
        ({"spool": {"path": "node.toml/spool"}}, "node.toml/spool: cannot be opened: Not a directory"),
        ({"stages.twice": {}}, "stage 'twice' of ef-stage 1.5: two columns are called gain"),
        ({"stages.unset": {}, "stream": HEADER}, "stage 'unset' of ef-stage 1.5 cannot be made: FileNotFoundError"),
    ],
)
def test_a_reducer_says_before_the_stream_comes_that_it_cannot_reduce_it(
    tmp_path: Path, installer: Installer, monkeypatch: pytest.MonkeyPatch, sections: dict[str, Any], why: str
) -> None:
    installer.install("ef-stage", "edgefilter.stages", {"unset": "UNSET", "twice": "TWICE"}, STAGE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    (tmp_path / "node.toml").write_text(toml(settings_tree(tmp_path, **sections)))
    status, errors = run_command("reduce", "node.toml", folder=tmp_path)
    assert status == 1
    assert [line for line in errors if line.startswith("edgefilter: ") and why in line] == errors


@pytest.mark.parametrize(
    ("command", "instead"),
    [("status", "/status"), ("drain", "SIGTERM"), ("reload", "SIGHUP"), ("upgrade", "SIGHUP")],
)
def test_commands_to_a_supervisor_say_what_to_do_with_processes_without_one(
    run_cli: Any, tmp_path: Path, command: str, instead: str
) -> None:
    (tmp_path / "run").mkdir()
    config = tmp_path / "node.toml"
    config.write_text(toml(settings_tree(tmp_path)))
    with ExitStack() as stack:
        for lock in ("receiver-main", "forwarder"):
            acquire_lock(stack, tmp_path / "run" / f"{lock}.lock", 0.0, ConfigError("locked"))
        status, _, errors = run_cli(command, config)
        assert status == 1
        assert "without a supervisor: forwarder, receiver-main;" in errors
        assert instead in errors
        assert errors.count("\n") == 1
    assert "without a supervisor" not in run_cli(command, config)[2]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["reduce", "node.toml"], "several streams: --stream must be one of: low, high"),
        (["reduce", "node.toml", "--stream", "middle"], "--stream middle: no such stream"),
        (["receive", "node.toml", "--stream", "middle"], "--stream middle: no such stream"),
        (["forward", "."], "--to must say to which store"),
        (["forward", "node.toml", "--to", "store"], "--to goes with the directory of a spool"),
    ],
)
def test_ambiguous_arguments_are_one_line(
    run_cli: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[str], why: str
) -> None:
    (tmp_path / "node.toml").write_text(toml(settings_tree(tmp_path, **TWO_STREAMS)))
    monkeypatch.chdir(tmp_path)
    status, _, errors = run_cli(*words)
    assert status == 1
    assert why in errors
    assert errors.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_forwarder_refuses_a_store_of_an_unknown_scheme_before_there_are_products(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text(toml(settings_tree(tmp_path, store={"path": "gone://x"})))
    status, errors = run_command("forward", "node.toml", folder=tmp_path)
    assert status == 1
    assert [line for line in errors if "no store 'gone' is installed" in line] == errors


def test_a_module_that_only_a_supervisor_starts_says_so() -> None:
    for role in ("receiver", "reducer", "forwarder"):
        done = subprocess.run(
            [sys.executable, "-m", f"edgefilter.node.{role}.process"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert done.stderr.startswith("edgefilter: only a supervisor starts this module")


def test_the_command_receive_imports_no_slow_packages() -> None:
    script = (
        "import sys\n"
        "import edgefilter.cli.program, edgefilter.node.logs, edgefilter.node.process_settings\n"
        "import edgefilter.node.receiver.process, edgefilter.node.run_directory, edgefilter.node.service\n"
        "print(*sorted({'numba', 'scipy', 'astropy', 'pyarrow', 'prometheus_client'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not done.stdout.strip()
