import hashlib
import io
import json
import socket
import socketserver
import struct
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from faulty_server import Server
from small_datasets import Own

from kmax.data.download.download_dataset import download
from kmax.data.prepare.prepare_dataset import prepare
from kmax.errors import InputError
from kmax.files import sha256


def set_files(*files: dict) -> None:
    path = Path("params/datasets/own.yaml")
    value = yaml.safe_load(path.read_text())
    value["source"]["files"] = list(files)
    path.write_text(yaml.safe_dump(value))


def packed(own: Own) -> bytes:
    """Move the dataset into an archive."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for file in sorted(own.root.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(own.root))
                file.unlink()
    return packed.getvalue()


def visible(own: Own) -> list[Path]:
    """All but what the download keeps for itself."""
    return sorted(path for path in own.root.iterdir() if path.name != ".downloads")


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


def test_an_archive_is_fetched_unpacked_and_not_fetched_again(own: Own, server: Server) -> None:
    url = server.add("all.zip", packed(own))
    checksum = hashlib.sha256(server.files["all.zip"].content).hexdigest()
    set_files({"url": url, "path": "all.zip", "sha256": checksum, "unpack": True})
    first = download("own").read_text()
    assert not list(own.root.rglob("all.zip"))
    assert download("own").read_text() == first
    assert len(server.requests) == 1
    prepare("own")


def test_a_first_checksum_is_recorded_and_checked_ever_after(own: Own, server: Server) -> None:
    set_files({"url": server.add("extra.txt", b"first"), "path": "extra.txt"})
    record = json.loads(download("own").read_text())
    assert record["files"]["extra.txt"]["sha256"] == hashlib.sha256(b"first").hexdigest()
    (own.root / "extra.txt").write_text("changed")
    with pytest.raises(InputError, match=r"extra\.txt: SHA-256 is .*, expected .*move the file away"):
        download("own")
    assert (own.root / "extra.txt").read_text() == "changed"
    (own.root / "extra.txt").unlink()
    server.add("extra.txt", b"second")
    with pytest.raises(InputError, match=r"SHA-256 of the downloaded file is .*; it was kept as"):
        download("own")
    assert not (own.root / "extra.txt").exists()


def test_the_checksum_of_an_unpacked_archive_is_recorded_too(own: Own, server: Server) -> None:
    content = packed(own)
    set_files({"url": server.add("all.zip", content), "path": "all.zip", "unpack": True})
    wanted = {"all.zip": {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}}
    for _ in range(2):
        assert json.loads(download("own").read_text())["archives"] == wanted
    (own.root / "train.json").unlink()
    server.files["all.zip"].content = content + b"more"
    with pytest.raises(InputError, match=r"SHA-256 of the downloaded file"):
        download("own")


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("gone.txt", {}, "gone.txt: the server answered 404 Not Found"),
        ("half.txt", {}, "ended after 500 of 1000 bytes"),
        ("good.txt", {"sha256": "0" * 64}, "SHA-256 of the downloaded file is .*, expected 0000"),
        ("good.txt", {"md5": "0" * 32}, "MD5 of the downloaded file is .*, expected 0000"),
        ("good.txt", {"bytes": 5}, "of 5 bytes"),
    ],
)
def test_a_bad_download_leaves_no_file(
    own: Own, server: Server, name: str, changes: dict, message: str
) -> None:
    before = visible(own)
    server.add("half.txt", b"x" * 500, announced=1000, ranges=False)
    server.add("good.txt", b"x" * 1000)
    set_files({"url": f"{server.url}/{name}", "path": "got.txt", **changes})
    with pytest.raises(InputError, match=message):
        download("own")
    assert visible(own) == before


def test_all_files_that_cannot_be_fetched_are_named_and_the_others_kept(own: Own, server: Server) -> None:
    server.add("good.txt", b"x" * 1000)
    names = ("gone.txt", "good.txt", "lost.txt")
    set_files(*({"url": f"{server.url}/{name}", "path": name} for name in names))
    with pytest.raises(InputError) as caught:
        download("own")
    assert sorted(fault.split(": ")[0] for fault in caught.value.faults) == [
        f"{server.url}/gone.txt",
        f"{server.url}/lost.txt",
    ]
    assert (own.root / "good.txt").read_bytes() == b"x" * 1000


def test_a_disk_that_is_too_small_is_reported_before_the_start(own: Own, server: Server) -> None:
    set_files(
        {"url": server.add("big.zip", b"x"), "path": "big.zip", "bytes": 10**15, "unpack": True},
        {"url": server.add("small.txt", b"x"), "path": "small.txt"},
    )
    with pytest.raises(
        InputError, match=r"needs at least 1000000\.00 GB to download, and about 1000000\.00 GB unpacked"
    ):
        download("own")
    assert server.requests == []


def test_a_folder_that_is_gone_is_not_filled_anew(
    own: Own, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_files({"url": server.add("extra.txt", b"x"), "path": "extra.txt"})
    monkeypatch.setenv("KMAX_DATA_ROOT", str(own.root.parent / "moved"))
    with pytest.raises(InputError, match=r"moved: folder not found; mount its disk or create it, or correct"):
        download("own")
    assert server.requests == []


def test_a_server_that_is_down_is_one_clear_error(own: Own) -> None:
    set_files({"url": "http://127.0.0.1:9/x", "path": "x"})
    with pytest.raises(InputError, match=r"http://127\.0\.0\.1:9/x: cannot be downloaded: .*refused"):
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
def test_a_server_that_breaks_the_rules_is_reported_in_one_line_and_leaves_no_file(
    own: Own, broken_server: str, name: str
) -> None:
    before = visible(own)
    set_files({"url": f"{broken_server}/{name}", "path": "got.bin"})
    with pytest.raises(InputError) as caught:
        download("own")
    (fault,) = caught.value.faults
    assert fault.startswith(f"{broken_server}/{name}: ")
    assert "written" not in fault
    assert "\n" not in fault
    assert visible(own) == before


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "x", "data:,x"])
def test_other_schemes_are_refused(own: Own, url: str) -> None:
    set_files({"url": url, "path": "x"})
    with pytest.raises(InputError, match="only http and https are supported"):
        download("own")


@pytest.mark.parametrize("key", ["path", "holds", "inside"])
def test_a_path_that_leaves_the_data_root_is_refused(own: Own, server: Server, key: str) -> None:
    url = server.add("x", b"x")
    odd = {"path": "../x", "holds": {"/x": 1}, "inside": ["a/../../x"]}
    set_files({"url": url, "path": "x", "unpack": True} | {key: odd[key]})
    with pytest.raises(InputError, match="leaves the folder"):
        download("own")
    assert server.requests == []
