"""COCO, Cityscapes and ADE20K in their true layouts, from archives to raw files."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from faulty_server import Server
from true_layouts import Packed, ade20k, cityscapes, coco, describe, files_below

from kmax.data.dataset_file import load_dataset, raw_root
from kmax.data.download import download_dataset as download_module
from kmax.data.download.download_dataset import download
from kmax.errors import InputError


def put(content: dict[str, bytes], root: Path) -> None:
    for name, file in content.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(file)


@pytest.mark.parametrize("make", [coco, ade20k])
@pytest.mark.parametrize("elsewhere", [True, False])
def test_archives_become_the_layout_that_the_dataset_file_names(
    make: Callable[[], Packed],
    elsewhere: bool,
    data_root: Path,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not elsewhere:
        monkeypatch.delenv("KMAX_DATA_ROOT")
    packed = make()
    describe(packed, server)
    for served in server.files.values():
        served.cuts = [1000]
    record = json.loads(download(packed.dataset).read_text())
    root = raw_root(load_dataset(packed.dataset))
    found = files_below(root)
    found.pop("manifest.json", None)
    assert found == packed.content
    assert record["files"].keys() <= packed.content.keys()
    assert "archives" not in record
    assert server.sent == sum(len(archive) for archive in packed.archives.values())
    kept = {path.name for path in (root / ".downloads").iterdir()}
    assert kept == {"lock", *(f"{name}.unpacked.json" for name in packed.archives)}


@pytest.mark.parametrize("make", [coco, ade20k])
def test_the_second_time_nothing_is_fetched_read_or_unpacked(
    make: Callable[[], Packed], data_root: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = make()
    describe(packed, server)
    first = download(packed.dataset).read_bytes()
    asked = len(server.requests)
    monkeypatch.setattr(download_module, "raw_files", None)
    monkeypatch.setattr("kmax.data.download.listed_file.map_items", None)
    monkeypatch.setattr("kmax.data.download.obtain.unpack", None)
    assert download(packed.dataset).read_bytes() == first
    assert len(server.requests) == asked


@pytest.mark.parametrize("make", [coco, ade20k, cityscapes])
def test_what_was_unpacked_by_hand_is_taken(
    make: Callable[[], Packed], data_root: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = make()
    describe(packed, server)
    root = raw_root(load_dataset(packed.dataset))
    put(packed.content, root)
    download(packed.dataset)
    assert server.requests == []
    assert sorted(files_below(root)) == sorted(packed.content)
    assert not (root / ".downloads").exists()


@pytest.mark.parametrize("make", [coco, ade20k, cityscapes])
def test_archives_put_there_by_hand_are_verified_unpacked_and_kept(
    make: Callable[[], Packed], data_root: Path, server: Server
) -> None:
    packed = make()
    describe(packed, server)
    root = raw_root(load_dataset(packed.dataset))
    put(packed.archives, root)
    for _ in range(2):
        download(packed.dataset)
        assert files_below(root) == packed.content | packed.archives
    assert server.requests == []


def test_a_lost_file_is_fetched_again(data_root: Path, server: Server) -> None:
    packed = coco()
    describe(packed, server)
    download("coco")
    asked = len(server.requests)
    (data_root / "coco/val2017/000000000001.jpg").unlink()
    (data_root / "coco/test2017/000000000000.jpg").write_bytes(b"")
    with pytest.raises(
        InputError, match=r"000000000000\.jpg: differs from the file of that name in test2017\.zip"
    ):
        download("coco")
    (data_root / "coco/test2017/000000000000.jpg").unlink()
    download("coco")
    assert files_below(data_root / "coco") == packed.content
    assert [request.name for request in server.requests[asked:]].count("val2017.zip") == 1
    assert {request.name for request in server.requests[asked:]} == {"val2017.zip", "test2017.zip"}


def test_cityscapes_asks_for_what_only_its_user_can_do(data_root: Path, server: Server) -> None:
    packed = cityscapes()
    describe(packed, server)
    root = data_root / "cityscapes"
    with pytest.raises(InputError) as caught:
        download("cityscapes")
    (line,) = caught.value.faults
    for part in (
        "leftImg8bit_trainvaltest.zip",
        "gtFine_trainvaltest.zip",
        "https://www.cityscapes-dataset.com/register",
        f"csDownload --destination_path {root} ",
        "run: kmax data download cityscapes",
    ):
        assert part in line
    assert "\n" not in line
    assert root.is_dir()  # csDownload wants the folder to be there
    name = "gtFine_trainvaltest.zip"
    (root / name).write_bytes(packed.archives[name][:1000])
    with pytest.raises(
        InputError, match=r"has 1000 of \d+ bytes; complete the download, and run the command again"
    ):
        download("cityscapes")
    (root / name).write_bytes(packed.archives[name][:-1] + b"?")
    with pytest.raises(InputError, match=r"MD5 is .*; move the file away to download it again by hand"):
        download("cityscapes")
    put(packed.archives, root)
    download("cityscapes")
    assert files_below(root) == packed.content | packed.archives


def test_media_that_cannot_be_written_are_read(
    data_root: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = coco()
    describe(packed, server)
    put(packed.content, data_root / "coco")
    monkeypatch.setattr("kmax.data.download.obtain.exclusive_lock", None)
    monkeypatch.setattr("kmax.data.download.obtain.write_json", None)
    download("coco")


def test_a_corrupt_archive_without_checksum_is_reported_and_kept(data_root: Path, server: Server) -> None:
    packed = ade20k()
    packed.archives["annotations_instance.tar"] = packed.archives["annotations_instance.tar"][:5000]
    describe(packed, server)
    path = Path("params/datasets/ade20k.yaml")
    path.write_text("\n".join(line for line in path.read_text().split("\n") if "sha256" not in line))
    with pytest.raises(
        InputError, match=r"annotations_instance\.tar: cannot be unpacked: .*; the archive is corrupt"
    ):
        download("ade20k")
    assert (data_root / "ADEChallengeData2016/.downloads/annotations_instance.tar").stat().st_size == 5000
    assert not Path("data/raw/ade20k/manifest.json").exists()
