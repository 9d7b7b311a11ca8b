"""What every download by URL keeps to: http and https only, redirects too, and a time limit."""

from __future__ import annotations

import re
import urllib.parse
import urllib.request
from typing import Any

from kmax.errors import InputError

TIMEOUT_SECONDS = 60
SHARED_FILE = re.compile(r"/file/d/([\w-]+)(/.*)?")


def direct_url(url: str) -> str:
    """Where the bytes are: for a shared file on Google Drive not the page that shows it; else the URL."""
    parts = urllib.parse.urlsplit(url)
    shared = SHARED_FILE.fullmatch(parts.path) if parts.netloc == "drive.google.com" else None
    if shared is None:
        return url
    query = urllib.parse.urlencode({"id": shared[1], "export": "download", "confirm": "t"})
    return f"https://drive.usercontent.google.com/download?{query}"


def open_url(url: str) -> Any:
    """Open `url` for reading; the response is a context manager with `headers` and `read`.

    Raises:
        InputError: neither http nor https, here or where it redirects to.
        OSError, http.client.HTTPException, ValueError: what urllib raises where it cannot be reached.
    """
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
