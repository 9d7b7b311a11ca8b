"""The Cityscapes evaluators on invalid and unusual input."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kmax.errors import InputError
from kmax.evaluation.cityscapes import cityscapes_ap, cityscapes_miou

FRAME = "city_000000_000019"
SHAPE = (20, 30)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One frame with a car, found exactly, and road around it; as instances and as labels."""
    instances = np.full(SHAPE, 7, np.uint16)
    instances[2:14, 3:20] = 26000
    labels = np.where(instances == 26000, 26, 7).astype(np.uint8)
    truth = tmp_path / "val" / "city"
    truth.mkdir(parents=True)
    Image.fromarray(instances).save(truth / f"{FRAME}_gtFine_instanceIds.png")
    Image.fromarray(labels).save(truth / f"{FRAME}_gtFine_labelIds.png")
    (tmp_path / "instances" / "masks").mkdir(parents=True)
    mask = (instances == 26000).astype(np.uint8) * 255
    Image.fromarray(mask).save(tmp_path / "instances/masks/0.png")
    (tmp_path / "instances" / f"{FRAME}_pred.txt").write_text("masks/0.png 26 0.9\n")
    (tmp_path / "labels").mkdir()
    Image.fromarray(labels).save(tmp_path / "labels" / f"{FRAME}_pred.png")
    return tmp_path


def ap(folder: Path, **options: object) -> cityscapes_ap.CityscapesAP:
    return cityscapes_ap.evaluate_files(folder / "val", folder / "instances", **options)


def miou(folder: Path, **options: object) -> cityscapes_miou.CityscapesMiou:
    return cityscapes_miou.evaluate_files(folder / "val", folder / "labels", **options)


def test_perfect_predictions_score_one(folder: Path) -> None:
    figures = ap(folder).to_json()
    assert figures["ap"] == figures["per_category"]["26"]["ap50"] == 1.0
    assert figures["per_category"]["24"]["ap"] is None
    provenance = figures["provenance"]
    assert provenance["split"] == "val"
    assert provenance["images"] == 1
    assert len(provenance["ground_truth_digest"]) == len(provenance["predictions_digest"]) == 64
    figures = miou(folder).to_json()
    assert figures["miou"] == figures["iiou"] == figures["category_iou"] == 1.0
    assert figures["n"] == 2


def test_digests_follow_the_bytes_not_the_folder(folder: Path) -> None:
    before = ap(folder).provenance
    (folder / "instances").rename(folder / "moved")
    moved = cityscapes_ap.evaluate_files(folder / "val", folder / "moved").provenance
    assert moved == before
    (folder / "moved" / f"{FRAME}_pred.txt").write_text("masks/0.png 26 0.8\n")
    after = cityscapes_ap.evaluate_files(folder / "val", folder / "moved").provenance
    assert after.predictions_digest != before.predictions_digest


@pytest.mark.parametrize(
    "line", ["masks/0.png 26.0 0.9\r\n", "masks/0.png 2.6e1 9e-1", "masks/x\x0cy\u2028.png 26 1\n"]
)
def test_labels_may_be_floats_and_names_may_have_any_characters(folder: Path, line: str) -> None:
    """As for the official scripts, only line breaks end a line."""
    name = folder / "instances" / line.split(" ", maxsplit=1)[0]
    (folder / "instances/masks/0.png").rename(name)
    (folder / "instances" / f"{FRAME}_pred.txt").write_bytes(line.encode())
    assert ap(folder).to_json()["ap"] == 1.0


def test_masks_may_be_links_of_any_kind_of_picture(folder: Path) -> None:
    mask = folder / "instances/masks/0.png"
    with Image.open(mask) as grey:
        grey.convert("RGB").save(folder / "elsewhere.png")
    mask.unlink()
    mask.symlink_to(folder / "elsewhere.png")
    assert ap(folder).to_json()["ap"] == 1.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("masks/0.png 26\n", "line 1: expected 'mask label confidence'"),
        ("masks/0.png 26 nan\n", "confidence nan is not a finite number"),
        ("masks/0.png 77 0.5\n", "unknown label 77"),
        ("masks/0.png car 0.5\n", "unknown label car"),
        ("masks/9.png 26 0.5\n", "9.png: image city_000000_000019: label 26: mask not found"),
        ("../val/x.png 26 0.5\n", "outside the prediction folder"),
        ("/etc/passwd 26 0.5\n", "outside the prediction folder"),
    ],
)
def test_faults_in_the_text_file(folder: Path, text: str, message: str) -> None:
    (folder / "instances" / f"{FRAME}_pred.txt").write_text(text)
    with pytest.raises(InputError) as caught:
        ap(folder)
    assert len(caught.value.faults) == 1
    assert message in caught.value.faults[0]
    assert FRAME in caught.value.faults[0]


