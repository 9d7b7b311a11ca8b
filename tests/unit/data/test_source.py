"""Decoded images and the segments of their pixels."""

from pathlib import Path

import numpy as np
import pytest
from small_datasets import Own, few_shapes

from kmax.data.datasets import open_prepared
from kmax.data.download.download_dataset import download
from kmax.data.formats.coco_panoptic import read_image, read_map, write_map
from kmax.data.image_source import ImageSource
from kmax.data.prepare.prepare_dataset import prepare
from kmax.errors import InputError


def test_what_is_kept_decoded_is_bounded(project: Path) -> None:
    few_shapes()
    download("few")
    prepare("few", workers=1)
    prepared = open_prepared("few")
    fresh = ImageSource(prepared, "train", None, "test", cache_bytes=0)
    size = fresh[0].nbytes
    bounded = ImageSource(prepared, "train", None, "test", cache_bytes=3 * size + size // 2)
    for _ in range(2):
        for index in range(len(fresh)):
            np.testing.assert_array_equal(bounded[index].rgb, fresh[index].rgb)
            np.testing.assert_array_equal(bounded[index].owner, fresh[index].owner)
    assert [bounded[i] is bounded[i] for i in range(len(fresh))].count(True) == 3
    assert not any(fresh[i] is fresh[i] for i in range(len(fresh)))
    image = read_image(prepared.split("train").images_dir / fresh.images[0].file_name)
    np.testing.assert_array_equal(fresh[0].rgb[..., :3], image)


def test_ids_of_one_image_are_strange_to_the_next(own: Own) -> None:
    ids = read_map(own.png(1))
    write_map(own.png(1), np.where(ids == 7, 9, ids))
    own.edit(lambda value: value["annotations"][1]["segments_info"][0].update(id=9))
    download("own")
    prepare("own", workers=1)
    source = ImageSource(open_prepared("own"), "train", None, "test", cache_bytes=0)
    path = Path("data/prepared/own/panoptic_train/train0.png")
    write_map(path, np.where(read_map(path) == 7, 9, read_map(path)))
    assert (source[1].owner > 0).any()
    with pytest.raises(InputError, match="id 9 is in the PNG but not in"):
        source[0]
