"""The example package, installed as a user would: its stage, its file format and its live input are used."""

import os
import socket
import subprocess
import sys
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from edgefilter.analysis.archive import open_store
from edgefilter.core.version import __version__
from edgefilter.products.naming import parse
from edgefilter.report.page import render
from edgefilter.store.compact import compact
from edgefilter.store.connect import connect
from edgefilter.store.query import query
from edgefilter.store.verify import verify
from tests.helpers.recorded_files import sigproc
from tests.helpers.running_node import Node, contents, wait_for
from tests.helpers.small_run import make_sky

EXAMPLE = Path(__file__).parent / "edgefilter-example"
ROOT = Path(__file__).parents[2]
SETTINGS = ("--set", "block.rows=1024", "--set", "stages.gain_drift.seconds=0.5", "--dm", "0:300")
CODE = f"{__version__} + edgefilter-example 1.0"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Install the example into a folder of its own; return the environment variables that use it."""
    folder = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source") / EXAMPLE.name
    subprocess.run(["cp", "-r", EXAMPLE, source], check=True)  # building writes beside the source
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--target", folder)
    subprocess.run([sys.executable, "-m", "pip", "install", *options, source], check=True)
    path = os.pathsep.join([str(folder), str(ROOT), str(ROOT / "kernels")])
    return os.environ | {"PYTHONPATH": path}


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recording") / "sky.fil"
    sky = make_sky()
    header = {"tsamp": 1e-3, "fch1": sky.stream.first_channel_hz / 1e6, "foff": sky.stream.channel_step_hz / 1e6}
    return sigproc(path, sky.read(0, sky.samples).data[:, None], 8, **header)


@pytest.fixture
def plugin(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Make the example importable in this process too; return its modules for packets and recordings."""
    monkeypatch.syspath_prepend(environment["PYTHONPATH"].split(os.pathsep)[0])
    return import_module("edgefilter_example")


def edgefilter(environment: dict[str, str], *arguments: object, status: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "edgefilter.cli.main", *map(str, arguments)],
        env=environment,
        text=True,
        capture_output=True,
        timeout=300,
    )
    assert done.returncode == status, done.stderr
    return done.stdout if status == 0 else done.stderr


@pytest.fixture(scope="module")
def store(environment: dict[str, str], recording: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store") / "store"
    edgefilter(environment, "replay", recording, "--store", folder, "--no-report", *SETTINGS)
    return folder


def test_the_table_is_in_the_store_with_its_provenance(store: Path) -> None:
    archive = open_store(store)
    table = archive.table("gain_drift")
    assert table.num_rows == len(archive.table("ledger")) == 6
    assert table.column("power").null_count == 0
    assert set(table.column("code").to_pylist()) == set(archive.table("ledger").column("code").to_pylist())
    (settings,) = archive.configs().values()
    assert settings["stages"] == {"gain_drift": {"package": "edgefilter-example 1.0", "settings": {"seconds": 0.5}}}
    assert set(table.column("code").to_pylist()) == {CODE}
    assert table.schema.field("drift").metadata[b"unit"] == b"dB"


def test_the_table_is_one_like_the_others(store: Path) -> None:
    archive = open_store(store)
    assert archive.tables()["gain_drift"] == 6
    assert len(archive.gain_drift) == 6
    assert verify(connect(store)).problems == []
    assert query(archive, "select count(*) as n from gain_drift join ledger using (stream, block)").to_pylist() == [
        {"n": 6}
    ]
    page = render(archive)
    assert '<th scope="row">gain_drift</th>' in page
    assert "drift (dB)" in page
    assert "[stages.gain_drift]" in page


def test_a_damaged_table_of_a_plugin_is_found(store: Path, tmp_path: Path) -> None:
    copy = tmp_path / "store"
    subprocess.run(["cp", "-r", store, copy], check=True)
    path = next(copy.glob("gain_drift/*/*/*.parquet"))
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1])
    (problem,) = verify(connect(copy)).problems
    assert path.name in problem


def test_compaction_merges_the_table(store: Path, tmp_path: Path) -> None:
    copy = tmp_path / "store"
    subprocess.run(["cp", "-r", store, copy], check=True)
    compact(connect(copy), "2100-01-01", 2e9)
    names = [parse(name) for name in connect(copy).names("gain_drift/")]
    assert [(name.block, name.last) for name in names if name.last > name.block] == [(0, 5)]
    assert open_store(copy).table("gain_drift").equals(open_store(store).table("gain_drift"))
    assert verify(connect(copy)).problems == []


def test_an_upgraded_package_has_another_digest(environment: dict[str, str], store: Path, tmp_path: Path) -> None:
    other = tmp_path / "site"
    subprocess.run(["cp", "-r", environment["PYTHONPATH"].split(os.pathsep)[0], other], check=True)
    (metadata,) = other.glob("*.dist-info/METADATA")
    metadata.write_text(metadata.read_text().replace("Version: 1.0", "Version: 1.1"))
    script = (
        "from edgefilter.core.config import NodeConfig; from edgefilter.core.validation import validate;"
        "print(validate(NodeConfig, {'stages': {'gain_drift': {}}}).digest())"
    )
    digests = {
        subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True).stdout
        for env in (
            environment,
            environment
            | {
                "PYTHONPATH": environment["PYTHONPATH"].replace(
                    environment["PYTHONPATH"].split(os.pathsep)[0], str(other)
                )
            },
        )
    }
    assert len(digests) == 2


