"""Download of a file over as many requests as necessary."""

from __future__ import annotations

import contextlib
import random
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kmax.errors import InputError
from kmax.fetch.partial import Partial, written
from kmax.fetch.request import BLOCK, Answer, RangeRefusedError, TemporaryFaultError, request, require_http
from kmax.files import file_digest
from kmax.progress import Transfer, Transfers
from kmax.urls import without_credentials

ATTEMPTS = 6  # consecutive attempts that gain less than a mebibyte
FIRST_WAIT = 1.0  # seconds; doubled each time
LONGEST_WAIT = 60.0
LONGEST_ASKED_WAIT = 600.0  # longer waits end the call
PAGES = (b"<!doctype html", b"<html")


@dataclass(frozen=True)
class Expected:
    """Required properties of a file; None: any."""

    size: int | None = None
    sha256: str | None = None
    md5: str | None = None
    max_bytes: int | None = None


def download(
    url: str,
    path: Path,
    *,
    size: int | None = None,
    sha256: str | None = None,
    md5: str | None = None,
    max_bytes: int | None = None,
    transfers: Transfers | None = None,
) -> None:
    """Download `url` into `path`, with progress on stderr; `path` appears when it is complete and checked.

    After a cut connection or a killed process, this call or the next one continues the download if the server
    sends ranges and the file has not changed. Temporary faults are retried with growing waits. Two processes
    must not download into one path at the same time.

    Args:
        size: required size in bytes; None: the size that the server announces.
        sha256: required digest; None: any.
        md5: likewise.
        max_bytes: larger files are rejected.
        transfers: display of progress shared with other files; None: its own.

    Raises:
        InputError: not http(s), not reachable, cut short, a web page, too large, another size or digest than
            required (the file is then kept beside `path`), or `path` cannot be written.
    """
    require_http(url)
    expected = Expected(size, sha256, md5, max_bytes)
    with contextlib.ExitStack() as stack:
        shown = transfers or stack.enter_context(Transfers())
        with written(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        partial = Partial(path, url)
        with shown.transfer(partial.shown_url.rsplit("/", 1)[-1] or partial.shown_url) as transfer:
            _receive_all(partial, expected, transfer)
        _require_digests(partial, expected)
        partial.publish(path.name)


def _receive_all(partial: Partial, expected: Expected, transfer: Transfer) -> None:
    """Repeat requests until all bytes are received."""
    failed, gained_at = 0, partial.offset
    while not partial.complete:
        try:
            _receive(partial, expected, transfer)
            return
        except RangeRefusedError:
            partial.discard()
            fault = TemporaryFaultError(f"{partial.shown_url}: changed on the server during the download")
        except TemporaryFaultError as error:
            fault = error
        if partial.offset >= gained_at + BLOCK:
            failed, gained_at = 0, partial.offset
        failed += 1
        asked = fault.wait or 0.0
        if failed == ATTEMPTS or asked > LONGEST_ASKED_WAIT:
            later = f"the server asks to wait {asked:.0f} s; then " if asked > LONGEST_ASKED_WAIT else ""
            kept = f" to continue after {partial.offset} bytes" if partial.offset else ""
            raise InputError(f"{fault}; {later}run the command again{kept}") from fault
        spread = random.uniform(0.5, 1.0)  # noqa: S311 - against simultaneous retries, not an attacker
        wait = max(asked, min(LONGEST_WAIT, FIRST_WAIT * 2 ** (failed - 1)) * spread)
        transfer.say(f"{fault}; retrying in {wait:.0f} s ({failed} of {ATTEMPTS - 1})")
        pause(wait)


def pause(seconds: float) -> None:
    """Wait before the next attempt."""
    time.sleep(seconds)


def _receive(partial: Partial, expected: Expected, transfer: Transfer) -> None:
    """One request for the missing bytes; returns when the file is complete."""
    url = partial.shown_url
    if partial.validator is None and expected.sha256 is None and expected.md5 is None:
        partial.discard()  # without a validator, a change of version could not be detected
    offset = partial.offset
    with request(partial.url, offset, partial.validator) as answer:
        _require_size(answer, expected)
        start = _begin(answer, partial, expected)
        whole = answer.length if answer.length is not None else expected.size
        _require_space(partial, whole, start)
        amount = f" ({whole / 2**20:.1f} MiB)" if whole else ""
        transfer.say(f"downloading {url}{amount}" + (f", continued after {start} bytes" if start else ""))
        transfer.begin(whole, start)
        with written(partial.path), open(partial.data, "r+b", buffering=0) as target:
            target.seek(start)
            for block in _blocks(answer, start, expected):
                target.write(block)
                transfer.advance(len(block))
    done = partial.offset
    if whole is not None and done < whole:
        raise TemporaryFaultError(f"{url}: ended after {done} of {whole} bytes")
    if done == 0:
        raise TemporaryFaultError(f"{url}: the server sent nothing")
    if whole is not None and done > whole:
        partial.discard()
        raise TemporaryFaultError(f"{url}: {done} bytes received, expected {whole}")


def _begin(answer: Answer, partial: Partial, expected: Expected) -> int:
    """Compare the partial file with the response; returns the position of the first new byte."""
    known = partial.validator
    same = answer.length == partial.length and (answer.validator == known or answer.validator is None)
    if answer.start:
        if not same:
            partial.discard()
            raise TemporaryFaultError(f"{partial.shown_url}: changed on the server during the download")
        return answer.start
    if partial.offset and same and known is not None and answer.validator == known:
        return partial.offset  # no ranges: the received bytes are not written again
    if answer.peek().lstrip().lower().startswith(PAGES):
        raise InputError(
            f"{partial.shown_url}: the server sent a web page instead of a file; download it in a browser, "
            "and give the local file"
        )
    partial.begin(answer.length, answer.validator)
    return 0


def _blocks(answer: Answer, start: int, expected: Expected) -> Iterator[bytes]:
    """The bytes from `start` on."""
    position = answer.start
    while block := answer.read():
        position += len(block)
        if expected.max_bytes is not None and position > expected.max_bytes:
            raise InputError(
                f"{without_credentials(answer.url)}: more than the {expected.max_bytes} bytes allowed"
            )
        if position > start:
            yield block[max(0, len(block) - (position - start)) :]


def _require_size(answer: Answer, expected: Expected) -> None:
    """Reject a file whose announced length is wrong, before anything is written."""
    length, size, most = answer.length, expected.size, expected.max_bytes
    url = without_credentials(answer.url)
    if most is not None and (length or size or 0) > most:
        raise InputError(f"{url}: {length or size} bytes, more than the {most} allowed")
    if size is not None and length is not None and length != size:
        raise InputError(
            f"{url}: the server has a file of {length} bytes, not of {size} bytes: another version; "
            "nothing was downloaded"
        )


def _require_space(partial: Partial, whole: int | None, start: int) -> None:
    free = shutil.disk_usage(partial.path.parent).free
    if whole is not None and whole - start > free:
        raise InputError(f"{partial.path}: needs {whole - start} bytes, but {free} are free on that disk")


def _require_digests(partial: Partial, expected: Expected) -> None:
    """Compare the received bytes with the required digests.

    Raises:
        InputError: another digest; the bytes are kept under another name.
    """
    for kind, name, stated in (("sha256", "SHA-256", expected.sha256), ("md5", "MD5", expected.md5)):
        if stated is None or (found := file_digest(partial.data, kind)) == stated:
            continue
        aside = f"{partial.path.name}.wrong-{found[:8]}"
        partial.publish(aside)
        raise InputError(
            f"{partial.shown_url}: the {name} of the downloaded file is {found}, expected {stated}; it was "
            f"kept as {partial.path.with_name(aside)}; run the command again; if the result is the same, "
            "ask the publisher which is right"
        )
