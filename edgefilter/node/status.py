"""Status of a node, and of one of its processes, as plain data for health pages, metrics and ``edgefilter status``."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from edgefilter.core.version import __version__
from edgefilter.node.ipc import Message

_REDUCER_FIELDS = (
    "stream", "settings", "code", "lag_seconds", "behind_sky_seconds", "ring_seconds", "ring_capacity_seconds",
    "latency_seconds", "next_sample", "backend",
)  # fmt: skip


def node_status(node: str, problems: Sequence[str], streams: Sequence[Message], spool: Message) -> Message:
    """Return a status, without what only a supervisor knows.

    Parameters
    ----------
    node
        Name of the node.
    problems
        Why it is not ready.
    streams
        Status of each stream, from :func:`stream_status`.
    spool
        State of the forwarder.

    Returns
    -------
    Message
        JSON types only.
    """
    return {
        "node": node,
        "version": __version__,
        "ready": not problems,
        "problems": list(problems),
        "streams": list(streams),
        "spool": spool,
        "restarts": {},
        "upgrades": {},
    }


def stream_status(
    name: str, reducer: Message, received: Mapping[str, int], endpoint: str = "", problem: str = ""
) -> Message:
    """Return the status of a stream.

    Parameters
    ----------
    name
        Name of the stream in the node.
    reducer
        State of its reducer; empty if it is unknown.
    received
        Counters of its receivers by name.
    endpoint
        Where a receiver listens for it.
    problem
        Why no products are made of it.

    Returns
    -------
    Message
        JSON types only.
    """
    return {
        "name": name,
        "endpoint": endpoint,
        "phase": reducer.get("phase", "starting"),
        "problem": problem or reducer.get("reason", ""),
        "received": dict(received),
        "rates": {},
        "account": reducer.get("tally", {}),
        **{key: reducer.get(key) for key in _REDUCER_FIELDS},
    }


def process_status(node: str, stream: str, state: Message) -> Message:
    """Return the status of one process of a node, in the form of the status of the node.

    Parameters
    ----------
    node
        Name of the node.
    stream
        Stream of a reducer; empty for other processes.
    state
        State of the process.

    Returns
    -------
    Message
        JSON types only.
    """
    streams = [
        stream_status(
            name,
            {"phase": _input_phase(fields)},
            flatten_counters(fields["counters"]),
            fields["endpoint"],
            _input_problem(fields),
        )
        for name, fields in state.get("inputs", {}).items()
    ]
    if stream:
        streams.append(stream_status(stream, state, {}))
    spool = state if "uploaded" in state else {}
    problems = [f"stream {status['name']}: {status['problem']}" for status in streams if status["problem"]]
    return node_status(node, problems + store_problems(spool), streams, spool)


def store_problems(forwarder: Message) -> list[str]:
    """Return why products do not reach the store.

    Parameters
    ----------
    forwarder
        State of the forwarder; empty if it is unknown.

    Returns
    -------
    list of str
        One line, or none.
    """
    return [] if forwarder.get("ready", True) else [f"the store does not accept products: {forwarder['reason']}"]


def _input_phase(fields: Message) -> str:
    if fields["header"] is None:
        return "waiting"
    return "ended" if fields["counters"]["ended"] else "receiving"


def _input_problem(fields: Message) -> str:
    return "no reducer has made its ring yet" if fields["header"] and fields["head"] is None else ""


def flatten_counters(counters: Mapping[str, Any]) -> Counter[str]:
    """Flatten nested counters of a receiver: ``malformed.size``.

    Parameters
    ----------
    counters
        Counters, or groups of counters, by name.

    Returns
    -------
    Counter
        Counters by name.
    """
    found: Counter[str] = Counter()
    for name, value in counters.items():
        if isinstance(value, dict):
            found.update({f"{name}.{key}": count for key, count in value.items()})
        else:
            found[name] = int(value)
    return found
