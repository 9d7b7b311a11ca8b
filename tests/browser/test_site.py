"""The report's site in a browser, from the file system: everything loads and nothing overflows."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kmax import paths
from kmax.data.formats.coco_panoptic import CategoryFacts
from kmax.evaluation.panoptic.explanation import explain, write_explanation
from kmax.evaluation.panoptic.segment_outcomes import Outcome, SegmentOutcomes
from kmax.reporting import report

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def site(tmp_path, monkeypatch) -> Path:
    shutil.copytree(ROOT / "params", tmp_path / "params")
    monkeypatch.chdir(tmp_path)
    run = "shapes-tiny"
    paths.metrics_folder(run).mkdir(parents=True)
    group = {"pq": 0.5, "sq": 0.8, "rq": 0.6, "n": 4}
    scores = {"evaluator": "an evaluator", "version": "1", "all": group, "things": group, "stuff": group}
    paths.metrics(run).write_text(json.dumps({"pq": scores, "provenance": {"run": run}}))
    paths.history(run).write_text("step,learning_rate,loss/total,loss/class\n1,0.1,3,1\n2,0.0,2,1\n")
    rows = SegmentOutcomes(
        outcome=np.arange(20, dtype=np.int8) % 5,
        true=np.arange(20) % 2 == 0,
        category=np.arange(20),
        other=np.where(np.arange(20) % 5 == Outcome.WRONG_CLASS, 19, -1),
        size=np.zeros(20, np.int8),
        iou=np.where(np.arange(20) % 5 == Outcome.MATCHED, 0.8, 0.0),
    )
    categories = [CategoryFacts(n, f"a class of number {n}", True) for n in range(20)]
    write_explanation(paths.explanation(run), explain(categories, [1], [rows]))
    worst = paths.explanation(run) / "worst/1_000001"
    worst.mkdir(parents=True)
    for name in ("image", "ground_truth", "prediction"):
        Image.new("RGB", (512, 384), (100, 150, 50)).save(worst / f"{name}.jpg")
    pictures = paths.predictions(run) / "pictures/000001"
    pictures.mkdir(parents=True)
    for name in ("image", "ground_truth", "prediction", *(f"clusters_{layer}" for layer in range(1, 7))):
        Image.new("RGB", (512, 384), (200, 100, 50)).save(pictures / f"{name}.png")
    return report([run]).parent.resolve()


@pytest.mark.parametrize("page", ["index.html", "runs/shapes-tiny.html"])
@pytest.mark.parametrize("width", [1280, 400])
def test_pages_load_wholly_and_fit_the_window(site, browser, screenshots, page, width):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
    )
    browser.get((site / page).as_uri())
    broken = browser.execute_async_script(
        "const done = arguments[0]; const images = [...document.images];"
        "images.forEach(image => image.loading = 'eager');"
        "Promise.all(images.map(image => image.decode().then(() => null, () => image.src)))"
        ".then(found => done(found.filter(source => source)));"
    )
    assert broken == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    style = "return getComputedStyle(document.querySelector('header')).position"
    assert browser.execute_script(style) == "sticky"
    errors = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert errors == []
    browser.save_screenshot(str(screenshots / f"site-{Path(page).stem}-{width}.png"))