def test_compaction_keeps_the_rows_of_a_version_with_other_types(
    environment: dict[str, str], recording: Path, store: Path, tmp_path: Path
) -> None:
    site = environment["PYTHONPATH"].split(os.pathsep)[0]
    other, copy = tmp_path / "site", tmp_path / "store"
    subprocess.run(["cp", "-r", site, other], check=True)
    subprocess.run(["cp", "-r", store, copy], check=True)
    (metadata,) = other.glob("*.dist-info/METADATA")
    metadata.write_text(metadata.read_text().replace("Version: 1.0", "Version: 2.0"))
    source = other / "edgefilter_example" / "gain_drift.py"
    source.write_text(source.read_text().replace('"power", pa.float64()', '"power", pa.float32()'))
    newer = environment | {"PYTHONPATH": environment["PYTHONPATH"].replace(site, str(other))}
    edgefilter(newer, "replay", recording, "--store", copy, "--no-report", *SETTINGS)
    assert verify(connect(copy)).problems == []
    compact(connect(copy), "2100-01-01", 2e9)
    assert verify(connect(copy)).problems == []
    assert open_store(copy).table("gain_drift").num_rows == 12


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("stages.gain_drift.seconds=0", "stages.gain_drift.seconds is 0: Input should be greater than 0"),
        ("stages.gain_drift.minutes=1", "stages.gain_drift.minutes: no such setting"),
        ("stages.other.x=1", "stages: no stage 'other' is installed; installed: gain_drift"),
    ],
)
def test_a_mistake_in_the_settings_is_one_line(
    environment: dict[str, str], recording: Path, tmp_path: Path, setting: str, message: str
) -> None:
    said = edgefilter(environment, "replay", recording, "--store", tmp_path / "s", "--set", setting, status=1)
    assert said == f"edgefilter: settings: {message}\n"
    assert not (tmp_path / "s").exists()


def test_a_recording_in_its_format_is_reduced_like_any_other(
    plugin: ModuleType, environment: dict[str, str], store: Path, tmp_path: Path
) -> None:
    recording = import_module("edgefilter_example.recording")
    sky = make_sky()
    recording.write_recording(tmp_path / "sky.example", sky.stream, sky.read(0, sky.samples).data.tobytes())
    said = edgefilter(
        environment, "replay", tmp_path / "sky.example", "--store", tmp_path / "store", "--no-report", *SETTINGS
    )
    assert "pulses" in said or "candidates" in said
    archive = open_store(tmp_path / "store")
    assert set(archive.table("ledger").column("code").to_pylist()) == {CODE}
    assert archive.table("gain_drift").column("power") == open_store(store).table("gain_drift").column("power")


def test_a_damaged_recording_is_one_line(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "sky.example").write_bytes(b"EXAMPLE1\xff\0\0\0{}")
    said = edgefilter(environment, "replay", tmp_path / "sky.example", "--store", tmp_path / "store", status=1)
    assert said.count("\n") == 1
    assert "sky.example" in said


def test_a_node_receives_its_packets_and_gives_the_store_of_a_replay(
    plugin: ModuleType, environment: dict[str, str], tmp_path: Path
) -> None:
    packets, recording = (import_module(f"edgefilter_example.{name}") for name in ("packets", "recording"))
    sky = make_sky()
    data = sky.read(0, sky.samples).data
    recording.write_recording(tmp_path / "sky.example", sky.stream, data.tobytes())
    edgefilter(
        environment, "replay", tmp_path / "sky.example", "--store", tmp_path / "replayed", "--no-report", *SETTINGS
    )
    node = Node(
        tmp_path,
        **{
            "block": {"rows": 1024},
            "stages.gain_drift": {"seconds": 0.5},
            "pulses": {"dm": [0.0, 300.0], "widths": 6, "bands": 4},
            "input": {"endpoint": "exampleudp://127.0.0.1:*"},
        },
    )
    with node, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        host, port = node.endpoint.removeprefix("exampleudp://").split(":")

        def send(kind: bytes, number: int, payload: bytes = b"") -> None:
            sender.sendto(packets.PREFIX.pack(kind, number) + payload, (host, int(port)))

        def received(what: str, count: int) -> bool:
            return node.call("status")["streams"][0]["received"].get(what) == count

        send(packets.HEADER, 0, sky.stream.to_json().encode())
        for start in range(0, sky.samples, 500):
            send(packets.DATA, start, data[start : start + 500].tobytes())
            wait_for(partial(received, "samples", len(data[: start + 500])))  # UDP drops what finds no room
        send(b"what", 0)
        wait_for(partial(received, "malformed.magic", 1))
        send(packets.END, sky.samples)
        assert node.wait() == 0
    assert contents(tmp_path / "store") == contents(tmp_path / "replayed")
