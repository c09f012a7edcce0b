"""ZeroMQ endpoints: which texts are valid, and whether other machines can reach one."""

import ipaddress
import re

from edgefilter.core.errors import ConfigError

_TCP = re.compile(r"(?P<host>\[[^\]]+\]|[^\s\[\]:/]+):(?P<port>\*|[0-9]{1,5})")
_PORTS = range(1 << 16)


def check_endpoint(endpoint: str) -> None:
    """Check that a text is an endpoint that a node can bind or connect to.

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
    if scheme not in ("tcp", "ipc") or not rest:
        raise ConfigError(f"endpoint is {endpoint!r}, must be tcp://HOST:PORT or ipc://PATH")
    if scheme == "tcp":
        found = _TCP.fullmatch(rest)
        if found is None or (found["port"] != "*" and int(found["port"]) not in _PORTS):
            raise ConfigError(
                f"endpoint is {endpoint!r}, must be tcp://HOST:PORT with a port up to 65535, or * for any"
            )


def is_local(endpoint: str) -> bool:
    """Tell whether only this machine can reach an endpoint.

    Parameters
    ----------
    endpoint
        One that :func:`check_endpoint` accepts.

    Returns
    -------
    bool
        True for ``ipc`` and for loopback addresses; False for other addresses and for host names.
    """
    scheme, _, rest = endpoint.partition("://")
    if scheme != "tcp":
        return True
    host = rest.rsplit(":", 1)[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name or an interface


def check_encryption(endpoint: str, curve: bool, insecure: bool) -> None:
    """Check that an endpoint which other machines can reach is encrypted, or is declared insecure.

    Parameters
    ----------
    endpoint
        One that :func:`check_endpoint` accepts.
    curve
        Whether CURVE keys are configured.
    insecure
        Whether the configuration allows it to be open.

    Raises
    ------
    ConfigError
        If other machines can reach it, and it is neither encrypted nor allowed to be open.
    """
    if not (curve or insecure or is_local(endpoint)):
        raise ConfigError(
            f"endpoint {endpoint!r} can be reached from other machines: give curve_key and curve_clients "
            "(edgefilter keys makes them), use a loopback or ipc endpoint, or say insecure = true"
        )
