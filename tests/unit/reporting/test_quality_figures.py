"""Error analysis, as pictures and on the page of a run."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kmax import paths
from kmax.data.formats.coco_panoptic import CategoryFacts
from kmax.errors import InputError
from kmax.evaluation.panoptic.explanation import explain, write_explanation
from kmax.evaluation.panoptic.segment_outcomes import Outcome, SegmentOutcomes
from kmax.reporting import report
from kmax.reporting.figures import class_parts, confusions, size_parts, write_figures

RUN = "shapes-tiny"


@pytest.fixture
def explained(measure) -> Path:
    """An evaluated run of 30 classes with one segment each: found, of the next class, or missed, in turn."""
    measure(RUN, 0.5)
    size = 30
    categories = [CategoryFacts(n, f"class <{n}>", n % 2 == 0) for n in range(1, size + 1)]
    number = np.arange(size)
    kinds = np.array([Outcome.MATCHED, Outcome.WRONG_CLASS, Outcome.MISSED], np.int8)[number % 3]
    other = np.where(kinds == Outcome.WRONG_CLASS, (number + 1) % size, -1)
    iou = np.where(kinds == Outcome.MATCHED, 0.8, 0.0)
    rows = SegmentOutcomes(kinds, np.ones(size, bool), number, other, (number % 3).astype(np.int8), iou)
    folder = paths.explanation(RUN)
    write_explanation(folder, explain(categories, [7], [rows]))
    (folder / "worst/1_seven").mkdir(parents=True)
    for name in ("image", "ground_truth", "prediction"):
        Image.new("RGB", (8, 6)).save(folder / f"worst/1_seven/{name}.jpg")
    return folder


def test_the_page_shows_parts_confusions_and_the_worst_images(explained) -> None:
    site = report([RUN]).parent
    text = (site / f"runs/{RUN}.html").read_text()
    figures = [f"{RUN}-{kind}.svg" for kind in ("parts", "confusion", "lost")]
    for name in (*figures, "worst/1_seven/prediction.jpg"):
        assert f'src="{RUN}/{name}"' in text
        assert (site / "runs" / RUN / name).is_file()
    assert "seven: quality 40.0" in text  # 10 matches of IoU 0.8, and 20 halves


def test_a_run_that_is_not_explained_has_no_such_pictures(measure, tmp_path) -> None:
    measure(RUN, 0.5)
    assert write_figures([RUN], tmp_path)[RUN] == [f"{RUN}-training.svg", f"{RUN}-classes.svg"]
    assert "Error analysis" not in (report([RUN]).parent / f"runs/{RUN}.html").read_text()


@pytest.mark.parametrize(
    ("draw", "name", "content"),
    [
        (size_parts, "summary.json", "{}"),
        (size_parts, "summary.json", "["),
        (class_parts, "parts.csv", "name,size\na,all\n"),
        (confusions, "confusion.csv", "truth,predicted,segments\na,b,many\n"),
    ],
)
def test_corrupt_files_give_a_one_line_error(explained, draw, name, content) -> None:
    (explained / name).write_text(content)
    with pytest.raises(InputError, match=name):
        draw(RUN)
