"""What a cut connection leaves is continued, and never with bytes of another file."""

import email.utils
import errno
import hashlib
import os
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from faulty_server import Server, serving

from kmax.errors import InputError
from kmax.fetch import download, transfer

CONTENT = random.Random(0).randbytes(300_000)
OTHER = random.Random(1).randbytes(300_000)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between attempts, which nobody waits."""
    found: list[float] = []
    monkeypatch.setattr(transfer, "pause", found.append)
    return found


def hidden(path: Path) -> list[str]:
    return sorted(file.name for file in path.parent.iterdir() if file != path)


def test_a_cut_connection_is_continued_where_it_ended(server: Server, tmp_path: Path) -> None:
    url = server.add("a", CONTENT, cuts=[100_000, 50_000])
    download(url, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert [request.range for request in server.requests] == [None, "bytes=100000-", "bytes=150000-"]
    assert server.sent == len(CONTENT)
    assert hidden(tmp_path / "a") == []


def test_the_next_call_continues_what_this_one_could_not_finish(server: Server, tmp_path: Path) -> None:
    url = server.add("a", CONTENT, cuts=[10_000] * transfer.ATTEMPTS)
    with pytest.raises(
        InputError, match=r"ended after 60000 of 300000 bytes; run the command again to continue after"
    ):
        download(url, tmp_path / "a")
    assert hidden(tmp_path / "a") == [".a.part", ".a.part.json"]
    download(url, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert server.sent == len(CONTENT)


def test_progress_gives_new_attempts(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "BLOCK", 9_000)
    url = server.add("a", CONTENT, cuts=[10_000] * 25)
    download(url, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT


@pytest.mark.parametrize("tag", ["digest", None])
def test_a_server_without_ranges_sends_all_again(server: Server, tmp_path: Path, tag: str | None) -> None:
    url = server.add("a", CONTENT, cuts=[200_000, 100_000], ranges=False, tag=tag)
    download(url, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert server.sent == 600_000


def swap(server: Server, content: bytes) -> None:
    """The file changes while its first answer is cut."""
    served = server.files["a"]
    served.cuts = [100_000]

    def change(_: int) -> None:
        served.content = content

    served.during = change


@pytest.mark.parametrize("faults", [{}, {"conditions": False}, {"tag": None}, {"tag": 'W/"weak"'}])
@pytest.mark.parametrize("other", [OTHER, OTHER[:5000]])
def test_a_file_that_changes_between_requests_is_never_mixed(
    server: Server, tmp_path: Path, faults: dict, other: bytes
) -> None:
    url = server.add("a", CONTENT, **faults)
    swap(server, other)
    download(url, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == other
    assert hidden(tmp_path / "a") == []


def test_a_mixture_that_only_the_digest_tells_is_put_aside(server: Server, tmp_path: Path) -> None:
    url = server.add("a", CONTENT, tag=None)
    swap(server, OTHER)
    wanted = hashlib.sha256(OTHER).hexdigest()
    with pytest.raises(InputError, match=r"SHA-256 of the downloaded file .* it was kept as .*a\.wrong-"):
        download(url, tmp_path / "a", sha256=wanted)
    (aside,) = hidden(tmp_path / "a")
    assert (tmp_path / aside).stat().st_size == len(OTHER)
    download(url, tmp_path / "a", sha256=wanted)
    assert (tmp_path / "a").read_bytes() == OTHER


def test_a_partial_file_of_another_url_or_with_a_damaged_note_is_not_continued(
    server: Server, tmp_path: Path
) -> None:
    path = tmp_path / "a"
    for note in (
        '{"url": "http://elsewhere/a", "length": 300000, "validator": "x"}',
        "{",
        "[]",
        '{"url": 3}',
    ):
        path.with_name(".a.part").write_bytes(b"old")
        path.with_name(".a.part.json").write_text(note)
        download(server.add("a", CONTENT), path)
        assert path.read_bytes() == CONTENT


def test_a_server_that_lies_about_the_length(server: Server, tmp_path: Path) -> None:
    url = server.add("long", CONTENT, announced=400_000, ranges=False)
    with pytest.raises(InputError, match=r"ended after 300000 of 400000 bytes"):
        download(url, tmp_path / "long")
    assert not (tmp_path / "long").exists()
    url = server.add("short", CONTENT, announced=100_000)
    with pytest.raises(InputError, match=r"MD5 of the downloaded file"):
        download(url, tmp_path / "short", md5=hashlib.md5(CONTENT, usedforsecurity=False).hexdigest())
    with pytest.raises(InputError, match=r"has a file of 100000 bytes, not of 300000 bytes"):
        download(url, tmp_path / "short", size=300_000)
    assert not (tmp_path / "short").exists()


def test_an_empty_answer_is_no_file(server: Server, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the server sent nothing; run the command again$"):
        download(server.add("a", b""), tmp_path / "a")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("cut", [False, True])
def test_a_file_of_unannounced_length(server: Server, tmp_path: Path, cut: bool) -> None:
    url = server.add("a", CONTENT, chunked=True, cuts=[100_000] if cut else [])
    download(url, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429])
def test_waits_grow_and_end(server: Server, tmp_path: Path, waits: list[float], status: int) -> None:
    url = server.add("a", CONTENT, statuses=[status] * 3)
    download(url, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert all(2**i / 2 <= wait <= 2**i for i, wait in enumerate(waits))
    url = server.add("b", CONTENT, statuses=[status] * transfer.ATTEMPTS)
    with pytest.raises(InputError, match=f"the server answered {status} .*; run the command again"):
        download(url, tmp_path / "b")


def test_the_wait_that_a_server_asks_for_is_kept(server: Server, tmp_path: Path, waits: list[float]) -> None:
    download(server.add("a", b"x", statuses=[503], retry_after="17"), tmp_path / "a")
    date = email.utils.formatdate(time.time() + 100, usegmt=True)
    download(server.add("b", b"x", statuses=[429], retry_after=date), tmp_path / "b")
    download(server.add("c", b"x", statuses=[503], retry_after="soon"), tmp_path / "c")
    assert waits[0] == 17
    assert 90 < waits[1] <= 100
    assert waits[2] <= 1
    with pytest.raises(
        InputError, match=r"503 .*; the server asks to wait 86400 s; then run the command again"
    ):
        download(server.add("d", b"x", statuses=[503], retry_after="86400"), tmp_path / "d")
    assert len(waits) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_a_refusal_is_not_asked_again(server: Server, tmp_path: Path, status: int) -> None:
    url = server.add("a", CONTENT, statuses=[status])
    with pytest.raises(InputError, match=f"the server answered {status}"):
        download(url, tmp_path / "a")
    assert len(server.requests) == 1


def test_proxies_of_the_environment_are_asked(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.add("a", CONTENT)
    server.files["http://data.invalid/a"] = server.files["a"]
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    download("http://data.invalid/a", tmp_path / "a")
    download(f"{server.url}/a", tmp_path / "b")
    assert [request.name for request in server.requests] == ["http://data.invalid/a", "a"]


def test_a_full_disk_is_told_before_anything_is_fetched(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 1000))
    with pytest.raises(InputError, match=r"a: needs 300000 bytes, but 1000 are free on that disk"):
        download(server.add("a", CONTENT), tmp_path / "a")


def test_a_disk_that_fills_up_keeps_what_has_come(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.add("a", CONTENT, during=lambda sent: full.append(sent) if sent > 200_000 else None)
    full: list[int] = []
    original = transfer.Transfer.advance

    def advance(self, count: int) -> None:
        original(self, count)
        if full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(transfer.Transfer, "advance", advance)
        with pytest.raises(InputError, match=r"a: cannot be written: the disk is full"):
            download(url, tmp_path / "a")
    download(url, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert server.requests[1].range is not None


def test_a_web_page_in_place_of_the_rest_spoils_nothing(server: Server, tmp_path: Path) -> None:
    url = server.add("a", CONTENT, cuts=[100_000])
    swap(server, b"<!DOCTYPE html><title>Please log in</title>")
    with pytest.raises(InputError, match=r"sent a web page instead of a file"):
        download(url, tmp_path / "a")
    server.files["a"].content = CONTENT
    download(url, tmp_path / "a")
    assert server.requests[-1].range == "bytes=100000-"
    assert (tmp_path / "a").read_bytes() == CONTENT
