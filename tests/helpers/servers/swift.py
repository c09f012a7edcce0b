"""OpenStack Swift: account, container, object and proxy server with the S3 layer, one of each."""

import getpass
import os
import re
import socket
import socketserver
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path

from tests.helpers.servers.process import Server, free_ports, run

_KEYS = "test:tester", "testing"
_KINDS = ("account", "container", "object")
_PIPELINE = "catch_errors gatekeeper healthcheck cache listing_formats bulk s3api tempauth slo dlo proxy-server"


class _MemcachedHandler(socketserver.StreamRequestHandler):
    """The part of memcached's text protocol that Swift uses."""

    values: dict[bytes, tuple[bytes, bytes, float]]
    lock: threading.Lock

    def handle(self) -> None:
        while line := self.rfile.readline():
            words = line.split()
            if not words:
                continue
            body = self.rfile.read(int(words[4]) + 2)[:-2] if words[0] in (b"set", b"add") else b""
            with self.lock:
                answer = self.answer(words, body)
            if words[-1] != b"noreply":
                self.wfile.write(answer)

    def answer(self, words: list[bytes], body: bytes) -> bytes:
        values, verb, key = self.values, words[0], words[1] if len(words) > 1 else b""
        unexpired = {k: v for k in words[1:] if (v := values.get(k)) and v[2] > time.time()}
        if verb in (b"set", b"add"):
            if verb == b"add" and key in unexpired:
                return b"NOT_STORED\r\n"
            seconds = int(words[3])
            ends = float("inf") if not seconds else seconds if seconds > 2592000 else time.time() + seconds
            values[key] = (words[2], body, ends)
            return b"STORED\r\n"
        if verb == b"get":
            found = (b"VALUE %s %s %d\r\n%s\r\n" % (k, v[0], len(v[1]), v[1]) for k, v in unexpired.items())
            return b"".join(found) + b"END\r\n"
        if verb == b"delete":
            return b"DELETED\r\n" if values.pop(key, None) else b"NOT_FOUND\r\n"
        if verb in (b"incr", b"decr"):
            if key not in unexpired:
                return b"NOT_FOUND\r\n"
            step = int(words[2]) * (1 if verb == b"incr" else -1)
            count = b"%d" % max(0, int(unexpired[key][1]) + step)
            values[key] = (unexpired[key][0], count, unexpired[key][2])
            return count + b"\r\n"
        return b"TOUCHED\r\n" if verb == b"touch" else b"ERROR\r\n"


class _MemcachedServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


def start(root: Path, stack: ExitStack) -> Server:
    """Start Swift with its data in ``root``, which must support user attributes; closing the stack kills it."""
    from swift.common.ring import RingBuilder

    os.setxattr(root, "user.probe", b"x" * 1024)
    handler = type("Handler", (_MemcachedHandler,), {"values": {}, "lock": threading.Lock()})
    cache = stack.enter_context(_MemcachedServer(("127.0.0.1", 0), handler))
    threading.Thread(target=cache.serve_forever, daemon=True).start()
    stack.callback(cache.shutdown)
    ports = dict(zip((*_KINDS, "proxy"), free_ports(4), strict=True))
    for kind in _KINDS:
        builder = RingBuilder(4, 1, 0)
        (root / "srv" / "disk").mkdir(parents=True, exist_ok=True)
        where = {"ip": "127.0.0.1", "port": ports[kind]}
        where |= {f"replication_{name}": value for name, value in where.items()}
        builder.add_dev({"id": 0, "region": 1, "zone": 1, "device": "disk", "weight": 1, "meta": "", **where})
        builder.rebalance()
        builder.get_ring().save(str(root / f"{kind}.ring.gz"))
    _configure(root, ports, cache.server_address[1])
    for kind in (*_KINDS, "proxy"):
        _run_server(root, kind, f"{kind}-server.conf", stack)
    server = Server(f"http://127.0.0.1:{ports['proxy']}", *_KEYS)
    server.wait(
        lambda: all(_is_healthy(ports[kind]) for kind in _KINDS) and _is_listening(ports["proxy"]), root / "log"
    )
    return server


def start_tls_proxy(root: Path, stack: ExitStack, certificate: Path, key: Path) -> Server:
    """Start a second proxy server, with TLS, of the Swift in ``root``; closing the stack kills it."""
    (port,) = free_ports(1)
    settings = (root / "proxy-server.conf").read_text()
    tls = f"bind_port = {port}\ncert_file = {certificate}\nkey_file = {key}"
    (root / "tls-server.conf").write_text(re.sub(r"bind_port = \d+", tls, settings))
    _run_server(root, "proxy", "tls-server.conf", stack)
    server = Server(f"https://127.0.0.1:{port}", *_KEYS)
    server.wait(lambda: _is_listening(port), root / "log")
    return server


def _run_server(root: Path, kind: str, settings: str, stack: ExitStack) -> None:
    program = Path(sys.executable).parent / f"swift-{kind}-server"
    run(stack, [str(program), str(root / settings), "-v"], root / "log")


def _is_healthy(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/healthcheck", timeout=1).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def _is_listening(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _configure(root: Path, ports: dict[str, int], cache: int) -> None:
    common = f"bind_ip = 127.0.0.1\nworkers = 0\nuser = {getpass.getuser()}\nswift_dir = {root}\nlog_level = WARNING\n"
    (root / "swift.conf").write_text(
        "[swift-hash]\nswift_hash_path_prefix = a\nswift_hash_path_suffix = b\n"
        "[storage-policy:0]\nname = Policy-0\ndefault = yes\n"
    )
    (root / "cache").mkdir(exist_ok=True)
    for kind in _KINDS:
        (root / f"{kind}-server.conf").write_text(
            f"[DEFAULT]\n{common}bind_port = {ports[kind]}\ndevices = {root}/srv\nmount_check = false\n"
            f"disable_fallocate = true\nfallocate_reserve = 0\n[pipeline:main]\npipeline = {kind}-server\n"
            f"[app:{kind}-server]\nuse = egg:swift#{kind}\nrecon_cache_path = {root}/cache\n"
        )
    filters = "".join(
        f"[filter:{name}]\nuse = egg:swift#{'memcache' if name == 'cache' else name}\n"
        + {
            "cache": f"memcache_servers = 127.0.0.1:{cache}\n",
            "s3api": "s3_acl = no\nlocation = us-east-1\n",
            "tempauth": "user_test_tester = testing .admin\n",
        }.get(name, "")
        for name in _PIPELINE.split()[:-1]
    )
    (root / "proxy-server.conf").write_text(
        f"[DEFAULT]\n{common}bind_port = {ports['proxy']}\n[pipeline:main]\npipeline = {_PIPELINE}\n"
        "[app:proxy-server]\nuse = egg:swift#proxy\nallow_account_management = true\naccount_autocreate = true\n"
        + filters
    )
