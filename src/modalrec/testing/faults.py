"""A proxy that fails on demand: put it before a real HTTP service to see how its client takes faults."""

import contextlib
import http.client
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import BaseServer
from urllib.parse import urlsplit

PAGE = b"<!DOCTYPE html><html><body><p>Please log in</body></html>"
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


@dataclass
class Fault:
    """One way to fail.

    Attributes:
        kind: `status` (an error of this HTTP status), `empty` (200 without a body), `truncate` (half of the body, then
            the connection closes), `short` (half of the body as if it were all), `corrupt` (one bit flipped), `reset`
            (the connection is reset), `hang` (no answer for `seconds`), `lost` (200, and the service never sees it),
            `cut` (the service gets half of what is sent, then both connections are lost), `drip` (the body comes a byte
            at a time, for `seconds` in all), `page` (200 with a page of HTML, as proxies ask for a name with).
        times: How often to fail; -1 for ever.
        method: The requests to hit.
        path: Text that their path contains.
        status: For `status`.
        seconds: For `hang` and `drip`.
    """

    kind: str
    times: int = 1
    method: str = "GET"
    path: str = ""
    status: int = 500
    seconds: float = 5


class FaultServer(ThreadingHTTPServer):
    """Passes requests on to a service, but for those that a fault in `faults` hits.

    Attributes:
        url: Where to send requests instead of to the service.
        faults: The faults in wait; the first that fits is taken.
        requests: "METHOD path" of all requests seen.
    """

    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urlsplit(upstream).netloc
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self._lock = threading.Lock()

    def take(self, method: str, path: str) -> Fault | None:
        """The fault for a request, one of its times used up."""
        with self._lock:
            self.requests.append(f"{method} {path}")
            for fault in self.faults:
                if fault.times and fault.method == method and fault.path in path:
                    fault.times -= 1
                    return fault
        return None

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that go away are part of the plan."""


@contextmanager
def faulty(upstream: str, *faults: Fault) -> Iterator[FaultServer]:
    """Runs a `FaultServer` before a service given by its URL."""
    server = FaultServer(upstream)
    server.faults = list(faults)
    with running(server):
        yield server


@contextmanager
def running(server: BaseServer) -> Iterator[None]:
    """Serves in a thread of its own until the block ends."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultServer

    def _serve(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.take(self.command, self.path)
        if fault is None:
            status, headers, body = self._forward(content)
            return self._answer(status, headers, body)
        if fault.kind == "hang":
            time.sleep(fault.seconds)
        if fault.kind == "cut":
            self._forward_half(content)
        if fault.kind in ("hang", "reset", "cut"):
            return self._reset()
        if fault.kind in ("status", "lost"):
            return self._answer(fault.status if fault.kind == "status" else 200, [], b"")
        if fault.kind == "page":
            return self._answer(200, [("Content-Type", "text/html")], PAGE)
        status, headers, body = self._forward(content)
        if fault.kind == "drip":
            return self._drip(status, headers, body, fault.seconds)
        damaged = {
            "empty": b"",
            "short": body[: len(body) // 2],
            "truncate": body[: len(body) // 2],
            "corrupt": bytes([body[0] ^ 1]) + body[1:] if body else b"",
        }[fault.kind]
        self._answer(status, headers, damaged, len(body) if fault.kind == "truncate" else None)
        self.close_connection = True

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve

    def _begin(self) -> http.client.HTTPConnection:
        """A connection to the service on which the request's head has been put."""
        connection = http.client.HTTPConnection(self.server.upstream, timeout=30)
        # The Host header stays the client's: signatures cover it.
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            connection.putheader(name, value)
        return connection

    def _forward_half(self, content: bytes) -> None:
        connection = self._begin()
        connection.endheaders(content[: len(content) // 2] or None)
        connection.close()

    def _forward(self, content: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = self._begin()
        try:
            connection.endheaders(content or None)
            response = connection.getresponse()
            headers = [(name, value) for name, value in response.getheaders() if name.lower() not in HOP_BY_HOP]
            if self.command == "HEAD":
                headers.append(("Content-Length", response.getheader("Content-Length") or "0"))
            return response.status, headers, response.read()
        finally:
            connection.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes, length: int | None = None) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        if self.command != "HEAD" or not headers:
            self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def _drip(self, status: int, headers: list[tuple[str, str]], body: bytes, seconds: float) -> None:
        self.close_connection = True
        self._answer(status, headers, b"", len(body))
        with contextlib.suppress(OSError):  # the client does not wait for all of it
            for byte in body:
                self.wfile.write(bytes([byte]))
                time.sleep(seconds / len(body))

    def _reset(self) -> None:
        # Closing with zero linger time sends RST instead of FIN.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()
