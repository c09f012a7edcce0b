"""The daemon: what comes over the wire becomes the same products as what is read from a file."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import zmq

from edgefilter.config import NodeConfig, validate
from edgefilter.errors import ConfigError, InputError
from edgefilter.node.daemon import Daemon
from edgefilter.node.sender import send
from edgefilter.replaying import Replay
from edgefilter.sources.synthetic import PowerSky, SkyPulse, VoltageSky
from edgefilter.sources.wire import pack_frame_header, pack_stream

SETTINGS = {
    "block": {"rows": 256},
    "channelise": {"channels": 32},
    "detect": {"spectra": 32},
    "pulses": {"dm": [0, 40], "widths": 3, "bands": 1},
    "input": {"endpoint": "tcp://127.0.0.1:*"},
}


def settings(**sections: dict) -> NodeConfig:
    tree = {name: dict(values) for name, values in SETTINGS.items()}
    for name, values in sections.items():
        tree.setdefault(name, {}).update(values)
    return validate(NodeConfig, tree)


def skies() -> list:
    pulse = SkyPulse(0.2, 20, 3e-3, 40)
    return [
        VoltageSky(0.9, 5, rate=1_000_000, centre_mhz=400, pulses=[pulse]),
        PowerSky(1.3, 5, channels=32, bandwidth_mhz=128, pulses=[pulse]),
    ]


def contents(store: Path) -> dict[str, bytes]:
    return {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*.*") if path.is_file()}


@pytest.mark.parametrize("sky", skies(), ids=["voltage", "power"])
def test_live_equals_replay_to_the_byte(sky, tmp_path):
    for _ in Replay(sky, settings(), tmp_path / "replayed").run():
        pass
    with Daemon(settings(), tmp_path / "live") as daemon:
        sender = threading.Thread(target=send, args=(sky, daemon.endpoint, None), kwargs={"frame_bytes": 10_007})
        sender.start()
        stop = threading.Event()
        assert daemon.wait_for_stream(stop) is not None
        daemon.reduce(stop)
        sender.join(timeout=30)
    replayed, live = contents(tmp_path / "replayed"), contents(tmp_path / "live")
    assert [name for name in replayed if name.startswith("pulses")]
    assert live == replayed


def test_lost_frames_are_in_the_ledger_to_the_sample(tmp_path):
    sky = skies()[0]
    with Daemon(settings(), tmp_path) as daemon:
        reports = []
        sender = threading.Thread(
            target=lambda: reports.append(
                send(sky, daemon.endpoint, None, frame_bytes=4096, drop=lambda frame: frame % 10 == 7)
            )
        )
        sender.start()
        stop = threading.Event()
        daemon.wait_for_stream(stop)
        daemon.reduce(stop)
        sender.join(timeout=30)
        tally = daemon.tally
    assert tally.expected == sky.samples
    assert tally.lost == {"missing": reports[0].dropped_samples}
    assert tally.received == reports[0].samples


def test_settings_that_do_not_go_with_the_stream_are_told(tmp_path):
    sky = skies()[1]
    with Daemon(settings(detect={"stokes": "IQUV"}), tmp_path) as daemon:
        sender = threading.Thread(target=lambda: _quietly(sky, daemon.endpoint))
        sender.start()
        with pytest.raises(ConfigError, match="IQUV"):
            daemon.wait_for_stream(threading.Event())
    sender.join(timeout=30)


def _quietly(sky, endpoint: str) -> None:
    with contextlib.suppress(InputError):
        send(sky, endpoint, None, patience=1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_node_and_what_had_arrived_is_reduced(number, tmp_path):
    config = tmp_path / "node.toml"
    config.write_text(
        '[input]\nendpoint = "tcp://127.0.0.1:*"\n[block]\nrows = 32\n[channelise]\nchannels = 32\n'
        "[detect]\nspectra = 32\n[pulses]\ndm = [0, 40]\nwidths = 3\nbands = 1\n"
    )
    node = subprocess.Popen(
        [sys.executable, "-m", "edgefilter.cli.main", "run", str(config), "--store", str(tmp_path / "store")],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    assert node.stdout is not None
    endpoint = node.stdout.readline().split()[-1]
    sky = VoltageSky(1.0, 5, rate=1_000_000, centre_mhz=400)
    arrived = 700_001
    with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
        socket.setsockopt(zmq.LINGER, -1)  # leaving the block waits until all is on its way
        socket.connect(endpoint)
        socket.send(pack_stream(sky.stream))
        for start in range(0, arrived, 100_000):
            stop = min(start + 100_000, arrived)
            payload = sky.read(start, stop).data.tobytes()
            socket.send(pack_frame_header(sky.stream, start, stop - start) + payload)
    for line in node.stdout:
        if line.startswith("block 0:"):
            break
    node.send_signal(number)
    rest = node.stdout.read()
    assert node.wait(timeout=60) == 0
    assert f"{arrived} expected = {arrived} received + 0 lost" in rest
