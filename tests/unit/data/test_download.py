import functools
import hashlib
import http.server
import io
import json
import socket
import socketserver
import struct
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from small_datasets import Own

from kmax.data.download import download
from kmax.data.prepare import prepare
from kmax.errors import InputError
from kmax.files import sha256


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def copyfile(self, source, outputfile) -> None:
        content = source.read()
        outputfile.write(content[: len(content) // 2] if "half" in self.path else content)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", folder
        running.shutdown()


def set_files(*files: dict) -> None:
    path = Path("params/datasets/own.yaml")
    value = yaml.safe_load(path.read_text())
    value["source"]["files"] = list(files)
    path.write_text(yaml.safe_dump(value))


def served_archive(own: Own, path: Path) -> None:
    """Move the dataset into an archive."""
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(own.root.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(own.root))
                file.unlink()


def test_raw_manifest_records_every_file(own: Own) -> None:
    record = json.loads(download("own").read_text())
    assert len(record["files"]) == 2 * (1 + 3 + 3)
    assert record["files"]["images/train0.png"] == {
        "bytes": own.image().stat().st_size,
        "sha256": sha256(own.image()),
    }
    assert str(own.root) not in json.dumps(record)


def test_missing_files_are_all_named(own: Own) -> None:
    own.image(0).unlink()
    own.png(2).unlink()
    own.json("val").unlink()
    with pytest.raises(InputError) as caught:
        download("own")
    text = "\n".join(caught.value.faults)
    for name in ("images/train0.png", "train/train2.png", "val.json"):
        assert name in text
    assert not Path("data/raw/own/manifest.json").exists()


def test_an_absent_folder_says_what_to_set(own: Own, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KMAX_DATA_ROOT")
    with pytest.raises(InputError, match=r"set KMAX_DATA_ROOT .* or 'root' in params/datasets/own\.yaml"):
        download("own")


def test_the_dataset_file_may_say_where_the_data_lies(own: Own, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KMAX_DATA_ROOT")
    path = Path("params/datasets/own.yaml")
    path.write_text(path.read_text().replace("root: null", f"root: {own.root}"))
    download("own")
    prepare("own")


def test_an_archive_is_fetched_unpacked_and_not_fetched_again(own: Own, server: tuple[str, Path]) -> None:
    url, folder = server
    served_archive(own, folder / "all.zip")
    checksum = sha256(folder / "all.zip")
    set_files({"url": f"{url}/all.zip", "path": "all.zip", "sha256": checksum, "unpack": True})
    download("own")
    (folder / "all.zip").unlink()
    download("own")
    prepare("own")


def test_a_first_checksum_is_recorded_and_checked_ever_after(own: Own, server: tuple[str, Path]) -> None:
    url, folder = server
    (folder / "extra.txt").write_text("first")
    set_files({"url": f"{url}/extra.txt", "path": "extra.txt"})
    record = json.loads(download("own").read_text())
    assert record["files"]["extra.txt"]["sha256"] == hashlib.sha256(b"first").hexdigest()
    (own.root / "extra.txt").write_text("changed")
    with pytest.raises(InputError, match=r"extra\.txt: SHA-256 is not .*move the file away"):
        download("own")
    assert (own.root / "extra.txt").read_text() == "changed"


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("gone.txt", {}, "gone.txt: the server answered 404 File not found"),
        ("half.txt", {}, "ended after 500 of 1000 bytes"),
        ("good.txt", {"sha256": "0" * 64}, "SHA-256 of what was served is .*, not 0000"),
        ("good.txt", {"bytes": 5}, "of 5 bytes"),
    ],
)
def test_a_bad_download_leaves_no_file(
    own: Own, server: tuple[str, Path], name: str, changes: dict, message: str
) -> None:
    url, folder = server
    for file in ("half.txt", "good.txt"):
        (folder / file).write_text("x" * 1000)
    set_files({"url": f"{url}/{name}", "path": "got.txt", **changes})
    with pytest.raises(InputError, match=message):
        download("own")
    assert [path.name for path in own.root.iterdir() if "got" in path.name] == []


def test_a_server_that_is_down_is_one_clear_error(own: Own) -> None:
    set_files({"url": "http://127.0.0.1:9/x", "path": "x"})
    with pytest.raises(InputError, match=r"http://127\.0\.0\.1:9/x: cannot be fetched: .*refused"):
        download("own")


BROKEN = {
    "500": b"HTTP/1.1 500 Out of order\r\nContent-Length: 0\r\n\r\n",
    "no-status": b"what?\r\n\r\n",
    "nothing": b"",
    "no-number": b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
    "cut-chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n400\r\nhalf",
    "no-chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
    "page": b"HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n<!DOCTYPE html",
    "reset": b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\nhalf",
}


class BrokenHandler(socketserver.StreamRequestHandler):
    """Answers what the URL's name stands for; `reset` ends as a killed server does."""

    def handle(self) -> None:
        name = self.rfile.readline().split()[1].decode().strip("/")
        while self.rfile.readline().strip():
            pass
        self.wfile.write(BROKEN[name])
        self.wfile.flush()
        if name == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()


@pytest.fixture
def broken_server() -> Iterator[str]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), BrokenHandler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


@pytest.mark.parametrize("name", BROKEN)
def test_a_server_that_breaks_the_rules_is_told_in_one_line_and_leaves_no_file(
    own: Own, broken_server: str, name: str
) -> None:
    before = sorted(own.root.iterdir())
    set_files({"url": f"{broken_server}/{name}", "path": "got.bin"})
    with pytest.raises(InputError) as caught:
        download("own")
    (fault,) = caught.value.faults
    assert fault.startswith(f"{broken_server}/{name}: ")
    assert "written" not in fault
    assert "\n" not in fault
    assert sorted(own.root.iterdir()) == before


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "x", "data:,x"])
def test_other_schemes_are_refused(own: Own, url: str) -> None:
    set_files({"url": url, "path": "x"})
    with pytest.raises(InputError, match="only http and https are fetched"):
        download("own")


@pytest.mark.parametrize("kind", ["zip", "tar", "broken"])
def test_an_archive_that_escapes_or_is_broken_is_refused(
    own: Own, server: tuple[str, Path], kind: str
) -> None:
    url, folder = server
    path = folder / "bad"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("../escaped.txt", "x")
    elif kind == "tar":
        with tarfile.open(path, "w") as archive:
            member = tarfile.TarInfo("../escaped.txt")
            member.size = 1
            archive.addfile(member, io.BytesIO(b"x"))
    else:
        path.write_bytes(b"neither")
    set_files({"url": f"{url}/bad", "path": "bad", "unpack": True})
    with pytest.raises(InputError, match="bad: "):
        download("own")
    assert not (own.root.parent / "escaped.txt").exists()


def test_a_path_that_leaves_the_data_root_is_refused(own: Own, server: tuple[str, Path]) -> None:
    url, folder = server
    (folder / "x").write_text("x")
    set_files({"url": f"{url}/x", "path": "../x"})
    with pytest.raises(InputError, match="leaves the folder"):
        download("own")
