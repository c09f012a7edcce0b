"""Health of a node, or of one of its processes, over HTTP, on the loopback interface only.

``/healthz`` is 200 while the process works, ``/readyz`` is 200 while samples become products in the store,
``/status`` is the status as JSON, ``/metrics`` is for Prometheus.
"""

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, Histogram, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from edgefilter.core.errors import ConfigError
from edgefilter.node.ipc import Message

_HOST = "127.0.0.1"
_LATENCY_BUCKETS = (0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256)


class HttpServer:
    """The HTTP server of a node or of a process.

    Parameters
    ----------
    port
        Port on the loopback interface; with 0 the system chooses it, with None there is no server.
    streams
        Names of the streams whose latency it shows.
    get_status
        Returns the status (see :func:`~edgefilter.node.status.node_status`); called in the thread of the server. It
        raises TimeoutError if the process does not answer.
    """

    def __init__(self, port: int | None, streams: Sequence[str], get_status: Callable[[], Message]) -> None:
        self._port = port
        self._streams = streams
        self._get_status = get_status
        self._registry = CollectorRegistry()
        self._latency = Histogram(
            "edgefilter_latency_seconds",
            "Time from the arrival of a block's last sample to its products in the spool.",
            ["stream"],
            buckets=_LATENCY_BUCKETS,
            registry=self._registry,
        )
        self._registry.register(_StatusCollector(get_status))
        self._metrics = make_wsgi_app(self._registry)
        self._server: WSGIServer | None = None

    def open(self) -> int | None:
        """Serve, if a port is configured.

        Returns
        -------
        int or None
            The port.

        Raises
        ------
        ConfigError
            If the port is taken.
        """
        if self._port is None:
            return None
        for stream in self._streams:
            self._latency.labels(stream)
        try:
            self._server = make_server(_HOST, self._port, self._handle_request, handler_class=_SilentRequestHandler)
        except OSError as error:
            raise ConfigError(f"health port {self._port}: cannot be used: {error.strerror}") from None
        threading.Thread(target=self._server.serve_forever, name="health", daemon=True).start()
        return self._server.server_port

    def close(self) -> None:
        """Stop serving."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def observe_latency(self, stream: str, seconds: float | None) -> None:
        """Add the latency of a block to the histogram.

        Parameters
        ----------
        stream
            Name of the stream.
        seconds
            Latency, s; None if it is unknown.
        """
        if seconds is not None:
            self._latency.labels(stream).observe(seconds)

    def _handle_request(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        try:
            if path == "/metrics":
                response: Iterable[bytes] = self._metrics(environ, start)
                return response
            status = self._get_status()
        except TimeoutError:
            return _reply(start, "503 Service Unavailable", {"problems": ["the process does not answer"]})
        if path == "/healthz":
            return _reply(start, "200 OK", {"ok": True})
        if path == "/readyz":
            code = "200 OK" if status["ready"] else "503 Service Unavailable"
            return _reply(start, code, {"ready": status["ready"], "problems": status["problems"]})
        if path == "/status":
            return _reply(start, "200 OK", status)
        return _reply(start, "404 Not Found", {"paths": ["/healthz", "/readyz", "/status", "/metrics"]})


class _SilentRequestHandler(WSGIRequestHandler):
    """Logs no request."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        pass


def _reply(start: Callable[..., Any], code: str, body: Message) -> list[bytes]:
    start(code, [("Content-Type", "application/json")])
    return [json.dumps(body).encode() + b"\n"]


class _StatusCollector(Collector):
    """Reads the node's status when metrics are asked for."""

    def __init__(self, get_status: Callable[[], Message]) -> None:
        self._get_status = get_status

    def describe(self) -> list[Metric]:
        return []  # otherwise registering the collector would request the status

    def collect(self) -> Iterator[Metric]:
        status = self._get_status()
        yield _metric("ready", "Whether samples become products in the store.", [((), int(status["ready"]))])
        yield _metric("uptime_seconds", "Time since the process started.", [((), status["uptime_seconds"])])
        for name, text, label in (
            ("restarts", "Processes that were started again after they died or hung.", "role"),
            ("upgrades", "Attempts to replace a process.", "outcome"),
        ):
            yield _metric(name, text, [((key,), count) for key, count in status[name].items()], label, counts=True)
        for name, text in _SPOOL.items():
            yield _metric(f"spool_{name}", text, _single_value(status["spool"], name))
        for name, text in _STORE.items():
            yield _metric(f"store_{name}", text, _single_value(status["spool"], name), counts=True)
        yield from _stream_metrics(status["streams"])


