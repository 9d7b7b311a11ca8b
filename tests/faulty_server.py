"""A server on 127.0.0.1 that keeps the rules of HTTP for ranges, or breaks those that a test names."""

import contextlib
import hashlib
import http.server
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


@dataclass
class Served:
    """One file and what goes wrong with it.

    Attributes:
        cuts: the first answers end after so many bytes.
        statuses: the first answers are these errors (before any cut).
        ranges: whether parts are sent.
        conditions: whether If-Range is heeded.
        tag: the ETag; None: no validator is sent.
        announced: a lie about the length.
        during: called with the position in the file that has been sent.
    """

    content: bytes
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    retry_after: str | None = None
    ranges: bool = True
    conditions: bool = True
    tag: str | None = "digest"
    announced: int | None = None
    chunked: bool = False
    during: Callable[[int], None] | None = None

    @property
    def validator(self) -> str | None:
        if self.tag != "digest":
            return self.tag
        return f'"{hashlib.sha256(self.content).hexdigest()[:16]}"'


@dataclass
class Request:
    """What was asked for and how it was answered; written before the answer."""

    name: str
    range: str | None
    status: int = 404
    sent: int = 0


@dataclass
class Server:
    """The files by name, and the requests that came."""

    url: str
    files: dict[str, Served] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)

    def add(self, name: str, content: bytes, **faults) -> str:
        self.files[name] = Served(content, **faults)
        return f"{self.url}/{name}"

    @property
    def sent(self) -> int:
        return sum(request.sent for request in self.requests)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    known: Server

    def log_message(self, *_: object) -> None:
        pass

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # a client that was killed
            super().handle()

    def finish(self) -> None:
        with contextlib.suppress(ConnectionError):
            super().finish()

    def do_GET(self) -> None:
        name = self.path.removeprefix(self.known.url).lstrip("/")  # a proxy is asked for the whole URL
        request = Request(name, self.headers.get("Range"))
        self.known.requests.append(request)
        with contextlib.suppress(ConnectionError):
            if name not in self.known.files:
                self.send_error(404)
            elif (served := self.known.files[name]).statuses:
                request.status = served.statuses.pop(0)
                self.send_response(request.status)
                if served.retry_after is not None:
                    self.send_header("Retry-After", served.retry_after)
                self.send_header("Content-Length", "0")
                self.end_headers()
            else:
                self._send(served, request)

    def _send(self, served: Served, request: Request) -> None:
        content, start, status = served.content, 0, 200
        asked = request.range
        condition = self.headers.get("If-Range")
        if asked and served.ranges and (condition in (None, served.validator) or not served.conditions):
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
            status = 206 if start < len(content) else 416
        request.status = status
        self.send_response(status)
        if status == 416:
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if served.validator is not None:
            self.send_header("ETag", served.validator)
        body = content[start:]
        if served.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            length = served.announced if served.announced is not None else len(body)
            self.send_header("Content-Length", str(length))
        self.end_headers()
        cut = served.cuts.pop(0) if served.cuts else None
        body = body[:cut]
        for position in range(0, len(body), 4096):
            piece = body[position : position + 4096]
            request.sent += len(piece)
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if served.chunked else piece)
            if served.during is not None:
                served.during(start + request.sent)
        if served.chunked and cut is None:
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = cut is not None or served.announced is not None


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as running:
        running.daemon_threads = True
        server = Server(f"http://127.0.0.1:{running.server_port}")
        running.RequestHandlerClass = type("Handler", (_Handler,), {"known": server})
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            running.shutdown()
