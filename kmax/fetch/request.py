"""One request for a part of a file: the response headers, and which faults are temporary.

The transport is urllib3. Retries are implemented in `kmax.fetch.transfer`, not with `urllib3.Retry`, which
repeats a request only before its body: `transfer` keeps the received part of a body and requests the rest
with If-Range. HTTP semantics are those of RFC 9110 (ranges, conditions, Retry-After). Proxies come from the
environment: http_proxy, https_proxy, no_proxy.
"""

from __future__ import annotations

import base64
import contextlib
import re
import ssl
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import urllib3

from kmax.errors import InputError
from kmax.urls import credentials, without_credentials, without_secrets, without_users

TIMEOUT_SECONDS = 60
MAX_REDIRECTS = 10
MAX_STATED_WAIT = 10**9  # seconds of Retry-After, which urllib3 caps
BLOCK = 2**20
SHARED_FILE = re.compile(r"/file/d/([\w-]+)(/.*)?")
CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
TEMPORARY = {408, 425, 429, 500, 502, 503, 504}


class TemporaryFaultError(Exception):
    """A fault that a further attempt may not meet.

    Attributes:
        wait: seconds that the server asks to wait; None: not stated.
    """

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


class RangeRefusedError(Exception):
    """The file ends before the requested range: it is not the version that the partial file comes from."""


@dataclass
class Answer:
    """A server's response.

    Attributes:
        start: position in the file of the first byte of the body.
        length: bytes of the whole file; None: not announced.
        validator: strong ETag or date, which identifies the version of the file; None: neither was sent.
    """

    url: str
    start: int
    length: int | None
    validator: str | None
    response: urllib3.BaseHTTPResponse
    _first: bytes | None = field(default=None, init=False)

    def read(self) -> bytes:
        """The bytes received so far, at most `BLOCK`; empty at the end, or when the connection was cut."""
        if self._first is not None:
            block, self._first = self._first, None
            return block
        with one_line_faults(self.url):
            # As sent: a length or range counts the bytes of the file, whatever their encoding.
            return self.response.read1(BLOCK, decode_content=False) or b""

    def peek(self) -> bytes:
        """The first bytes, which `read` returns again."""
        if self._first is None:
            self._first = self.read()
        return self._first[:64]


def require_http(url: str) -> None:
    """Reject URLs with another scheme.

    Raises:
        InputError: the URL is neither http nor https.
    """
    if not url.lower().startswith(("http://", "https://")):
        shown = without_credentials(url if "://" in url else f"://{url}").removeprefix("://")
        raise InputError(f"{shown}: only http and https are supported; give a local file by its path")


def direct_url(url: str) -> str:
    """The URL of the bytes: the Google Drive page of a shared file is replaced by the file itself."""
    parts = urllib.parse.urlsplit(url)
    shared = SHARED_FILE.fullmatch(parts.path) if parts.netloc == "drive.google.com" else None
    if shared is None:
        return url
    query = urllib.parse.urlencode({"id": shared[1], "export": "download", "confirm": "t"})
    return f"https://drive.usercontent.google.com/download?{query}"


@contextlib.contextmanager
def request(url: str, start: int = 0, validator: str | None = None) -> Iterator[Answer]:
    """Request a file from byte `start` on if its version is still `validator`, else all of it.

    Raises:
        TemporaryFaultError: the server is unreachable or reports an error, or the connection is cut.
        RangeRefusedError: the file ends before `start`.
        InputError: a permanent fault.
    """
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if validator is not None:
            headers["If-Range"] = validator
    with contextlib.ExitStack() as stack:
        with one_line_faults(url):
            response = _open(direct_url(url), headers, stack)
            _require_success(url, response)
            first, length = _extent(response)
            if first not in (0, start):
                raise urllib3.exceptions.HTTPError(
                    f"requested bytes from {start}, received bytes from {first}"
                )
        yield Answer(url, first, length, _validator(response), response)