_SPOOL = {
    "products": "Products that wait for the store.",
    "bytes": "Bytes of the products that wait for the store.",
    "stuck": "Quarantined products, which the store refuses permanently.",
    "dropped": "Products dropped because the spool was full, not yet listed in the store.",
}
_STORE = {
    "uploaded": "Products uploaded since the forwarder started.",
    "uploaded_bytes": "Bytes uploaded since the forwarder started.",
    "failed": "Failed uploads since the forwarder started.",
}
_GAUGES = {
    "lag_seconds": "Samples that have arrived and are not reduced yet, in seconds of the stream.",
    "behind_sky_seconds": "Time from the next sample to be reduced, by the stream's epoch, to now.",
    "ring_seconds": "Length of the samples in the ring.",
    "ring_capacity_seconds": "Capacity of the ring.",
}
_ARRIVED = ("bytes", "samples", "frames")
_REDUCED = (
    "blocks", "expected", "received", "candidates", "overflow", "bytes_in", "bytes_out", "card_blocks",
    "guarded_events", "guarded_flags", "guarded_cells",
)  # fmt: skip

Values = Sequence[tuple[tuple[str, ...], float]]


def _stream_metrics(streams: list[Message]) -> Iterator[Metric]:
    for name, text in _GAUGES.items():
        values = [((stream["name"],), stream[name]) for stream in streams if stream[name] is not None]
        yield _metric(name, text, values, "stream")
    backends = [((stream["name"], stream["backend"]), 1) for stream in streams if stream["backend"]]
    yield _metric("backend", "1 for the backend that reduces the stream, cpu or gpu.", backends, "stream", "backend")
    for name in _ARRIVED:
        rates = _values_by_stream(streams, "rates", name)
        yield _metric(f"received_{name}_per_second", f"Rate of received {name}, mean of some s.", rates, "stream")
        counts = _values_by_stream(streams, "received", name)
        yield _metric(f"received_{name}", f"Received {name}.", counts, "stream", counts=True)
    for name in _REDUCED:
        counts = _values_by_stream(streams, "account", name)
        yield _metric(f"reduced_{name}", "Sum over the ledger of this run.", counts, "stream", counts=True)
    refused: list[tuple[tuple[str, ...], float]] = []
    lost: list[tuple[tuple[str, ...], float]] = []
    rejected: list[tuple[tuple[str, ...], float]] = []
    for stream in streams:
        refused_counts = {name: count for name, count in stream["received"].items() if name not in _ARRIVED}
        refused += [((stream["name"], name), count) for name, count in refused_counts.items()]
        account = stream["account"].items()
        lost += [((stream["name"], name[5:]), count) for name, count in account if name.startswith("lost.")]
        rejected += [((stream["name"], name[9:]), count) for name, count in account if name.startswith("rejected.")]
    yield _metric("refused", "Samples and messages that the receiver refused.", refused, "stream", "what", counts=True)
    yield _metric("lost_samples", "Lost samples, by the ledger of this run.", lost, "stream", "reason", counts=True)
    text = "Events of the pulse search that are no candidates, by the ledger of this run."
    yield _metric("rejected_events", text, rejected, "stream", "reason", counts=True)


def _values_by_stream(streams: list[Message], group: str, name: str) -> Values:
    return [((stream["name"],), stream[group][name]) for stream in streams if name in stream[group]]


def _single_value(fields: Message, name: str) -> Values:
    return [((), fields[name])] if name in fields else []


def _metric(name: str, text: str, values: Values, *labels: str, counts: bool = False) -> Metric:
    kind = CounterMetricFamily if counts else GaugeMetricFamily
    metric = kind(f"edgefilter_{name}", text, labels=labels)
    for label, value in values:
        metric.add_metric(label, value)
    return metric
