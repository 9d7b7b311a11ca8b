"""Dataset files accept every layout of the package, with what that layout needs."""

import importlib
import pkgutil
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from kmax.data import layouts
from kmax.data.dataset_file import Dataset, DatasetSource
from kmax.data.layouts.layout import RawFiles

RAW: dict[str, Any] = {"root": None, "folder": "own", "files": []}
SPLITS = {
    "coco_panoptic": {"images": "a", "panoptic_json": "b.json", "panoptic_dir": "b"},
    "coco_instances": {"images": "a", "instances_json": "b.json"},
    "cityscapes": {"images": "a", "annotations": "b"},
    "ade20k": {"images": "a", "semantic": "b", "instances": "c"},
    "semantic_masks": {"images": "a", "semantic": "b", "instances": None},
}
MORE = {"coco_instances": {"background": None}, "semantic_masks": {"void": 255}}
CATEGORIES = [{"id": 1, "name": "a", "isthing": True, "color": [1, 2, 3]}]


def dataset_of(kind: str, categories: list[dict[str, Any]] | None, **changes: Any) -> Dataset:
    source = {**RAW, "kind": kind, "splits": {"train": SPLITS[kind]}, **MORE.get(kind, {}), **changes}
    about = {"dataset": "own", "description": "", "licence": "", "citation": None}
    return Dataset.model_validate({**about, "source": source, "categories": categories})


def test_every_layout_of_the_package_is_registered() -> None:
    for module in pkgutil.iter_modules(layouts.__path__):
        importlib.import_module(f"{layouts.__name__}.{module.name}")
    registered = set(get_args(get_args(DatasetSource)[0]))
    assert set(RawFiles.__subclasses__()) <= registered
    assert len(RawFiles.__subclasses__()) == len(SPLITS)


@pytest.mark.parametrize("kind", SPLITS)
def test_categories_are_listed_unless_the_annotation_lists_them(kind: str) -> None:
    assert dataset_of(kind, CATEGORIES).source.kind == kind
    if kind in ("coco_panoptic", "coco_instances"):
        assert dataset_of(kind, None).categories is None
        return
    with pytest.raises(ValidationError, match=f"categories: a dataset of the kind {kind} must list them"):
        dataset_of(kind, None)


@pytest.mark.parametrize("kind", SPLITS)
def test_a_holdout_divides_train_as_the_only_split(kind: str) -> None:
    source = dataset_of(kind, CATEGORIES, holdout=5).source
    assert isinstance(source, RawFiles)
    assert source.split_names() == ["train", "val"]
    with pytest.raises(ValidationError, match="holdout: needs 'train' as the only split"):
        dataset_of(kind, CATEGORIES, holdout=5, splits={"test": SPLITS[kind]})
