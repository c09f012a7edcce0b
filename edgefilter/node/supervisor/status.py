"""Status of a running node, for ``edgefilter status``, ``/status``, ``/readyz`` and the metrics."""

import time

from edgefilter.node.ipc import Message
from edgefilter.node.status import node_status, store_problems, stream_status
from edgefilter.node.supervisor.child import Child
from edgefilter.node.supervisor.node_state import NodeState
from edgefilter.node.supervisor.streams import NodeStream


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
    problems += store_problems(forwarder)
    if node.draining:
        problems.append("the node is draining")
    return node_status(node.config.node.name, problems, streams, forwarder) | {
        "uptime_seconds": round(time.monotonic() - node.start_time, 1),
        "health_port": node.health_port,
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
    fields = stream_status(stream.name, reducer, stream.counters, stream.endpoint, problem) | {
        "policy": stream.config.input.policy,
        "rates": stream.rates,
        "python": stream.python,
    }
    if stream.finished or stream.refused:
        fields["phase"] = "finished" if stream.finished else "refused"
    return fields
