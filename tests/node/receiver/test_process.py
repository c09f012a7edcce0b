"""The receiver process follows commands, and finds the runs of its streams in the run directory."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import pytest

from edgefilter.core.endpoint import parse_host_port
from edgefilter.core.errors import InputError
from edgefilter.core.stream import Stream
from edgefilter.node.ipc import CHILD_NAME_VARIABLE, IPC_SOCKET_VARIABLE
from edgefilter.node.ring import RingReader, RingWriter
from edgefilter.node.run_file import RunFile
from tests.helpers.packages import make_package
from tests.helpers.zmq_listener import STREAM, WAIT, MemorySource, assert_same_samples, send_source, wait_until

PYTHON = os.pathsep.join(entry for entry in sys.path if entry)


class FakeSupervisor:
    """The supervisor's end of the connection, with one receiver whose run directory is ``runs``."""

    def __init__(self, folder: Path, *inputs: dict[str, Any], runs: Path | None = None) -> None:
        self.runs = runs or folder
        self.messages: list[dict[str, Any]] = []
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(folder / "link"))
        self.socket.listen()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edgefilter.node.receiver.process"],
            stdin=subprocess.PIPE,
            env=os.environ
            | {IPC_SOCKET_VARIABLE: str(folder / "link"), CHILD_NAME_VARIABLE: "receiver", "PYTHONPATH": PYTHON},
        )
        settings = {"directory": str(self.runs), "inputs": inputs, "wait_seconds": WAIT}
        assert self.process.stdin is not None
        with self.process.stdin as stdin:
            stdin.write(json.dumps(settings).encode())
        self.socket.settimeout(WAIT)
        self.connection, _ = self.socket.accept()
        self.connection.settimeout(WAIT)
        self.lines = self.connection.makefile("r")

    def send(self, kind: str, **fields: Any) -> None:
        self.connection.sendall(json.dumps({"kind": kind} | fields).encode() + b"\n")

    def receive(self, kind: str) -> dict[str, Any]:
        """Return the next message of a kind and discard those before it."""
        for line in self.lines:
            message: dict[str, Any] = json.loads(line)
            if message["kind"] == kind:
                return message
        raise AssertionError(f"the connection ended before {kind!r}")

    def state(self, name: str) -> dict[str, Any]:
        fields: dict[str, Any] = self.receive("beat")["state"]["inputs"][name]
        return fields

    def give_ring(self, samples: int = 5000) -> RingReader:
        """Make the ring of the next stream that the receiver reports, as a reducer does."""
        run = RunFile(self.runs, self.receive("stream")["input"]).read()
        assert run is not None
        RingWriter.create(run.ring, run.stream, samples).close()
        return RingReader.attach(run.ring, "reader")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(WAIT)
        self.lines.close()
        self.connection.close()
        self.socket.close()


def input_settings(**fields: Any) -> dict[str, Any]:
    return {"name": "main", "endpoint": "tcp://127.0.0.1:*"} | fields


@pytest.fixture
def joined_threads() -> Iterator[list[threading.Thread]]:
    """Yield a list of threads, and join them after the test."""
    threads: list[threading.Thread] = []
    yield threads
    for thread in threads:
        thread.join(WAIT)
        assert not thread.is_alive()


def start_sending(source: MemorySource, endpoint: str, threads: list[threading.Thread], **options: Any) -> None:
    def run() -> None:
        with suppress(InputError):  # no receiver any more
            send_source(source, endpoint, **options)

    threads.append(threading.Thread(target=run, daemon=True))
    threads[-1].start()


def test_each_stream_arrives_in_its_ring(tmp_path: Path, joined_threads: list[threading.Thread]) -> None:
    sources = {"main": MemorySource(3000), "second": MemorySource(2000)}
    with FakeSupervisor(tmp_path, input_settings(), input_settings(name="second")) as supervisor:
        endpoints = {
            message["input"]: message["endpoint"] for message in (supervisor.receive("listening") for _ in "ab")
        }
        for name, source in sources.items():
            start_sending(source, endpoints[name], joined_threads, frame_bytes=1000)
            ring = supervisor.give_ring()
            assert supervisor.receive("ended")["input"] == name
            assert_same_samples(ring, source, ())
            assert supervisor.state(name)["counters"]["samples"] == source.samples
        supervisor.send("drain")
        supervisor.receive("drained")
        assert supervisor.process.wait(WAIT) == 0


