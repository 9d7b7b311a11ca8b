"""The metric inside a training loop gives the numbers of the files, whoever saw which image."""

import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from panoptic_folder import CATEGORIES, files, write_side

from kmax.data.formats.coco_panoptic import CategoryFacts
from kmax.errors import InputError
from kmax.evaluation.panoptic import pq
from kmax.evaluation.panoptic.explanation import explain_files
from kmax.evaluation.panoptic.panoptic_metric import PanopticMetric
from kmax.evaluation.semantic import miou

FACTS = [CategoryFacts(c["id"], c["name"], bool(c["isthing"])) for c in CATEGORIES]


def scene(number: int) -> tuple[np.ndarray, list[dict[str, Any]]]:
    rng = np.random.default_rng(number)
    ids = np.kron(rng.integers(1, 6, (4, 5)), np.ones((6, 7))).astype(np.int32)
    present = np.unique(ids).tolist()
    segments = [
        {
            "id": i,
            "category_id": CATEGORIES[i % 3]["id"],
            "iscrowd": int(i == 5),
            "area": int((ids == i).sum()),
        }
        for i in present
    ]
    return ids, segments


def add(metric: PanopticMetric, number: int) -> None:
    truth, guess = scene(number), scene(number)
    shifted = np.roll(guess[0], 2, axis=1)
    metric.update(torch.from_numpy(truth[0]), truth[1], torch.from_numpy(shifted), guess[1], number)


def test_equal_to_the_files(tmp_path: Path) -> None:
    metric, sides = PanopticMetric(FACTS), ({}, {})
    for number in range(8):
        add(metric, number)
        ids, segments = scene(number)
        categories = {segment["id"]: segment["category_id"] for segment in segments}
        sides[0][number], sides[1][number] = (ids, categories), (np.roll(ids, 2, axis=1), categories)
    write_side(tmp_path, "gt", sides[0])
    write_side(tmp_path, "pred", sides[1])
    content = json.loads((tmp_path / "gt.json").read_text())
    for annotation in content["annotations"]:
        for segment in annotation["segments_info"]:
            segment["iscrowd"] = int(segment["id"] == 5)
    (tmp_path / "gt.json").write_text(json.dumps(content))
    of_files, mine = pq.evaluate_files(files(tmp_path)).to_json(), metric.compute().to_json()
    assert 0 < mine["all"]["pq"] < 1
    assert {k: mine[k] for k in ("all", "per_category")} == {k: of_files[k] for k in ("all", "per_category")}
    assert metric.compute_miou().to_json()["miou"] == miou.evaluate_files(files(tmp_path)).to_json()["miou"]
    explanation = metric.compute_explanation()
    assert explanation.group_parts() == explain_files(files(tmp_path))[1].group_parts()
    assert explanation.group_parts()["all"]["all"]["pq"] == pytest.approx(mine["all"]["pq"], abs=1e-12)


def test_of_a_segment_listed_twice_the_last_counts_as_in_files() -> None:
    once, twice = PanopticMetric(FACTS), PanopticMetric(FACTS)
    ids, segments = scene(0)
    other = {**segments[0], "category_id": segments[1]["category_id"]}
    once.update(ids, segments, ids, segments, 0)
    twice.update(ids, segments, ids, [other, *segments], 0)
    assert once.compute().per_image.fp.tolist() == twice.compute().per_image.fp.tolist()
    assert "two entries of one segment id" in twice.compute().warnings[0]


def test_merged_parts_are_the_whole() -> None:
    whole, first, second = (PanopticMetric(FACTS) for _ in range(3))
    for number in range(6):
        add(whole, number)
        add(first if number < 2 else second, number)
    first.merge(second)
    assert first.compute().to_json() == whole.compute().to_json()
    first.reset()
    assert first.compute().to_json()["all"]["pq"] is None
    assert first.compute_explanation().group_parts()["all"]["all"]["pq"] is None


def _rank(rank: int, store: str, results: Any) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.distributed.init_process_group("gloo", f"file://{store}", rank=rank, world_size=2)
    metric = PanopticMetric(FACTS)
    for number in (0, 1, 2) if rank == 0 else (2, 3, 4):  # 2 is a padded sampler's repetition
        add(metric, number)
    metric.merge_across_ranks()
    results.put(metric.compute().to_json())
    torch.distributed.destroy_process_group()


def test_ranks_merge_to_the_whole(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    store = str(tmp_path / "store")
    processes = [context.Process(target=_rank, args=(rank, store, results)) for rank in range(2)]
    for process in processes:
        process.start()
    found = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(timeout=60)
    whole = PanopticMetric(FACTS)
    for number in range(5):
        add(whole, number)
    assert found == [whole.compute().to_json()] * 2


def test_maps_that_do_not_fit_are_refused() -> None:
    metric, (ids, segments) = PanopticMetric(FACTS), scene(0)
    with pytest.raises(ValueError, match="different sizes"):
        metric.update(ids, segments, ids[:3], segments, 0)
    with pytest.raises(ValueError, match="integers"):
        metric.update(ids.astype(float), segments, ids, segments, 0)
    with pytest.raises(ValueError, match="must lie"):
        metric.update(ids, segments, ids - 9, segments, 0)
    with pytest.raises(InputError, match="not in the JSON"):
        metric.update(ids, segments, ids + 1, segments, 0)
