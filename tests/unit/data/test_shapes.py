import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_datasets import ROOT, few_shapes

from kmax import paths
from kmax.config import Category
from kmax.data.dataset_file import Dataset as DatasetFile
from kmax.data.datasets import open_prepared
from kmax.data.download.download_dataset import download
from kmax.data.prepare.prepare_dataset import prepare
from kmax.data.shapes.scenes import MIN_VISIBLE_PIXELS, draw_scene
from kmax.errors import InputError
from kmax.files import sha256
from kmax.parameter_files import load

CATEGORIES = load(DatasetFile, ROOT / "params/datasets/shapes.yaml").categories or []


def files_of(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256(path) for path in folder.rglob("*") if path.is_file()}


def test_same_seed_gives_same_bytes_with_one_and_two_workers(project: Path) -> None:
    few_shapes()
    download("few")
    first = files_of(prepare("few", workers=1))
    assert files_of(prepare("few", workers=2)) == first
    assert len(first) == 2 * (12 + 5) + 5


def test_another_seed_gives_another_dataset(project: Path) -> None:
    digests = set()
    for seed in (0, 1):
        few_shapes(train=2, val=1, seed=seed)
        download("few")
        prepare("few", workers=1)
        digests.add(open_prepared("few").digest)
    assert len(digests) == 2


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    split=st.sampled_from(["train", "val"]),
    index=st.integers(0, 10**6),
    size=st.tuples(st.integers(24, 160), st.integers(24, 160)),
)
def test_segments_say_what_the_map_shows(seed: int, split: str, index: int, size: tuple[int, int]) -> None:
    scene = draw_scene(seed, split, index, size, CATEGORIES)
    assert scene.rgb.shape == (*size, 3)
    assert scene.rgb.dtype == np.uint8
    assert {segment.id for segment in scene.segments} == set(np.unique(scene.ids).tolist()) - {0}
    assert len({segment.id for segment in scene.segments}) == len(scene.segments)
    stuff = [segment.category_id for segment in scene.segments if segment.category_id > 100]
    assert len(stuff) == len(set(stuff))
    for segment in scene.segments:
        rows, columns = np.nonzero(scene.ids == segment.id)
        assert segment.area == len(rows) >= MIN_VISIBLE_PIXELS
        x, y, width, height = segment.bbox
        assert (x, y) == (columns.min(), rows.min())
        assert (x + width, y + height) == (columns.max() + 1, rows.max() + 1)


def test_scenes_hold_occlusion_cut_shapes_crowd_and_void() -> None:
    scenes = [draw_scene(0, "train", i, (128, 128), CATEGORIES) for i in range(60)]
    segments = [segment for scene in scenes for segment in scene.segments]
    things = [segment for segment in segments if segment.category_id < 100]
    assert {segment.category_id for segment in segments} == {c.id for c in CATEGORIES}
    assert 3 <= np.mean([sum(s.category_id < 100 for s in scene.segments) for scene in scenes]) <= 8
    assert any(segment.iscrowd for segment in segments)
    assert 3 <= sum((scene.ids == 0).mean() > 0.02 for scene in scenes) <= 25
    assert sum(s.bbox[0] == 0 or s.bbox[0] + s.bbox[2] == 128 for s in things) > 20
    sides = [max(s.bbox[2:]) for s in things if not s.iscrowd]
    assert np.mean([18 <= side <= 64 for side in sides]) > 0.7


def test_things_differ_from_their_ground_in_colour() -> None:
    """A thing that nobody could see cannot be learned."""
    differences = []
    for i in range(10):
        scene = draw_scene(0, "val", i, (128, 128), CATEGORIES)
        ground = [s.id for s in scene.segments if s.category_id > 100]
        color = scene.rgb[np.isin(scene.ids, ground)].mean(axis=0)
        for segment in scene.segments:
            if segment.category_id < 100:
                differences.append(np.abs(scene.rgb[scene.ids == segment.id].mean(axis=0) - color).max())
    assert np.median(differences) > 40


def test_categories_that_cannot_be_drawn_are_refused(project: Path) -> None:
    few_shapes()
    text = paths.dataset_file("few").read_text().replace("name: star", "name: heart")
    paths.dataset_file("few").write_text(text)
    download("few")
    with pytest.raises(InputError, match=r"few\.yaml: categories: .*star \(thing\)"):
        prepare("few")


def test_a_changed_dataset_file_asks_for_a_new_download(project: Path) -> None:
    few_shapes()
    download("few")
    few_shapes(train=13)
    with pytest.raises(InputError, match="kmax data download few"):
        prepare("few")


def test_manifest_counts_and_holds_no_path_of_this_machine(project: Path) -> None:
    few_shapes()
    download("few")
    folder = prepare("few")
    text = (folder / "manifest.json").read_text()
    assert str(project) not in text
    split = json.loads(text)["splits"]["train"]
    annotations = json.loads((folder / "panoptic_train.json").read_text())["annotations"]
    assert split["num_images"] == 12 == len(annotations)
    assert split["num_segments"] == sum(len(a["segments_info"]) for a in annotations)
    prepared = open_prepared("few")
    assert [c.name for c in prepared.categories] == [c.name for c in CATEGORIES]
    assert isinstance(prepared.categories[0], Category)