def test_a_drained_receiver_ends_the_run(tmp_path: Path, joined_threads: list[threading.Thread]) -> None:
    hold = threading.Event()
    source = MemorySource(4000, on_read=lambda start: hold.wait(WAIT) and None if start >= 2000 else None)
    with FakeSupervisor(tmp_path, input_settings()) as supervisor:
        start_sending(
            source, supervisor.receive("listening")["endpoint"], joined_threads, frame_bytes=800, receiver_timeout=0.2
        )
        ring = supervisor.give_ring()
        assert ring.wait_until_ready(2000, WAIT)
        supervisor.send("drain")
        supervisor.receive("drained")
        assert supervisor.process.wait(WAIT) == 0
        assert ring.last == 2000
    hold.set()


def test_after_a_killed_receiver_a_sender_that_repeats_frames_loses_nothing(
    tmp_path: Path, joined_threads: list[threading.Thread]
) -> None:
    killed = threading.Event()
    source = MemorySource(4000, on_read=lambda start: killed.wait(WAIT) and None if start >= 2000 else None)
    with FakeSupervisor(tmp_path, input_settings()) as supervisor:
        endpoint = supervisor.receive("listening")["endpoint"]
        start_sending(source, endpoint, joined_threads, frame_bytes=800)
        ring = supervisor.give_ring()
        assert ring.wait_until_ready(1000, WAIT)
        supervisor.process.send_signal(signal.SIGKILL)
        supervisor.process.wait(WAIT)
    (tmp_path / "link").unlink()
    with FakeSupervisor(tmp_path, input_settings()) as supervisor:
        assert supervisor.receive("listening")["endpoint"] == endpoint
        killed.set()
        assert supervisor.receive("ended")["input"] == "main"
        assert_same_samples(ring, source, ())
        assert ring.lost == 0


def test_a_retired_receiver_leaves_its_endpoint_to_the_next(
    tmp_path: Path, joined_threads: list[threading.Thread]
) -> None:
    changed = threading.Event()
    source = MemorySource(4000, on_read=lambda start: changed.wait(WAIT) and None if start >= 2000 else None)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with FakeSupervisor(tmp_path / "one", input_settings(), runs=tmp_path) as first:
        endpoint = first.receive("listening")["endpoint"]
        start_sending(source, endpoint, joined_threads, frame_bytes=800)
        ring = first.give_ring()
        with FakeSupervisor(tmp_path / "two", input_settings(), runs=tmp_path) as second:
            first.send("retire")
            second.receive("listening")
            first.receive("retired")
            assert first.process.wait(WAIT) == 0
            changed.set()
            second.receive("ended")
            assert_same_samples(ring, source, ())


def test_the_receiver_ignores_signals(tmp_path: Path) -> None:
    with FakeSupervisor(tmp_path, input_settings()) as supervisor:
        supervisor.receive("listening")
        for number in (signal.SIGINT, signal.SIGTERM):
            supervisor.process.send_signal(number)
        assert supervisor.state("main")["connections"] == 0
        supervisor.send("drain")
        assert supervisor.process.wait(WAIT) == 0


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"endpoint": "tcp://0.0.0.0:7214"}, "insecure = true"),
        ({"endpoint": "tcp://127.0.0.1:99999"}, "up to 65535"),
        ({"curve_key": "/nowhere/key", "curve_clients": "/nowhere"}, "cannot be read"),
    ],
)
def test_errors_of_the_configuration_are_one_line(fields: dict[str, str], why: str, tmp_path: Path) -> None:
    with FakeSupervisor(tmp_path, input_settings(**fields)) as supervisor:
        message = supervisor.receive("failed")
        assert why in message["why"]
        assert "\n" not in message["why"]
        assert supervisor.process.wait(WAIT) == 1


