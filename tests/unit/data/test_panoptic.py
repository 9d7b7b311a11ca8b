import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from kmax.data.formats.coco_panoptic import read_image, read_map, select_images, write_map
from kmax.data.formats.coco_panoptic_json import read_panoptic_json
from kmax.errors import InputError


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    ids=hnp.arrays(
        np.int32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 2**24 - 1)
    )
)
def test_a_map_is_read_as_it_was_written(tmp_path: Path, ids: np.ndarray) -> None:
    write_map(tmp_path / "map.png", ids)
    assert (read_map(tmp_path / "map.png") == ids).all()


def test_id_is_red_plus_256_green_plus_65536_blue(tmp_path: Path) -> None:
    Image.new("RGB", (2, 1), (3, 5, 7)).save(tmp_path / "map.png")
    assert (read_map(tmp_path / "map.png") == 3 + 256 * 5 + 65536 * 7).all()


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "I;16"])
def test_a_map_that_is_not_rgb_is_refused(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (4, 4)).save(tmp_path / "map.png")
    with pytest.raises(InputError, match=r"map\.png.*not 8-bit RGB"):
        read_map(tmp_path / "map.png")


def test_a_missing_and_a_truncated_image_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.jpg: image not found"):
        read_image(tmp_path / "gone.jpg")
    path = tmp_path / "half.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(InputError, match=r"half\.jpg: image cannot be read"):
        read_image(path)


def test_every_fault_of_a_json_is_reported_at_once(tmp_path: Path) -> None:
    segment = {"id": 1, "category_id": 1, "area": 4, "bbox": [0, 0, 2, 2], "iscrowd": 0}
    value = {
        "categories": [{"id": 1, "name": "a", "isthing": 1}, {"id": 1, "name": "b", "isthing": 1}, {"id": 2}],
        "images": [
            {"id": 1, "file_name": "1.jpg", "width": 2, "height": 2},
            {"id": 1, "file_name": "2.jpg", "width": 2, "height": 2},
            {"id": 3, "file_name": "1.jpg", "width": 2, "height": 2},
            {"id": 4, "file_name": "../4.jpg", "width": 2, "height": 2},
            {"id": 5, "file_name": "5.jpg", "width": 0, "height": 2},
            {"id": 6, "file_name": "6.jpg", "width": 2, "height": 2},
            {"id": 7, "file_name": "7.jpg", "width": "2", "height": 2},
            {"id": 8, "file_name": "6.png", "width": 2, "height": 2},
            {"id": 9, "file_name": "sub/6.png", "width": 2, "height": 2},
            {"id": 10, "file_name": ".", "width": 2, "height": 2},
        ],
        "annotations": [
            {"image_id": 1, "file_name": "1.png", "segments_info": [segment, segment, segment | {"id": 0}]},
            {"image_id": 1, "file_name": "2.png", "segments_info": []},
            {"image_id": 99, "file_name": "3.png", "segments_info": []},
        ],
    }
    path = tmp_path / "p.json"
    path.write_text(json.dumps(value))
    with pytest.raises(InputError) as caught:
        read_panoptic_json(path)
    text = "\n".join(caught.value.faults)
    for part in (
        "categories[1]: duplicate category id 1",
        "categories[2]: 'name' is missing",
        "categories[2]: 'isthing' is missing",
        "images[1]: duplicate image id 1",
        "images[2]: duplicate image file 1.jpg",
        "images[3]: file_name '../4.jpg' leaves",
        "images[4]: image 5.jpg is empty: 0x2",
        "images[6]: 'width' has the wrong type (str)",
        "images[7]: image file 6.png: its predictions would overwrite those of 6.jpg; rename one of them",
        "image 9 (sub/6.png) has no annotation",
        "images[9]: file_name '.' leaves",
        "image 1: segments_info[1]: duplicate segment id 1",
        "image 1: segments_info[2]: segment id 0 is not in 1..",
        "annotations[1]: image 1 has more than one annotation",
        "annotations[2]: annotation of unknown image 99",
        "image 6 (6.jpg) has no annotation",
    ):
        assert part in text
    assert all(str(path) in fault for fault in caught.value.faults)


@pytest.mark.parametrize("content", ["[]", "{", '{"images": 3}', "\x00"])
def test_what_is_not_a_panoptic_json_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "p.json").write_text(content)
    with pytest.raises(InputError, match=r"p\.json"):
        read_panoptic_json(tmp_path / "p.json")


def test_an_unknown_image_gets_the_nearest_name(tmp_path: Path) -> None:
    from kmax.data.formats.coco_panoptic import Image as ImageEntry

    images = [ImageEntry(i, f"00{i}.jpg", 4, 4) for i in range(3)]
    assert [image.id for image in select_images(images, ["002.jpg", "001.jpg"], "here")] == [1, 2]
    with pytest.raises(InputError, match=r"here: unknown image '02\.jpg'; did you mean '002\.jpg'"):
        select_images(images, ["02.jpg"], "here")
    with pytest.raises(InputError, match="no images"):
        select_images([], None, "here")