def test_a_text_file_of_bytes(folder: Path) -> None:
    (folder / "instances" / f"{FRAME}_pred.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read as text"):
        ap(folder)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("masks/1.png 26 0.3", "empty mask"),
        ("masks/0.png 29 0.3", "without evaluated instances"),
        ("masks/0.png 26 0.3", "listed twice"),
    ],
)
def test_input_that_the_official_evaluator_ignores_is_a_warning(
    folder: Path, line: str, message: str
) -> None:
    Image.fromarray(np.zeros(SHAPE, np.uint8)).save(folder / "instances/masks/1.png")
    with (folder / "instances" / f"{FRAME}_pred.txt").open("a") as stream:
        stream.write(line + "\n")
    assert any(message in warning for warning in ap(folder).warnings)
    with pytest.raises(InputError, match=message):
        ap(folder, strict=True)


@pytest.mark.parametrize("evaluate", [ap, miou])
def test_missing_several_and_other_predictions(folder: Path, evaluate: object) -> None:
    where, suffix = (folder / "instances", ".txt") if evaluate is ap else (folder / "labels", ".png")
    first = where / f"{FRAME}_pred{suffix}"
    other = where / f"town_000001_000019_pred{suffix}"
    other.write_bytes(first.read_bytes())
    assert any("not in the ground truth" in warning for warning in evaluate(folder).warnings)
    second = where / f"{FRAME}_second{suffix}"
    second.write_bytes(first.read_bytes())
    with pytest.raises(InputError, match=f"image {FRAME}: 2 predictions"):
        evaluate(folder)
    first.unlink()
    second.unlink()
    with pytest.raises(InputError, match=f"image {FRAME}: no prediction"):
        evaluate(folder)


def test_a_longer_frame_number_is_another_frame(folder: Path) -> None:
    text = folder / "instances" / f"{FRAME}_pred.txt"
    text.rename(text.with_name(f"{FRAME}9_pred.txt"))
    with pytest.raises(InputError, match="no prediction"):
        ap(folder)


def test_wrong_sizes(folder: Path) -> None:
    small = np.zeros((5, 6), np.uint8)
    Image.fromarray(small).save(folder / "instances/masks/0.png")
    with pytest.raises(InputError, match=r"0\.png: image city_000000_000019: label 26: mask of 6x5 pixels"):
        ap(folder)
    Image.fromarray(small).save(folder / "labels" / f"{FRAME}_pred.png")
    with pytest.raises(InputError, match="6x5 pixels, but the ground truth has 30x20"):
        miou(folder)


def test_labels_that_do_not_exist(folder: Path) -> None:
    Image.fromarray(np.full(SHAPE, 34, np.uint8)).save(folder / "labels" / f"{FRAME}_pred.png")
    with pytest.raises(InputError, match=f"image {FRAME}: unknown label 34"):
        miou(folder)


def test_colours_instead_of_labels(folder: Path) -> None:
    Image.fromarray(np.zeros((*SHAPE, 3), np.uint8)).save(folder / "labels" / f"{FRAME}_pred.png")
    with pytest.raises(InputError, match="one channel"):
        miou(folder)


def test_folders_without_ground_truth(folder: Path) -> None:
    with pytest.raises(InputError, match="no ground truth"):
        cityscapes_ap.evaluate_files(folder / "labels", folder / "instances")
    with pytest.raises(InputError, match="not found"):
        cityscapes_ap.evaluate_files(folder / "nowhere", folder / "instances")


def test_all_predictions_ignored_scores_zero(folder: Path) -> None:
    """A car is missed; the only prediction is on void."""
    path = folder / "val" / "city" / f"{FRAME}_gtFine_instanceIds.png"
    truth = np.array(Image.open(path))
    truth[truth == 7] = 0
    Image.fromarray(truth).save(path)
    mask = np.zeros(SHAPE, np.uint8)
    mask[16:] = 1
    Image.fromarray(mask).save(folder / "instances/masks/0.png")
    assert ap(folder).to_json()["ap"] == 0.0


def test_files_of_systems_are_left_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("instanceIds", "labelIds"):
        (folder / f"val/city/._{FRAME}_gtFine_{name}.png").write_bytes(b"ghost")
    (folder / f"labels/._{FRAME}_pred.png").write_bytes(b"ghost")
    assert ap(folder, strict=True).to_json()["ap"] == 1.0
    assert miou(folder, strict=True).to_json()["miou"] == 1.0
    lines = capsys.readouterr().err.splitlines()
    ghost = f"'city/._{FRAME}_gtFine_instanceIds.png'"
    assert lines[0] == f"warning: {folder}/val: left out: 2 hidden (first: {ghost})"
    assert len(lines) == 3


def test_frames_behind_links_and_suffixes_in_capital_letters_count(folder: Path) -> None:
    (folder / "linked").mkdir()
    (folder / "linked/val").symlink_to(folder / "val")
    for path in list((folder / "val/city").iterdir()):
        path.rename(path.with_suffix(".PNG"))
    found = cityscapes_miou.evaluate_files(folder / "linked", folder / "labels")
    assert found.to_json()["miou"] == 1.0


def test_ground_truth_in_two_files_is_refused(folder: Path) -> None:
    shutil.copytree(folder / "val/city", folder / "val/copy")
    with pytest.raises(InputError, match=f"image {FRAME}: 2 files of ground truth: city/.*, copy/"):
        miou(folder)
