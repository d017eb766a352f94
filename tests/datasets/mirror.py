"""A local HTTP server that serves files, and misbehaves in every way of FAULTS.md's row F4."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGE = b"<!DOCTYPE html><html><title>Sign in to the network</title></html>"


@dataclass
class Mirror:
    """What one address serves.

    Attributes:
        files: content by name.
        fault: how it serves them; see `_Handler.do_GET`.
        url: the address, with a slash at its end.
        asked: the names that were asked for, in order.
    """

    files: dict[str, bytes]
    fault: str = "none"
    url: str = ""
    asked: list[str] = field(default_factory=list)
    target: str = ""


class _Handler(BaseHTTPRequestHandler):
    mirror: Mirror

    def log_message(self, format: str, *arguments: object) -> None:
        """Keep quiet."""

    def answer(self, status: int, body: bytes, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if length is None or length >= 0:
            self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        name = self.path.rsplit("/", 1)[-1]
        self.mirror.asked.append(name)
        body, fault = self.mirror.files.get(name, b""), self.mirror.fault
        if fault in ("403", "404", "500"):
            self.answer(int(fault), PAGE)
        elif fault == "web page":
            self.answer(200, PAGE)
        elif fault == "half":
            self.answer(200, body[: len(body) // 2], length=len(body))
        elif fault == "half without a length":
            self.answer(200, body[: len(body) // 2], length=-1)
        elif fault == "bit":
            self.answer(200, body[:-9] + bytes([body[-9] ^ 1]) + body[-8:])
        elif fault == "other":
            self.answer(200, next(other for at, other in self.mirror.files.items() if at != name))
        elif fault == "empty":
            self.answer(200, b"")
        elif fault == "endless":
            self.answer(200, b"", length=-1)
            try:
                while True:
                    self.wfile.write(bytes(2**16))
            except OSError:
                return
        elif fault == "silent":
            self.answer(200, body[:10], length=len(body))
            self.wfile.flush()
            time.sleep(1.5)
        elif fault == "trickle":
            self.answer(200, b"", length=len(body))
            try:
                for at in range(len(body)):
                    self.wfile.write(body[at : at + 1])
                    self.wfile.flush()
                    time.sleep(0.02)
            except OSError:
                return
        elif fault == "garbage":
            self.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n")
        elif fault == "redirect":
            self.answer(302, b"", Location=self.mirror.target + name)
        else:
            self.answer(200, body)


@contextmanager
def serving(files: dict[str, bytes], fault: str = "none", target: str = "") -> Iterator[Mirror]:
    """Serve files while the `with` block runs."""
    mirror = Mirror(files, fault, target=target)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"mirror": mirror}))
    server.daemon_threads = True
    mirror.url = f"http://127.0.0.1:{server.server_address[1]}/data/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield mirror
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
