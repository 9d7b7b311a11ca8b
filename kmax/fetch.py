"""Files by URL: http and https only, redirects too, with a time limit; whole and checked, or not at all."""

from __future__ import annotations

import contextlib
import http.client
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kmax import files
from kmax.errors import InputError
from kmax.progress import track

TIMEOUT_SECONDS = 60
BLOCK = 2**20
PAGES = (b"<!doctype html", b"<html")
SHARED_FILE = re.compile(r"/file/d/([\w-]+)(/.*)?")


def direct_url(url: str) -> str:
    """Where the bytes are: for a shared file on Google Drive not the page that shows it; else the URL."""
    parts = urllib.parse.urlsplit(url)
    shared = SHARED_FILE.fullmatch(parts.path) if parts.netloc == "drive.google.com" else None
    if shared is None:
        return url
    query = urllib.parse.urlencode({"id": shared[1], "export": "download", "confirm": "t"})
    return f"https://drive.usercontent.google.com/download?{query}"


def download(
    url: str,
    path: Path,
    *,
    size: int | None = None,
    sha256: str | None = None,
    max_bytes: int | None = None,
) -> None:
    """Fetch `url` into `path`, with progress on stderr; `path` appears when it is whole and checked.

    Args:
        size: bytes that the file must have; None: those that the server announces.
        sha256: its digest; None: any.
        max_bytes: more than this is refused.

    Raises:
        InputError: not http(s), not reachable, cut short, a web page, too large, another digest than
            `sha256`, or `path` cannot be written.
    """
    with contextlib.ExitStack() as stack:
        with _faults_told(url):
            response = stack.enter_context(_open(direct_url(url)))
            announced = int(response.headers.get("Content-Length") or 0)
        expected = size or announced
        if max_bytes is not None and expected > max_bytes:
            raise InputError(f"{url}: {expected} bytes, more than the {max_bytes} that are allowed")
        amount = f" ({expected / BLOCK:.1f} MiB)" if expected else ""
        print(f"fetching {url}{amount}", file=sys.stderr, flush=True)
        temporary = stack.enter_context(files.atomic_path(path))
        done = _copy(_blocks(response, url), -(-expected // BLOCK) or None, temporary, url, max_bytes)
        if expected and done != expected:
            raise InputError(f"{url}: ended after {done} of {expected} bytes; call again")
        _require_no_page(temporary, url)
        if sha256 is not None and (found := files.sha256(temporary)) != sha256:
            raise InputError(f"{url}: SHA-256 of what was served is {found}, not {sha256}; nothing was kept")


def _copy(blocks: Iterator[bytes], number: int | None, path: Path, url: str, max_bytes: int | None) -> int:
    """Write the blocks; returns the number of bytes."""
    done = 0
    with open(path, "wb") as target:
        for block in track(blocks, number, f"{url.rsplit('/', 1)[-1]} (MiB)"):
            done += len(block)
            if max_bytes is not None and done > max_bytes:
                raise InputError(f"{url}: more than the {max_bytes} bytes that are allowed")
            target.write(block)
    return done


def _blocks(response: Any, url: str) -> Iterator[bytes]:
    while True:
        with _faults_told(url):
            block = response.read(BLOCK)
        if not block:
            return
        yield block


@contextlib.contextmanager
def _faults_told(url: str) -> Iterator[None]:
    """Whatever goes wrong on the way to the server and back, in one line."""
    try:
        yield
    except urllib.error.HTTPError as error:
        raise InputError(f"{url}: the server answered {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        reason = " ".join(str(getattr(error, "reason", error)).split()) or type(error).__name__
        raise InputError(f"{url}: cannot be fetched: {reason}; call again") from error
    except ValueError as error:
        raise InputError(f"{url}: cannot be fetched: {error}") from error


def _require_no_page(path: Path, url: str) -> None:
    with open(path, "rb") as stream:
        if stream.read(64).lstrip().lower().startswith(PAGES):
            raise InputError(
                f"{url}: the server sent a web page instead of a file; fetch it with a browser, and name "
                "the local file"
            )


def _open(url: str) -> Any:
    """The response of the server: a context manager with `headers` and `read`."""
    _require_http(url)
    return urllib.request.build_opener(_HttpOnly).open(url, timeout=TIMEOUT_SECONDS)


class _HttpOnly(urllib.request.HTTPRedirectHandler):
    """Redirects lead to http and https only."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        _require_http(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _require_http(url: str) -> None:
    if urllib.parse.urlsplit(url).scheme not in {"http", "https"}:
        raise InputError(f"{url}: only http and https are fetched; name a local file by its path")
