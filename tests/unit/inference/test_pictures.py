from pathlib import Path

import numpy as np
from PIL import Image

from kmax.config import Category
from kmax.visualization.overlays import cluster_map, overlay, picture_size, save_picture

CATEGORIES = [
    Category(id=4, name="cat", isthing=True, color=[200, 30, 30]),
    Category(id=9, name="sky", isthing=False, color=[30, 30, 200]),
]
GREY = np.full((128, 96, 3), 128, np.uint8)


def test_small_images_are_enlarged_by_whole_factors_and_large_ones_reduced() -> None:
    assert picture_size(128, 96) == (512, 384)
    assert picture_size(300, 200) == (300, 200)
    assert picture_size(1024, 2048) == (512, 1024)


def test_instances_of_a_class_differ_in_colour_and_void_is_dark() -> None:
    ids = np.zeros((128, 96), np.int32)
    ids[:40], ids[40:80] = 5, 70000
    picture = overlay(GREY, ids, {5: 0, 70000: 0}, CATEGORIES)
    first, second, void = picture[20, 20], picture[300, 20], picture[480, 20]
    assert np.abs(first.astype(int) - second).max() > 20
    assert first[0] > first[2]
    assert void.max() < 70
    assert (picture[158:162] == 255).any()  # the outline between them


def test_ids_without_segment_are_shown_as_void() -> None:
    picture = overlay(GREY, np.full((128, 96), 8, np.int32), {}, CATEGORIES)
    assert picture.max() < 70


def test_each_cluster_has_one_colour_whatever_the_layer() -> None:
    coarse, fine = np.zeros((5, 5), np.int64), np.zeros((17, 17), np.int64)
    coarse[:, 2:] = fine[:, 8:] = 3
    pictures = [cluster_map(GREY, a, (129, 129), (128, 96)) for a in (coarse, fine)]
    assert all(picture.shape == (512, 384, 3) for picture in pictures)
    assert all(len(np.unique(picture.reshape(-1, 3), axis=0)) == 2 for picture in pictures)
    assert np.array_equal(pictures[0][0, 0], pictures[1][0, 0])
    assert np.array_equal(pictures[0][0, -1], pictures[1][0, -1])


def test_pictures_are_png_files(tmp_path: Path) -> None:
    save_picture(tmp_path / "new" / "a.png", GREY)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "new" / "a.png")), GREY)