def test_the_ring_of_another_stream_receives_nothing(tmp_path: Path, joined_threads: list[threading.Thread]) -> None:
    other = Stream.from_json(STREAM.to_json().replace('"name":"test"', '"name":"other"'))
    RingWriter.create(RunFile(tmp_path, "main").begin(other).ring, other, 1000).close()
    with FakeSupervisor(tmp_path, input_settings()) as supervisor:
        start_sending(MemorySource(100), supervisor.receive("listening")["endpoint"], joined_threads, frame_bytes=80)
        wait_until(lambda: supervisor.state("main")["counters"]["unknown_stream"] == 11)
        assert supervisor.state("main")["counters"]["other_stream"] >= 1
        assert supervisor.state("main")["counters"]["frames"] == 0


def test_the_receiver_does_not_import_large_packages() -> None:
    code = (
        "import sys\n"
        "import edgefilter.node.receiver.process, edgefilter.sources.live.zmq_sender\n"
        "from edgefilter.core.endpoint import find_input\n"
        "find_input('tcp://127.0.0.1:1').load()\n"
        "heavy = {'numba', 'scipy', 'astropy', 'h5py', 'pyarrow', 'pydantic', 'asyncio', 'edgefilter_kernels'}\n"
        "print(sorted((heavy | {'importlib.metadata'}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


BROKEN = """
from edgefilter.sources.live.base import LiveInput

class Broken(LiveInput):
    def open(self):
        pass
    def receive(self, timeout):
        return {}["no such\\nkey"]
    def close(self):
        pass
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the receiver a package with a live input that fails, one that cannot be imported, and one over UDP."""
    targets = {
        "broken": "broken_input:Broken",
        "absent": "no_such_module:Input",
        "udp": "tests.helpers.udp_input:UdpInput",
    }
    folder = make_package(tmp_path / "site", "radio", {"edgefilter.inputs": targets}, "2.5")
    (folder / "broken_input.py").write_text(BROKEN)
    monkeypatch.setitem(globals(), "PYTHON", f"{folder}{os.pathsep}{PYTHON}")


@pytest.mark.parametrize(
    ("endpoint", "why"),
    [
        (
            "broken://127.0.0.1:1",
            r"live input 'broken' of radio 2.5 failed: KeyError: 'no such\nkey' (broken_input.py:8)",
        ),
        ("absent://127.0.0.1:1", "live input 'absent' of radio 2.5 cannot be loaded from no_such_module:Input: Module"),
        (
            "spead://127.0.0.1:1",
            "endpoint is 'spead://127.0.0.1:1': no live input 'spead' is installed; installed: ipc,",
        ),
        ("udp://127.0.0.1:1", "udp://127.0.0.1:1: options.rate_hz: Field required"),
    ],
)
def test_a_plugin_that_cannot_be_used_is_one_line(site: None, tmp_path: Path, endpoint: str, why: str) -> None:
    with FakeSupervisor(tmp_path, input_settings(endpoint=endpoint)) as supervisor:
        message = supervisor.receive("failed")
        assert message["why"].startswith(why)
        assert "\n" not in message["why"]
        assert supervisor.process.wait(WAIT) == 1


def test_a_stream_over_udp_arrives_beside_one_over_zmq(
    site: None, tmp_path: Path, joined_threads: list[threading.Thread]
) -> None:
    udp = input_settings(name="second", endpoint="udp://127.0.0.1:*", options={"rate_hz": 1000.0})
    with FakeSupervisor(tmp_path, input_settings(), udp) as supervisor:
        endpoints = {
            message["input"]: message["endpoint"] for message in (supervisor.receive("listening") for _ in "ab")
        }
        source = MemorySource(1000)
        start_sending(source, endpoints["main"], joined_threads, frame_bytes=800)
        ring = supervisor.give_ring()
        assert supervisor.receive("ended")["input"] == "main"
        assert_same_samples(ring, source, ())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as telescope:
            telescope.connect(parse_host_port(endpoints["second"]))
            telescope.send((100).to_bytes(8, "little") + bytes(range(80)))
            telescope.send(b"short")
        second = supervisor.give_ring()
        wait_until(lambda: supervisor.state("second")["counters"]["malformed"] == {"short": 1})
        assert second.stream.name == "udp"
        assert second.read(100, 110).data.tobytes() == bytes(range(80))
