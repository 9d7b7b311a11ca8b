from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_datasets import Own

from kmax.data.download.download_dataset import download
from kmax.data.prepare.prepare_dataset import prepare
from kmax.errors import InputError
from kmax.visualization.contact_sheet import CELL, GAP, contact_sheet


def sheet(out: Path, **changes) -> np.ndarray:
    arguments = {"run": None, "split": "train", "count": 2, "augmented": True, "seed": 0} | changes
    contact_sheet("own", out, **arguments)
    return np.asarray(Image.open(out))


def test_a_row_per_image_and_a_column_per_look(own: Own, tmp_path: Path) -> None:
    download("own")
    prepare("own", workers=1)
    step = CELL + GAP
    both = sheet(tmp_path / "a.png")
    assert both.shape == (2 * step - GAP, 4 * step - GAP, 3)
    before = sheet(tmp_path / "b.png", augmented=False)
    assert before.shape == (2 * step - GAP, 2 * step - GAP, 3)
    np.testing.assert_array_equal(before, both[:, : 2 * step - GAP])
    np.testing.assert_array_equal(both, sheet(tmp_path / "c.png"))
    assert (both != sheet(tmp_path / "d.png", seed=1)).any()


def test_another_datasets_run_is_refused(own: Own, tmp_path: Path) -> None:
    download("own")
    prepare("own", workers=1)
    with pytest.raises(InputError, match="run 'shapes-tiny' trains on dataset 'shapes', not on 'own'"):
        sheet(tmp_path / "a.png", run="shapes-tiny")
    with pytest.raises(InputError, match="unknown split 'trian'; did you mean 'train'"):
        sheet(tmp_path / "a.png", split="trian")
    assert not (tmp_path / "a.png").exists()
