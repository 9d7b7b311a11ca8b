"""Mean IoU of ADE20K's label maps: conventions, invalid and unusual input."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kmax.errors import InputError
from kmax.evaluation.semantic.label_maps import evaluate_ade20k
from kmax.evaluation.semantic.miou import MiouResult


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Half of class 3 is found, the other half predicted as 5; a quarter is unlabelled."""
    truth, predicted = np.full((8, 8), 4, np.uint8), np.full((8, 8), 3, np.uint8)
    truth[:, 6:] = 0
    predicted[4:] = 5
    for side, pixels in (("gt", truth), ("pred", predicted)):
        (tmp_path / side).mkdir()
        Image.fromarray(pixels).save(tmp_path / side / "ADE_val_00000001.png")
    return tmp_path


def evaluate(folder: Path, **options: object) -> MiouResult:
    return evaluate_ade20k(folder / "gt", folder / "pred", **options)


def test_each_convention_divides_by_its_number_of_classes(folder: Path) -> None:
    figures = evaluate(folder).to_json()
    assert figures["averages"] == {
        "classes in ground truth": 0.5,
        "classes in ground truth or prediction": 0.25,
        "all classes": pytest.approx(0.5 / 150),
    }
    assert figures["miou"] == 0.25
    assert figures["average"] == "classes in ground truth or prediction"
    assert figures["pixel_accuracy"] == 0.5
    assert figures["provenance"]["split"] == "gt"


def test_faults_name_image_and_class(folder: Path) -> None:
    path = folder / "pred" / "ADE_val_00000001.png"
    Image.fromarray(np.full((8, 8), 150, np.uint8)).save(path)
    with pytest.raises(InputError, match="image ADE_val_00000001: unknown label 150"):
        evaluate(folder)
    Image.fromarray(np.zeros((4, 8), np.uint8)).save(path)
    with pytest.raises(InputError, match="8x4 pixels, but the ground truth has 8x8"):
        evaluate(folder)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError, match="truncated"):
        evaluate(folder)
    path.unlink()
    with pytest.raises(InputError, match="image ADE_val_00000001: predicted PNG not found"):
        evaluate(folder)


def test_other_images_are_a_warning_and_an_error_if_strict(folder: Path) -> None:
    (folder / "pred" / "other.png").write_bytes(b"")
    assert "not in the ground truth" in evaluate(folder).warnings[0]
    with pytest.raises(InputError, match="not in the ground truth"):
        evaluate(folder, strict=True)


def test_empty_and_missing_folders(folder: Path) -> None:
    with pytest.raises(InputError, match="not found"):
        evaluate_ade20k(folder / "nowhere", folder / "pred")
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match="no ground truth"):
        evaluate_ade20k(folder / "empty", folder / "pred")


def test_files_of_systems_are_left_out_and_suffixes_compared_in_any_case(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for side in ("gt", "pred"):
        (folder / side / "._ADE_val_00000001.png").write_bytes(b"ghost")
    path = folder / "pred" / "ADE_val_00000001.png"
    path.rename(path.with_suffix(".PNG"))
    assert evaluate(folder, strict=True).to_json()["miou"] == 0.25
    assert len(capsys.readouterr().err.splitlines()) == 2
    path.write_bytes(b"")
    with pytest.raises(InputError, match="have the same name without suffix"):
        evaluate(folder)
