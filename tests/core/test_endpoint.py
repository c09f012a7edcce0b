"""What may be an endpoint, who can reach it, and which live input serves it."""

import sys
from pathlib import Path

import pytest

from edgefilter.core.endpoint import (
    LiveInputSettings,
    check_endpoint,
    check_input,
    find_input,
    input_packages,
    is_local,
    parse_host_port,
)
from edgefilter.core.errors import ConfigError, EdgefilterError
from edgefilter.plugins import Group, find_plugins
from edgefilter.sources.live.zmq_input import ZmqInput
from tests.helpers.packages import make_package


@pytest.mark.parametrize(
    ("endpoint", "local"),
    [
        ("tcp://127.0.0.1:0", True),
        ("tcp://127.9.9.9:65535", True),
        ("tcp://[::1]:*", True),
        ("tcp://localhost:7214", True),
        ("ipc:///run/edgefilter/in", True),
        ("tcp://*:7214", False),
        ("tcp://0.0.0.0:7214", False),
        ("tcp://[::]:7214", False),
        ("tcp://eth0:7214", False),
        ("tcp://10.0.0.1:7214", False),
        ("tcp://localhost.example.org:7214", False),
    ],
)
def test_endpoints_are_local_or_not(endpoint: str, local: bool) -> None:
    check_endpoint(endpoint)
    assert is_local(endpoint) == local
    check_input(LiveInputSettings(endpoint, curve_key="node.key_secret", curve_clients="clients"))
    check_input(LiveInputSettings(endpoint, insecure=True))
    if not local:
        with pytest.raises(ConfigError, match="can be reached from other machines"):
            check_input(LiveInputSettings(endpoint))


@pytest.mark.parametrize(
    "endpoint",
    ["", "tcp", "tcp://", "ipc://", "inproc://x", "udp://h:1", "tcp://h", "tcp://h:", "tcp://:1", "tcp://h:-1",
     "tcp://h:65536", "tcp://h:1x", "tcp://h:1:2", "tcp://a b:1", "tcp://::1:1", "tcp://h:123456"],
)  # fmt: skip
def test_what_is_no_endpoint_is_told(endpoint: str) -> None:
    with pytest.raises(ConfigError, match="endpoint is "):
        check_endpoint(endpoint)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with packages: one brings udp, the others are broken."""
    targets = {
        "udp": "tests.helpers.udp_input:UdpInput",
        "absent": "no_such_module:Input",
        "function": "os:getcwd",
        "explodes": "exploding_input:Input",
        "tcp": "no_such_module:Input",
    }
    (tmp_path / "exploding_input.py").write_text("class Input:\n    def check(settings):\n        {}[settings.name]\n")
    monkeypatch.syspath_prepend(make_package(tmp_path, "radio", {"edgefilter.inputs": targets}, "2.5"))
    monkeypatch.delitem(sys.modules, "exploding_input", raising=False)
    return tmp_path


@pytest.mark.parametrize("scheme", ["tcp", "ipc"])
def test_zmq_is_registered_as_the_inputs_of_others_are(scheme: str) -> None:
    plugin = find_input(f"{scheme}://127.0.0.1:1")
    assert plugin == find_plugins(Group.INPUTS)[scheme]
    assert plugin.load() is ZmqInput


def test_zmq_needs_no_plugin_of_others(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even their list: the metadata of a package may be damaged."""
    monkeypatch.setattr("importlib.metadata.entry_points", None)
    check_input(LiveInputSettings("tcp://127.0.0.1:7214"))
    assert find_input("tcp://127.0.0.1:7214").own


def test_the_packages_of_an_input_are_named(site: Path) -> None:
    assert input_packages("tcp://127.0.0.1:7214") == ()
    assert input_packages("udp://127.0.0.1:4000") == ("radio 2.5",)


def test_an_input_of_others_checks_its_settings(site: Path) -> None:
    check_input(LiveInputSettings("udp://127.0.0.1:4000", options={"rate_hz": 1000}))
    check_input(LiveInputSettings("udp://10.0.0.1:4000", options={"rate_hz": 1000}, insecure=True))


RATE = {"rate_hz": 1}


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            LiveInputSettings("spead://h:1"),
            "endpoint is 'spead://h:1': no live input 'spead' is installed; installed: ipc, tcp, absent, explodes, "
            "function, udp",
        ),
        (
            LiveInputSettings("spead"),
            "endpoint is 'spead', must be tcp://HOST:PORT, ipc://PATH, or that of a plug-in",
        ),
        (
            LiveInputSettings("absent://h:1"),
            "live input 'absent' of radio 2.5 cannot be loaded from no_such_module:Input: ModuleNotFoundError: No "
            "module named 'no_such_module'",
        ),
        (
            LiveInputSettings("function://h:1"),
            "live input 'function' of radio 2.5: os:getcwd must be a subclass of LiveInput",
        ),
        (
            LiveInputSettings("explodes://h:1"),
            "live input 'explodes' of radio 2.5 failed: KeyError: 'main' (exploding_input.py:3)",
        ),
        (
            LiveInputSettings("udp://127.0.0.1"),
            "endpoint is 'udp://127.0.0.1', must be udp://HOST:PORT with a port up to 65535, or * for any",
        ),
        (
            LiveInputSettings("udp://0.0.0.0:1", options=RATE),
            "endpoint 'udp://0.0.0.0:1' can be reached from other machines without encryption: use a loopback address, "
            "or say insecure = true",
        ),
        (
            LiveInputSettings("udp://127.0.0.1:1", options={"rate_hz": 0, "rat": 1}),
            "udp://127.0.0.1:1: options.rate_hz is 0: Input should be greater than 0\n"
            "udp://127.0.0.1:1: options.rat: no such setting",
        ),
        (
            LiveInputSettings("udp://127.0.0.1:1", options=RATE, connect=True),
            "connect, curve_key and curve_clients are settings of tcp and ipc endpoints",
        ),
        (
            LiveInputSettings("udp://127.0.0.1:1", options=RATE, curve_key="node", curve_clients="clients"),
            "connect, curve_key and curve_clients are settings of tcp and ipc endpoints",
        ),
        (
            LiveInputSettings("tcp://127.0.0.1:1", options=RATE),
            "tcp://127.0.0.1:1: options: a ZeroMQ endpoint has none",
        ),
    ],
)
def test_a_mistake_is_one_line(site: Path, settings: LiveInputSettings, line: str) -> None:
    with pytest.raises(EdgefilterError) as caught:
        check_input(settings)
    assert str(caught.value) == line


def test_host_and_port_are_told_apart() -> None:
    assert parse_host_port("udp://[::1]:4000") == ("::1", 4000)
    assert parse_host_port("udp://localhost:*") == ("localhost", 0)
