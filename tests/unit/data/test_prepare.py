import csv
import errno
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_datasets import Own, few_shapes

from kmax.data.dataset_file import load_dataset
from kmax.data.datasets import open_prepared
from kmax.data.download.download_dataset import download
from kmax.data.formats.coco_panoptic import read_map, write_map
from kmax.data.formats.coco_panoptic_json import read_panoptic_json
from kmax.data.image_source import ImageSource
from kmax.data.prepare.check_dataset import check
from kmax.data.prepare.prepare_dataset import prepare
from kmax.errors import InputError
from kmax.files import exclusive_lock, sha256


def leftovers() -> list[str]:
    folder = Path("data/prepared")
    return sorted(p.name for p in folder.iterdir() if p.suffix in {".tmp", ".old"}) if folder.exists() else []


@pytest.mark.parametrize(("name", "counts"), [("coco_mini", (100, 60)), ("nuclei", (50, 20))])
def test_real_data_is_prepared_unchanged(
    project: Path, samples: Path, monkeypatch: pytest.MonkeyPatch, name: str, counts: tuple[int, int]
) -> None:
    monkeypatch.setenv("KMAX_DATA_ROOT", str(samples))
    download(name)
    folder = prepare(name)
    dataset, prepared = load_dataset(name), open_prepared(name)
    assert tuple(split.num_images for split in prepared.splits.values()) == counts
    for split, files in dataset.source.splits.items():
        root = samples / dataset.source.folder
        source, ours = (
            read_panoptic_json(root / files.panoptic_json),
            read_panoptic_json(folder / f"panoptic_{split}.json"),
        )
        assert source.images == ours.images
        assert source.annotations == ours.annotations
        for annotation in source.annotations:
            png = folder / f"panoptic_{split}" / annotation.file_name
            assert png.read_bytes() == (root / files.panoptic_dir / annotation.file_name).read_bytes()
        assert all((prepared.split(split).images_dir / image.file_name).is_file() for image in ours.images)
    assert not any(path.suffix == ".jpg" for path in folder.rglob("*"))
    for manifest in (folder / "manifest.json", Path(f"data/raw/{name}/manifest.json")):
        assert str(samples) not in manifest.read_text()
    things = [category.isthing for category in prepared.categories]
    assert things == sorted(things, reverse=True)
    assert len({tuple(category.color) for category in prepared.categories}) == len(prepared.categories)


def test_classes_are_contiguous_with_things_first(own: Own) -> None:
    download("own")
    prepare("own")
    assert [(c.name, c.id) for c in open_prepared("own").categories] == [("box", 3), ("ground", 20)]


