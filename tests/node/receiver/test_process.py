"""The receiver process does what the supervisor says, and outlives nothing that it should not."""

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

from edgefilter.core.errors import InputError
from edgefilter.core.stream import Stream
from edgefilter.node.ipc import LINK_VARIABLE, NAME_VARIABLE
from edgefilter.node.ring import RingReader, RingWriter
from edgefilter.sources.live.zmq_sender import send
from tests.sources.live.test_zmq_sender import STREAM, WAIT, Memory, same, until

PYTHON = os.pathsep.join(entry for entry in sys.path if entry)


class Supervisor:
    """A supervisor's end of the link, and the one child that it has."""

    def __init__(self, folder: Path, *inputs: dict[str, Any]) -> None:
        self.folder = folder
        self.messages: list[dict[str, Any]] = []
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(folder / "link"))
        self.socket.listen()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edgefilter.node.receiver.process"],
            env=os.environ | {LINK_VARIABLE: str(folder / "link"), NAME_VARIABLE: "receiver", "PYTHONPATH": PYTHON},
        )
        self.socket.settimeout(WAIT)
        self.talk, _ = self.socket.accept()
        self.talk.settimeout(WAIT)
        self.lines = self.talk.makefile("r")
        self.send("settings", inputs=list(inputs))

    def send(self, kind: str, **facts: Any) -> None:
        self.talk.sendall(json.dumps({"kind": kind} | facts).encode() + b"\n")

    def hear(self, kind: str) -> dict[str, Any]:
        """Return the next message of a kind; what comes before is forgotten."""
        for line in self.lines:
            message: dict[str, Any] = json.loads(line)
            if message["kind"] == kind:
                return message
        raise AssertionError(f"the link ended before {kind!r}")

    def state(self, name: str) -> dict[str, Any]:
        facts: dict[str, Any] = self.hear("beat")["state"]["inputs"][name]
        return facts

    def give_ring(self, samples: int = 5000) -> RingReader:
        """Do as a reducer does when a stream is described."""
        message = self.hear("stream")
        path = self.folder / f"ring-{message['input']}"
        RingWriter.create(path, Stream.from_json(message["header"]), samples).close()
        self.send("ring", input=message["input"], path=str(path))
        return RingReader.attach(path, "reader")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(WAIT)
        self.lines.close()
        self.talk.close()
        self.socket.close()


def main(**facts: Any) -> dict[str, Any]:
    return {"name": "main", "endpoint": "tcp://127.0.0.1:*"} | facts


@pytest.fixture
def quietly() -> Iterator[list[threading.Thread]]:
    """Threads that must have ended when the test has."""
    threads: list[threading.Thread] = []
    yield threads
    for thread in threads:
        thread.join(WAIT)
        assert not thread.is_alive()


def sending(source: Memory, endpoint: str, threads: list[threading.Thread], **options: Any) -> None:
    def run() -> None:
        with suppress(InputError):  # nobody receives any more
            send(source, endpoint, None, **options)

    threads.append(threading.Thread(target=run, daemon=True))
    threads[-1].start()


def test_several_streams_arrive_each_in_its_ring(tmp_path: Path, quietly: list[threading.Thread]) -> None:
    sources = {"main": Memory(3000), "second": Memory(2000)}
    with Supervisor(tmp_path, main(), main(name="second")) as supervisor:
        endpoints = {message["input"]: message["endpoint"] for message in (supervisor.hear("listening") for _ in "ab")}
        for name, source in sources.items():
            sending(source, endpoints[name], quietly, frame_bytes=1000)
            ring = supervisor.give_ring()
            assert supervisor.hear("ended")["input"] == name
            same(ring, source, ())
            assert supervisor.state(name)["counters"]["samples"] == source.samples
        supervisor.send("drain")
        supervisor.hear("drained")
        assert supervisor.process.wait(WAIT) == 0


def test_a_drained_receiver_ends_the_run_where_it_is(tmp_path: Path, quietly: list[threading.Thread]) -> None:
    hold = threading.Event()
    source = Memory(4000, watch=lambda start: hold.wait(WAIT) and None if start >= 2000 else None)
    with Supervisor(tmp_path, main()) as supervisor:
        sending(source, supervisor.hear("listening")["endpoint"], quietly, frame_bytes=800, patience=0.2)
        ring = supervisor.give_ring()
        assert ring.wait_until_ready(2000, WAIT)
        supervisor.send("drain")
        supervisor.hear("drained")
        assert supervisor.process.wait(WAIT) == 0
        assert ring.last == 2000
    hold.set()


