"""One request for a file, from a byte on: what the server says that it sends, and which faults may pass.

HTTP semantics are those of RFC 9110 (ranges, conditions, Retry-After). Proxies are those of the environment:
http_proxy, https_proxy, no_proxy.
"""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import re
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kmax.errors import InputError

TIMEOUT_SECONDS = 60
BLOCK = 2**20
SHARED_FILE = re.compile(r"/file/d/([\w-]+)(/.*)?")
CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
MAY_PASS = {408, 425, 429, 500, 502, 503, 504}


class PassingFaultError(Exception):
    """A fault that may be gone at the next attempt.

    Attributes:
        wait: seconds that the server asks to wait; None: it says nothing.
    """

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


class RangeRefusedError(Exception):
    """The file has no bytes from there on: it is another one than that which was begun."""


@dataclass(frozen=True)
class Answer:
    """What a server sends.

    Attributes:
        start: position in the file of the first byte that comes.
        length: bytes of the whole file; None: not announced.
        validator: strong ETag or date, which tells one version of the file from another; None: none is sent.
    """

    url: str
    start: int
    length: int | None
    validator: str | None
    response: Any

    def read(self) -> bytes:
        """The bytes that have come, at most `BLOCK`; none at the end, or where the connection was cut."""
        with faults_told(self.url):
            block: bytes = self.response.read1(BLOCK)
        return block

    def peek(self) -> bytes:
        """The first bytes, which `read` gives once more."""
        if self.response.length == 0:
            return b""  # to look for more would wait for the server to close
        with faults_told(self.url):
            first: bytes = self.response.peek(64)
        return first[:64]


def require_http(url: str) -> None:
    """Refuse other schemes.

    Raises:
        InputError: the URL is neither http nor https.
    """
    if urllib.parse.urlsplit(url).scheme not in {"http", "https"}:
        raise InputError(f"{url}: only http and https are fetched; name a local file by its path")


def direct_url(url: str) -> str:
    """Where the bytes are: for a shared file on Google Drive not the page that shows it; else the URL."""
    parts = urllib.parse.urlsplit(url)
    shared = SHARED_FILE.fullmatch(parts.path) if parts.netloc == "drive.google.com" else None
    if shared is None:
        return url
    query = urllib.parse.urlencode({"id": shared[1], "export": "download", "confirm": "t"})
    return f"https://drive.usercontent.google.com/download?{query}"


@contextlib.contextmanager
def ask(url: str, start: int = 0, validator: str | None = None) -> Iterator[Answer]:
    """Ask for a file from the byte `start` on, if it is still that of `validator`, else for all of it.

    Raises:
        PassingFaultError: not reached, cut, or the server is out of order.
        RangeRefusedError: the file ends before `start`.
        InputError: refused for good.
    """
    request = urllib.request.Request(direct_url(url), headers={"Accept-Encoding": "identity"})
    if start:
        request.add_header("Range", f"bytes={start}-")
        if validator is not None:
            request.add_header("If-Range", validator)
    with contextlib.ExitStack() as stack:
        with faults_told(url):
            opener = urllib.request.build_opener(_HttpOnly)
            response = stack.enter_context(opener.open(request, timeout=TIMEOUT_SECONDS))
            first, length = _extent(response)
            if first not in (0, start):
                raise http.client.HTTPException(f"bytes from {start} on were asked for, {first} came")
        yield Answer(url, first, length, _validator(response), response)


def _extent(response: Any) -> tuple[int, int | None]:
    """Position of the first byte, and the length of the whole file, as the headers say."""
    text = response.headers.get("Content-Length")
    if text is not None and not text.strip().isdecimal():
        raise http.client.HTTPException(f"Content-Length is {text!r}")
    length = None if text is None else int(text)
    if response.status != 206:
        return 0, length
    found = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if found is None:
        raise http.client.HTTPException("a part was sent without saying which (no Content-Range)")
    first, last = int(found[1]), int(found[2])
    return first, last + 1 if found[3] == "*" else int(found[3])


def _validator(response: Any) -> str | None:
    """A strong ETag, else the date of the last change; a weak ETag does not vouch for single bytes."""
    tag = response.headers.get("ETag")
    if tag and not tag.startswith("W/"):
        return str(tag)
    date = response.headers.get("Last-Modified")
    return str(date) if date else None


@contextlib.contextmanager
def faults_told(url: str) -> Iterator[None]:
    """Whatever goes wrong on the way to the server and back, in one line, parted by whether it may pass."""
    try:
        yield
    except urllib.error.HTTPError as error:
        if error.code == 416:
            raise RangeRefusedError from error
        message = f"{url}: the server answered {error.code} {error.reason}"
        if error.code in MAY_PASS:
            raise PassingFaultError(message, _retry_after(error.headers)) from error
        raise InputError(message) from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        text = " ".join(str(reason).split()) or type(error).__name__
        message = f"{url}: cannot be fetched: {text}"
        if isinstance(reason, ssl.SSLCertVerificationError) or isinstance(error, http.client.InvalidURL):
            raise InputError(message) from error
        raise PassingFaultError(message) from error
    except ValueError as error:
        raise InputError(f"{url}: cannot be fetched: {error}") from error


def _retry_after(headers: Any) -> float | None:
    """Seconds of the Retry-After header: a number, or a date from now."""
    text = (headers.get("Retry-After") or "").strip()
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


class _HttpOnly(urllib.request.HTTPRedirectHandler):
    """Redirects lead to http and https only."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        require_http(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)
