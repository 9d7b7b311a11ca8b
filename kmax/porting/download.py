"""Downloading one checkpoint file, with progress."""

from __future__ import annotations

import http.client
import urllib.error
from pathlib import Path
from typing import BinaryIO

from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

from kmax.errors import InputError
from kmax.fetch import open_url

MAX_BYTES = 16 * 2**30
BLOCK = 2**20
PAGES = (b"<!doctype html", b"<html")


def download(url: str, path: Path, where: str) -> None:
    """Fetch `url` into `path`, with progress on stderr.

    Args:
        where: what the user calls the URL.

    Raises:
        InputError: not http(s), not reachable, cut short, a web page, or more than 16 GiB.
    """
    try:
        with open_url(url) as response, open(path, "wb") as target:
            length = response.headers.get("Content-Length")
            _copy(response, target, int(length) if length else None, where)
    except urllib.error.HTTPError as error:
        raise InputError(f"{where}: the server answered {error.code} {error.reason}") from error
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise InputError(f"{where}: cannot be fetched: {reason}; call again") from error
    except ValueError as error:
        raise InputError(f"{where}: cannot be fetched: {error}") from error
    with open(path, "rb") as stream:
        if stream.read(64).lstrip().lower().startswith(PAGES):
            raise InputError(
                f"{where}: the server sent a web page instead of a file; fetch it with a browser, "
                "and name it by 'path' in place of 'url'"
            )


def _copy(response: BinaryIO, target: BinaryIO, length: int | None, url: str) -> None:
    from rich.console import Console

    columns = ("{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn())
    done = 0
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(url.rsplit("/", 1)[-1], total=length)
        while block := response.read(BLOCK):
            done += len(block)
            if done > MAX_BYTES:
                raise InputError(f"{url}: more than {MAX_BYTES} bytes, which no checkpoint has")
            target.write(block)
            progress.update(task, completed=done)
    if length is not None and done != length:
        raise InputError(f"{url}: ended after {done} of {length} bytes; call again")