def test_a_killed_receiver_loses_at_most_what_was_on_its_way_and_nothing_if_that_is_repeated(
    tmp_path: Path, quietly: list[threading.Thread]
) -> None:
    killed = threading.Event()
    source = Memory(4000, watch=lambda start: killed.wait(WAIT) and None if start >= 2000 else None)
    with Supervisor(tmp_path, main()) as supervisor:
        endpoint = supervisor.hear("listening")["endpoint"]
        sending(source, endpoint, quietly, frame_bytes=800)
        ring = supervisor.give_ring()
        assert ring.wait_until_ready(1000, WAIT)
        supervisor.process.send_signal(signal.SIGKILL)
        supervisor.process.wait(WAIT)
    (tmp_path / "link").unlink()
    with Supervisor(tmp_path, main(endpoint=endpoint, ring=str(ring.path))) as supervisor:
        killed.set()
        assert supervisor.hear("ended")["input"] == "main"
        same(ring, source, ())
        assert ring.lost == 0


def test_a_retired_receiver_makes_way_for_the_next(tmp_path: Path, quietly: list[threading.Thread]) -> None:
    changed = threading.Event()
    source = Memory(4000, watch=lambda start: changed.wait(WAIT) and None if start >= 2000 else None)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with Supervisor(tmp_path / "one", main()) as first:
        endpoint = first.hear("listening")["endpoint"]
        sending(source, endpoint, quietly, frame_bytes=800)
        ring = first.give_ring()
        with Supervisor(tmp_path / "two", main(endpoint=endpoint, ring=str(ring.path))) as second:
            first.send("retire")
            second.hear("listening")
            first.hear("retired")
            assert first.process.wait(WAIT) == 0
            changed.set()
            second.hear("ended")
            same(ring, source, ())


def test_signals_are_the_supervisors_affair(tmp_path: Path) -> None:
    with Supervisor(tmp_path, main()) as supervisor:
        supervisor.hear("listening")
        for number in (signal.SIGINT, signal.SIGTERM):
            supervisor.process.send_signal(number)
        assert supervisor.state("main")["connections"] == 0
        supervisor.send("drain")
        assert supervisor.process.wait(WAIT) == 0


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"endpoint": "tcp://0.0.0.0:7214"}, "insecure = true"),
        ({"endpoint": "tcp://127.0.0.1:99999"}, "up to 65535"),
        ({"ring": "/nowhere/ring"}, "cannot be opened as a ring"),
        ({"curve_key": "/nowhere/key", "curve_clients": "/nowhere"}, "cannot be read"),
    ],
)
def test_what_an_operator_can_mend_is_told_in_one_line(facts: dict[str, str], why: str, tmp_path: Path) -> None:
    with Supervisor(tmp_path, main(**facts)) as supervisor:
        message = supervisor.hear("failed")
        assert why in message["why"]
        assert "\n" not in message["why"]
        assert supervisor.process.wait(WAIT) == 1


def test_a_ring_of_another_stream_receives_nothing(tmp_path: Path, quietly: list[threading.Thread]) -> None:
    other = Stream.from_json(STREAM.to_json().replace('"name":"test"', '"name":"other"'))
    RingWriter.create(tmp_path / "ring", other, 1000).close()
    with Supervisor(tmp_path, main(ring=str(tmp_path / "ring"))) as supervisor:
        sending(Memory(100), supervisor.hear("listening")["endpoint"], quietly, frame_bytes=80)
        until(lambda: supervisor.state("main")["counters"]["unknown_stream"] == 11)
        assert supervisor.state("main")["counters"]["other_stream"] >= 1
        assert supervisor.state("main")["counters"]["frames"] == 0


def test_the_receiver_starts_without_the_heavy_packages() -> None:
    code = (
        "import sys\n"
        "import edgefilter.node.receiver.process\n"
        "import edgefilter.sources.live.zmq_sender, edgefilter.sources.live.zmq_wire\n"
        "heavy = {'numba', 'scipy', 'astropy', 'h5py', 'pyarrow', 'pydantic', 'asyncio', 'edgefilter_kernels'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
