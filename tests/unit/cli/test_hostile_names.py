"""Category names of any kind pass through all stages, the report, and the pictures."""

import csv
import json
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from commandline import ROOT, change, run_kmax

from kmax.csv_files import read_csv

NAMES = {
    1: "bill $1_$5 \\frac{",
    2: "line\nbreak\r",
    3: "<script>alert(1)</script>|`x`",
    4: "=cmd|'/c calc'!A0",
    101: "\u202eleft",
    102: "same",
    103: "same",
    104: "x" * 300,
}


class Tags(HTMLParser):
    """The tags of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.found.add(tag)


def describe(folder: Path) -> None:
    """An own dataset of the generated images, with these names."""
    prepared = folder / "data/prepared/shapes_mini"
    annotation = json.loads((prepared / "panoptic_train.json").read_text())
    for category in annotation["categories"]:
        category["name"] = NAMES[category["id"]]
    (folder / "named.json").write_text(json.dumps(annotation))
    places = {"--images": prepared / "images_train", "--panoptic-dir": prepared / "panoptic_train"}
    places["--panoptic-json"] = folder / "named.json"
    make(folder, "data", "init", "named", *(str(word) for place in places.items() for word in place))

    def short(content: Any) -> None:
        content["base"]["data"]["image_size"] = [65, 65]
        content["base"]["model"]["num_clusters"] = 8
        content["base"]["train"] |= {"steps": 3, "warmup_steps": 1}
        content["base"]["predict"] |= {"pixel_threshold": 0.0, "pictures": 1}

    change(folder / "params/runs/named.yaml", short)


def make(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    answer = run_kmax(folder, *words)
    assert answer.returncode == 0, answer.stderr
    assert "Traceback" not in answer.stderr
    return answer


def test_names_of_any_kind_pass_through_all_stages_the_report_and_the_pictures(copy: Path) -> None:
    describe(copy)
    for words in (["data", "check", "named"], ["data", "download", "named"], ["data", "prepare", "named"]):
        make(copy, *words)
    for verb in ("train", "predict", "evaluate"):
        make(copy, verb, "named-tiny")
    scores = read_csv(copy / "reports/metrics/named-tiny/per_class.csv", "scores")
    assert [row["name"] for row in scores] == list(NAMES.values())
    for name in ("tables.yaml", "reference.csv"):
        shutil.copy(ROOT / "params" / name, copy / "params")
    make(copy, "report", "named")
    report = copy / "reports/families/named"
    pages, drawings, tables = (list(report.rglob(f"*.{kind}")) for kind in ("html", "svg", "csv"))
    for page in pages:
        assert "script" not in Tags(page.read_text(encoding="utf-8")).found
    for drawing in drawings:
        nodes = ElementTree.parse(drawing).iter()  # noqa: S314 - written by this project
        assert all("script" not in str(node.tag) for node in nodes)
    for table in tables:
        with open(table, encoding="utf-8", newline="") as stream:
            assert len({len(row) for row in csv.reader(stream)}) == 1
    assert min(map(len, (pages, drawings, tables))) > 0
    (picture,) = copy.glob("data/prepared/shapes_mini/images_val/*[02468].png")
    weights = "results/named-tiny/model.safetensors"
    make(copy, "predict-images", str(picture), "--weights", weights, "--out", "masks")
    make(copy, "data", "show", "named", "--count", "1", "--out", "sheet.png")
