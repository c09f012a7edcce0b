"""A proxy in front of an object store that simulates faults of networks and servers."""

import http.client
import socket
import struct
import threading
from collections import deque
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from tests.helpers.servers.process import Server

FAULTS = ("500", "503", "truncated", "cut", "stall", "wrong checksum", "lost answer")
"""Faults of a PUT; see :class:`_Handler`."""


class FaultProxy:
    """Passes requests on, with planned faults of the next PUTs.

    While ``refuse_all`` is set, all connections are reset. Busy answers carry ``retry_after``. With
    ``no_conditional_requests`` the server does not implement conditional requests.
    """

    def __init__(self, server: Server, stack: ExitStack, retry_after: str = "0") -> None:
        self.faults: deque[str] = deque()
        self.applied: list[str] = []
        self.refuse_all = threading.Event()
        self.closing = threading.Event()
        self.busy = False
        self.no_conditional_requests = False
        self.retry_after = retry_after
        self.upstream = urlsplit(server.endpoint).netloc
        handler = type("Handler", (_Handler,), {"proxy": self})
        listener = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        listener.daemon_threads = True
        threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        stack.callback(listener.server_close)
        stack.callback(listener.shutdown)
        stack.callback(self.closing.set)
        self.server = Server(f"http://127.0.0.1:{listener.server_address[1]}", server.key, server.secret)

    def plan(self, faults: Iterable[str]) -> None:
        """Plan the faults of the next PUTs; an empty string passes one on."""
        self.faults.extend(faults)


class _Handler(BaseHTTPRequestHandler):
    proxy: FaultProxy
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        try:
            fault = self.proxy.faults.popleft()
        except IndexError:
            fault = ""
        if fault:
            self.proxy.applied.append(fault)
        if fault == "cut":  # in the middle of the body
            self.rfile.read(length // 2)
            return self.reset()
        body = self.rfile.read(length)
        if self.proxy.no_conditional_requests and "If-None-Match" in self.headers:
            return self.refuse(501)
        if fault == "stall":  # until the client has given up
            self.proxy.closing.wait(10)
            return self.reset()
        if fault in ("500", "503"):
            self.proxy.busy = fault == "503"
            return self.refuse(int(fault))
        if fault == "truncated":
            self.relay(body[: length // 2], length)
            return self.reset()
        if fault == "lost answer":
            self.relay(body, length)
            return self.reset()
        return self.answer(*self.relay(body, length), wrong=fault == "wrong checksum")

    def do_any(self) -> None:
        if self.proxy.busy and self.command == "HEAD":  # asked how long to wait
            self.proxy.busy = False
            return self.refuse(503)
        length = int(self.headers.get("Content-Length", 0))
        return self.answer(*self.relay(self.rfile.read(length), length))

    do_GET = do_HEAD = do_POST = do_DELETE = do_any  # noqa: N815 - as the base class names them

    def parse_request(self) -> bool:
        if self.proxy.refuse_all.is_set():
            self.reset()
            return False
        return super().parse_request()

    def relay(self, body: bytes, length: int) -> tuple[int, list[tuple[str, str]], bytes]:
        upstream = http.client.HTTPConnection(self.proxy.upstream, timeout=30)
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() != "expect":
                    upstream.putheader(name, value)
            upstream.endheaders()
            upstream.send(body)
            if len(body) < length:
                return 0, [], b""  # the server sees a body that ends too early
            response = upstream.getresponse()
            return response.status, response.getheaders(), response.read()
        finally:
            upstream.close()

    def answer(self, status: int, headers: list[tuple[str, str]], body: bytes, wrong: bool = False) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() in ("connection", "transfer-encoding") or (name.lower() == "content-length" and body):
                continue
            self.send_header(name, '"' + "0" * 32 + '"' if wrong and name.lower() == "etag" else value)
        if body:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, status: int) -> None:
        self.send_response_only(status)
        self.send_header("Content-Length", "0")
        if status == 503:
            self.send_header("Retry-After", self.proxy.retry_after)
        self.end_headers()

    def reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:
            self.close_connection = True

    def finish(self) -> None:
        with suppress(OSError, ValueError):
            super().finish()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base class names it
        pass
