"""What may be an endpoint, and who can reach it."""

import pytest

from edgefilter.core.endpoint import LiveInputSettings, check_endpoint, check_input, is_local
from edgefilter.core.errors import ConfigError


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
