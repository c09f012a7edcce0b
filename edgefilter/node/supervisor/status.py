"""Status of a node as plain data, for ``edgefilter status``, ``/status``, ``/readyz`` and the metrics."""

import time

from edgefilter.core.version import __version__
from edgefilter.node.ipc import Message
from edgefilter.node.supervisor.child import Child
from edgefilter.node.supervisor.node_state import NodeState
from edgefilter.node.supervisor.streams import NodeStream

_REDUCER_FIELDS = (
    "stream", "settings", "code", "lag_seconds", "behind_sky_seconds", "ring_seconds", "ring_capacity_seconds",
    "latency_seconds", "next_sample", "backend",
)  # fmt: skip


def status(node: NodeState) -> Message:
    """Return the status of a node.

    Parameters
    ----------
    node
        The node.

    Returns
    -------
    Message
        JSON types only; what ``edgefilter status --json`` prints.
    """
    streams = [_stream(stream) for stream in node.streams]
    forwarder = node.forwarder.state if node.forwarder is not None else {}
    problems = [f"stream {stream['name']}: {why}" for stream in streams if (why := stream["problem"])]
    if node.receiver is None or not node.receiver.ready:
        problems.append("the receiver does not listen")
    if not forwarder.get("ready", True):
        problems.append(f"the store does not accept products: {forwarder['reason']}")
    if node.draining:
        problems.append("the node is draining")
    return {
        "node": node.config.node.name,
        "version": __version__,
        "ready": not problems,
        "problems": problems,
        "uptime_seconds": round(time.monotonic() - node.start_time, 1),
        "health_port": node.health_port,
        "streams": streams,
        "spool": forwarder,
        "restarts": dict(node.restarts),
        "upgrades": dict(node.replaced),
        "processes": [_process(child) for child in node.children.all.values()],
    }


def _process(child: Child) -> Message:
    return {
        "name": child.name,
        "role": child.role,
        "pid": child.pid,
        "version": child.version,
        "python": child.python,
        "ready": child.ready,
        "leaving": child.stopping,
        "seconds": round(time.monotonic() - child.start_time, 1),
    }


def _stream(stream: NodeStream) -> Message:
    reducer = stream.reducer.state if stream.reducer is not None else {}
    problem = stream.refused or reducer.get("reason", "")
    if not problem and stream.reducer is not None and stream.reducer.ended.done() and not stream.finished:
        problem = stream.reducer.why
    return {
        "name": stream.name,
        "endpoint": stream.endpoint,
        "phase": "finished" if stream.finished else "refused" if stream.refused else reducer.get("phase", "starting"),
        "problem": problem,
        "policy": stream.config.input.policy,
        "received": dict(stream.counters),
        "rates": stream.rates,
        "account": reducer.get("tally", {}),
        "python": stream.python,
        **{key: reducer.get(key) for key in _REDUCER_FIELDS},
    }
