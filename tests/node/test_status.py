"""The status of one process of a node, in the form of the status of the node."""

from edgefilter.node.status import process_status


def test_a_receiver_says_what_each_stream_does() -> None:
    counters = {"samples": 5, "malformed": {"size": 2}, "ended": False}
    fields = {"endpoint": "tcp://127.0.0.1:1", "header": None, "head": None, "counters": counters}
    states = {
        "waiting": fields,
        "receiving": fields | {"header": "{}", "head": 5},
        "ended": fields | {"header": "{}", "head": 5, "counters": counters | {"ended": True}},
        "without": fields | {"header": "{}"},
    }
    status = process_status("node", "", {"inputs": states})
    assert [stream["phase"] for stream in status["streams"]] == ["waiting", "receiving", "ended", "receiving"]
    assert status["streams"][0]["received"]["malformed.size"] == 2
    assert status["problems"] == ["stream without: no reducer has made its ring yet"]
    assert not status["ready"]
