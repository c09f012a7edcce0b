"""Endpoints: which live input serves one, which texts are ZeroMQ endpoints, and who can reach one.

The scheme of an endpoint is the name of a plug-in of group ``edgefilter.inputs``. No plug-in is imported
for a ZeroMQ endpoint.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgefilter.core.errors import ConfigError, PluginError
from edgefilter.core.version import __version__
from edgefilter.plugins import OWN_PACKAGE, Group, Plugin, get_plugin

_ZMQ_SCHEMES = ("tcp", "ipc")
_HOST_PORT = re.compile(r"(?P<host>\[[^\]]+\]|[^\s\[\]:/]+):(?P<port>\*|[0-9]{1,5})")
_PORTS = range(1 << 16)


@dataclass(frozen=True, slots=True)
class LiveInputSettings:
    """Settings of a live input.

    Parameters
    ----------
    endpoint
        Where to listen, such as ``tcp://127.0.0.1:5555``; with port ``*`` the system chooses the port.
    name
        Name of the stream in the node.
    insecure
        Whether other machines may reach the endpoint without encryption.
    options
        Options of the plug-in, as they are in the configuration.
    connect, curve_key, curve_clients
        Settings of ZeroMQ: connect to the endpoint instead of binding it; the node's ``.key_secret`` file and the
        folder of the senders' ``.key`` files, None is without CURVE.
    """

    endpoint: str
    name: str = "main"
    insecure: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    connect: bool = False
    curve_key: str | None = None
    curve_clients: str | None = None


def is_zmq(endpoint: str) -> bool:
    """Tell whether an endpoint is of ZeroMQ.

    Parameters
    ----------
    endpoint
        The endpoint.

    Returns
    -------
    bool
        Whether its scheme is one of ZeroMQ's.
    """
    return endpoint.partition("://")[0] in _ZMQ_SCHEMES


def find_input(endpoint: str) -> Plugin:
    """Find the live input that serves an endpoint; nothing of it is imported.

    Parameters
    ----------
    endpoint
        The endpoint.

    Returns
    -------
    Plugin
        A plug-in of group ``edgefilter.inputs``.

    Raises
    ------
    ConfigError
        If the text has no scheme.
    PluginError
        If no installed package brings an input of this scheme.
    """
    scheme, separator, _ = endpoint.partition("://")
    if is_zmq(endpoint):
        # Not looked up: that takes 60 ms of the receiver's start, and edgefilter's own inputs have precedence.
        return Plugin(Group.INPUTS, scheme, OWN_PACKAGE, __version__, "edgefilter.sources.live.zmq_input:ZmqInput")
    if not separator:
        raise ConfigError(f"endpoint is {endpoint!r}, must be tcp://HOST:PORT, ipc://PATH, or that of a plug-in")
    try:
        return get_plugin(Group.INPUTS, scheme)
    except PluginError as error:
        raise PluginError(f"endpoint is {endpoint!r}: {error}") from None


def input_packages(endpoint: str) -> tuple[str, ...]:
    """Return the packages that the samples of an endpoint depend on, besides edgefilter.

    Parameters
    ----------
    endpoint
        The endpoint.

    Returns
    -------
    tuple of str
        Package and version of the plug-in that receives them; empty for ZeroMQ.

    Raises
    ------
    EdgefilterError
        As :func:`find_input`.
    """
    plugin = find_input(endpoint)
    return () if plugin.own else (plugin.provenance,)


def check_input(settings: LiveInputSettings) -> None:
    """Check the settings of a live input, as far as that is possible without opening it.

    Parameters
    ----------
    settings
        The settings.

    Raises
    ------
    ConfigError
        If a setting is not possible; one line for each mistake.
    PluginError
        If the endpoint is that of a plug-in which is not installed or cannot be used.
    """
    if is_zmq(settings.endpoint):
        check_zmq_input(settings)
        return
    plugin = find_input(settings.endpoint)
    if settings.connect or settings.curve_key is not None:
        raise ConfigError("connect, curve_key and curve_clients are settings of tcp and ipc endpoints")
    check = getattr(plugin.load(), "check", None)
    if not callable(check):
        raise PluginError(f"{plugin.title}: {plugin.target} must be a subclass of LiveInput")
    with plugin.errors_in_one_line():
        check(settings)


def check_zmq_input(settings: LiveInputSettings) -> None:
    """Check the settings of a ZeroMQ input.

    Parameters
    ----------
    settings
        The settings.

    Raises
    ------
    ConfigError
        If a setting is not possible.
    """
    check_endpoint(settings.endpoint)
    if (settings.curve_key is None) != (settings.curve_clients is None):
        raise ConfigError("curve_key and curve_clients must be given together")
    if not (settings.curve_key is not None or settings.insecure or is_local(settings.endpoint)):
        raise ConfigError(
            f"endpoint {settings.endpoint!r} can be reached from other machines: give curve_key and curve_clients "
            "(edgefilter keys makes them), use a loopback or ipc endpoint, or say insecure = true"
        )
    if settings.options:
        raise ConfigError(f"{settings.endpoint}: options: a ZeroMQ endpoint has none")


def check_endpoint(endpoint: str) -> None:
    """Check that a text is a ZeroMQ endpoint that a node can bind or connect to.

    Parameters
    ----------
    endpoint
        ``tcp://HOST:PORT`` with a port up to 65535 (or ``*`` for any), or ``ipc://PATH``.

    Raises
    ------
    ConfigError
        If it is neither.
    """
    scheme, _, rest = endpoint.partition("://")
    if not is_zmq(endpoint) or not rest:
        raise ConfigError(f"endpoint is {endpoint!r}, must be tcp://HOST:PORT or ipc://PATH")
    if scheme == "tcp":
        parse_host_port(endpoint)


def parse_host_port(endpoint: str) -> tuple[str, int]:
    """Split an endpoint ``SCHEME://HOST:PORT``.

    Parameters
    ----------
    endpoint
        The endpoint, with a port up to 65535 or ``*`` for any.

    Returns
    -------
    host, port
        The host without brackets, and the port; 0 for ``*``.

    Raises
    ------
    ConfigError
        If the text is something else.
    """
    scheme, _, rest = endpoint.partition("://")
    found = _HOST_PORT.fullmatch(rest)
    port = 0 if found is None or found["port"] == "*" else int(found["port"])
    if found is None or port not in _PORTS:
        raise ConfigError(
            f"endpoint is {endpoint!r}, must be {scheme}://HOST:PORT with a port up to 65535, or * for any"
        )
    return found["host"].strip("[]"), port


def is_local(endpoint: str) -> bool:
    """Tell whether only this machine can reach an endpoint.

    Parameters
    ----------
    endpoint
        ``ipc://PATH``, or one that :func:`parse_host_port` accepts.

    Returns
    -------
    bool
        True for ``ipc`` and for loopback addresses; False for other addresses and for host names.
    """
    if endpoint.startswith("ipc://"):
        return True
    host, _ = parse_host_port(endpoint)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name or an interface