def test_preparing_again_gives_the_same_digest_wherever_the_data_lies(
    own: Own, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    download("own")
    prepare("own")
    first = open_prepared("own").digest
    shutil.copytree(own.root, tmp_path / "elsewhere" / "own")
    monkeypatch.setenv("KMAX_DATA_ROOT", str(tmp_path / "elsewhere"))
    download("own")
    prepare("own")
    assert open_prepared("own").digest == first


def test_a_changed_image_changes_the_digest_and_asks_for_a_new_download(own: Own) -> None:
    download("own")
    prepare("own")
    before = open_prepared("own").digest
    shutil.copy(own.image(0), own.root / "spare.png")
    content = bytearray(own.image(0).read_bytes())
    own.image(0).write_bytes(bytes(content) + b"\0")
    with pytest.raises(
        InputError, match=r"train0\.png: changed since the download; run: kmax data download own"
    ):
        prepare("own")
    assert open_prepared("own").digest == before
    download("own")
    prepare("own")
    assert open_prepared("own").digest != before


def test_what_is_not_downloaded_or_prepared_is_reported(own: Own) -> None:
    with pytest.raises(InputError, match="kmax data download own"):
        prepare("own")
    with pytest.raises(InputError, match="kmax data prepare own"):
        open_prepared("own")
    with pytest.raises(InputError, match="did you mean 'own'"):
        prepare("owm")


def test_a_corrupt_manifest_is_reported(own: Own) -> None:
    download("own")
    path = prepare("own") / "manifest.json"
    value = json.loads(path.read_text())
    del value["digest"]
    path.write_text(json.dumps(value))
    with pytest.raises(InputError, match=r"manifest\.json: digest: missing key"):
        open_prepared("own")


def test_two_processes_do_not_prepare_the_same_dataset(own: Own) -> None:
    download("own")
    with (
        exclusive_lock(Path("data/prepared/.own.lock"), "held"),
        pytest.raises(InputError, match="another process is preparing 'own'"),
    ):
        prepare("own")
    prepare("own")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_preparation_leaves_nothing_half_made_and_is_continued(
    project: Path, number: signal.Signals
) -> None:
    few_shapes(train=300, val=1)
    download("few")
    # A shell's background jobs ignore Ctrl-C, and so would their children.
    command = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from kmax.data.prepare.prepare_dataset import prepare; prepare('few', workers=2)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", command], stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        while not any(path.stat().st_size for path in Path("runs/.prepare").glob("few/*/train.jsonl")):
            assert process.poll() is None
        os.kill(process.pid, number)
        assert process.wait(timeout=60) != 0
    finally:
        if process.poll() is None:
            process.kill()
    assert not Path("data/prepared/few").exists()
    with exclusive_lock(Path("data/prepared/.few.lock"), "", wait=True):
        pass  # the workers end by themselves, and with them the lock
    first = next(Path("runs/.prepare/few").glob("*/prepared/images_train/000000.png")).stat().st_mtime_ns
    folder = prepare("few", workers=2)
    assert (folder / "images_train/000000.png").stat().st_mtime_ns == first
    assert open_prepared("few").splits["train"].num_images == 300
    assert leftovers() == []
    assert check("few").lines() == []


def test_what_was_made_is_not_made_again_and_what_was_lost_is(own: Own) -> None:
    download("own")
    whole = manifest(prepare("own", workers=1))
    own.png().unlink()
    own.root.joinpath("extra").write_text("stays")
    with pytest.raises(InputError, match=r"train0\.png: panoptic PNG not found"):
        prepare("own", workers=1)
    write_map(own.png(), read_map(Path("data/prepared/own/panoptic_train/train0.png")))
    (work,) = Path("runs/.prepare/own").glob("*")
    made = work / "prepared/panoptic_train/train1.png"
    before = made.stat().st_mtime_ns
    lost = work / "prepared/panoptic_val/val2.png"
    lost.write_bytes(b"")
    with open(work / "val.jsonl", "a") as journal:
        journal.write('{"position": 1, "im')
    folder = prepare("own", workers=1)
    assert (folder / "panoptic_train/train1.png").stat().st_mtime_ns == before
    assert manifest(folder) == whole
    assert not Path("runs/.prepare/own").exists()


def test_another_raw_manifest_starts_anew(own: Own) -> None:
    download("own")
    own.png().unlink()
    with pytest.raises(InputError):
        prepare("own", workers=1)
    (before,) = Path("runs/.prepare/own").glob("*")
    write_map(own.png(), np.full((20, 30), 7))
    own.edit(lambda value: value["annotations"][0]["segments_info"].pop(1))
    own.edit(lambda value: value["annotations"][0]["segments_info"][0].update(area=600))
    with pytest.raises(InputError, match="changed since the download"):
        prepare("own", workers=1)
    download("own")
    prepare("own", workers=1)
    assert not before.exists()


def manifest(folder: Path) -> str:
    return (folder / "manifest.json").read_text()


def test_each_image_has_a_row(own: Own) -> None:
    download("own")
    folder = prepare("own", workers=1)
    with open(folder / "files_train.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["file_name"] for row in rows] == ["train0.png", "train1.png", "train2.png"]
    first = rows[0]
    assert (first["width"], first["height"], first["segments"], first["crowd_segments"]) == (
        "30",
        "20",
        "2",
        "0",
    )
    assert first["image_sha256"] == sha256(own.image())
    assert first["png_sha256"] == sha256(folder / "panoptic_train" / first["panoptic_png"])
    assert len({row["digest"] for row in rows}) == 3


def test_harmless_faults_are_reported_and_prepared(own: Own, capsys: pytest.CaptureFixture[str]) -> None:
    own.edit(lambda value: value["annotations"][0].update(segments_info=[]))
    write_map(own.png(), np.zeros((20, 30), int))
    download("own")
    prepare("own", workers=1)
    assert "prepared with warnings: 1 images without segments; kmax data check own" in capsys.readouterr().err


def test_a_failed_preparation_keeps_the_former_one(own: Own) -> None:
    download("own")
    folder = prepare("own")
    before = (folder / "manifest.json").read_bytes()
    own.png(1).unlink()
    with pytest.raises(InputError, match=r"train1\.png: panoptic PNG not found"):
        prepare("own")
    assert (folder / "manifest.json").read_bytes() == before
    assert leftovers() == []


def test_an_unwritable_folder_is_one_clear_error(own: Own) -> None:
    download("own")
    Path("data/prepared").write_text("a file where the folder should be")
    with pytest.raises(InputError, match="data/prepared"):
        prepare("own")


def test_no_worker_is_left_behind(project: Path) -> None:
    few_shapes()
    download("few")
    prepare("few", workers=2)
    assert multiprocessing.active_children() == []


def test_a_folder_that_moved_is_reported_once_and_found_at_its_new_place(
    own: Own, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    download("own")
    prepare("own", workers=1)
    (tmp_path / "new").mkdir()
    own.root.rename(tmp_path / "new" / "own")
    with pytest.raises(InputError, match=r"own/images: folder of images not found; .*KMAX_DATA_ROOT"):
        ImageSource(open_prepared("own"), "train", None, "test", cache_bytes=0)
    with pytest.raises(InputError, match=r"media/own: folder of dataset 'own' not found; for every command"):
        prepare("own", workers=1)
    monkeypatch.setenv("KMAX_DATA_ROOT", str(tmp_path / "new"))
    assert len(ImageSource(open_prepared("own"), "train", None, "test", cache_bytes=0)) == 3
    prepare("own", workers=1)


def test_nothing_is_written_where_the_raw_files_lie(own: Own) -> None:
    def all_files() -> dict[str, int]:
        return {str(path): path.stat().st_mtime_ns for path in own.root.rglob("*")}

    before = all_files()
    download("own")
    check("own", workers=1)
    prepare("own", workers=1)
    assert all_files() == before


def test_a_read_only_project_is_one_clear_error(own: Own, monkeypatch: pytest.MonkeyPatch) -> None:
    download("own")

    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", "data/prepared/own")

    monkeypatch.setattr("kmax.files.os.replace", refuse)
    with pytest.raises(InputError, match=r"own.*: cannot be written: the file system is read-only"):
        prepare("own", workers=1)


def test_results_move_to_another_file_system(own: Own, monkeypatch: pytest.MonkeyPatch) -> None:
    download("own")
    whole = manifest(prepare("own", workers=1))
    monkeypatch.setattr("kmax.files._same_device", lambda *paths: False)
    assert manifest(prepare("own", workers=1)) == whole
    assert leftovers() == []