def _open(url: str, headers: Mapping[str, str], stack: contextlib.ExitStack) -> urllib3.BaseHTTPResponse:
    """The response after redirects, limited to http and https, each through its own proxy."""
    for _ in range(MAX_REDIRECTS + 1):
        require_http(url)
        pool = stack.enter_context(_connections(url))
        response = pool.request(
            "GET", without_users(url), headers={**headers, **_authorization(url)},
            preload_content=False, redirect=False, retries=False,
            timeout=TIMEOUT_SECONDS, enforce_content_length=False,  # a short body is continued
        )  # fmt: skip
        stack.callback(response.close)
        if not (location := response.get_redirect_location()):
            return response
        url = urllib.parse.urljoin(url, location)
    raise InputError(f"{without_credentials(url)}: more than {MAX_REDIRECTS} redirects")


def _authorization(url: str) -> dict[str, str]:
    """The header of the URL's user and password, which a redirect to another host does not receive."""
    user, password = credentials(url)
    if not user and not password:
        return {}
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}


def _connections(url: str) -> urllib3.PoolManager:
    """Connections to the URL's host, through the proxy that the environment names for it."""
    parts = urllib.parse.urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if not proxy or urllib.request.proxy_bypass(parts.netloc.rpartition("@")[2]):
        return urllib3.PoolManager(num_pools=1)
    try:
        address = urllib3.util.parse_url(proxy if "://" in proxy else f"http://{proxy}")
    except urllib3.exceptions.LocationParseError:  # whose text contains the password
        raise InputError(f"environment variable {parts.scheme}_proxy: not the URL of a proxy") from None
    secret = urllib.parse.unquote(address.auth) if address.auth else None
    headers = urllib3.make_headers(proxy_basic_auth=secret)
    return urllib3.ProxyManager(address._replace(auth=None).url, num_pools=1, proxy_headers=headers)


def _require_success(url: str, response: urllib3.BaseHTTPResponse) -> None:
    """Raise unless the response is the file, or a part of it."""
    if response.status == 416:
        raise RangeRefusedError
    if not 200 <= response.status < 300:
        message = f"{without_credentials(url)}: the server answered {response.status} {response.reason or ''}"
        if response.status in TEMPORARY:
            raise TemporaryFaultError(message.rstrip(), _retry_after(response))
        raise InputError(message.rstrip())


def _extent(response: urllib3.BaseHTTPResponse) -> tuple[int, int | None]:
    """Position of the first byte, and the length of the whole file, according to the headers."""
    text = response.headers.get("Content-Length")
    if text is not None and not text.strip().isdecimal():
        raise urllib3.exceptions.HTTPError(f"Content-Length is {text!r}")
    length = None if text is None else int(text)
    if response.status != 206:
        return 0, length
    found = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if found is None:
        raise urllib3.exceptions.HTTPError("a partial response without Content-Range")
    first, last = int(found[1]), int(found[2])
    return first, last + 1 if found[3] == "*" else int(found[3])


def _validator(response: urllib3.BaseHTTPResponse) -> str | None:
    """A strong ETag, else the date of the last change; a weak ETag does not guarantee identical bytes."""
    tag = response.headers.get("ETag")
    if tag and not tag.startswith("W/"):
        return tag
    return response.headers.get("Last-Modified") or None


def _retry_after(response: urllib3.BaseHTTPResponse) -> float | None:
    """Seconds of the Retry-After header: a number, or a date from now."""
    try:
        return urllib3.Retry(retry_after_max=MAX_STATED_WAIT).get_retry_after(response)
    except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError):
        return None


@contextlib.contextmanager
def one_line_faults(url: str) -> Iterator[None]:
    """Faults of the connection as errors of one line; temporary ones are `TemporaryFaultError`."""
    try:
        yield
    except (OSError, urllib3.exceptions.HTTPError, ValueError) as error:
        reason: BaseException = error
        while reason.__cause__ is not None:
            reason = reason.__cause__
        text = " ".join(str(reason).split()) or type(reason).__name__
        message = f"{without_credentials(url)}: cannot be downloaded: {without_secrets(text, url)}"
        if isinstance(reason, ssl.SSLCertVerificationError) or isinstance(error, ValueError):
            raise InputError(message) from error
        raise TemporaryFaultError(message) from error
