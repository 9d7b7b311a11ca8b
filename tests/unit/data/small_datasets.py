"""Small datasets for the tests of the data package."""

import json
from dataclasses import dataclass
from pathlib import Path

import yaml

from kmax.config import Augmentation, CopyPaste, Data

ROOT = Path(__file__).resolve().parents[3]


def few_shapes(name: str = "few", train: int = 12, val: int = 5, seed: int = 0) -> None:
    """Write the file of a smaller `shapes` dataset into the project."""
    value = yaml.safe_load((ROOT / "params/datasets/shapes.yaml").read_text())
    value["dataset"] = name
    value["source"].update(seed=seed, images={"train": train, "val": val}, image_size=[64, 80])
    Path(f"params/datasets/{name}.yaml").write_text(yaml.safe_dump(value))


@dataclass
class Own:
    """A dataset in COCO layout: two splits of three images, one thing, one stuff class."""

    root: Path

    def image(self, index: int = 0) -> Path:
        return self.root / "images" / f"train{index}.png"

    def png(self, index: int = 0) -> Path:
        return self.root / "train" / f"train{index}.png"

    def json(self, split: str = "train") -> Path:
        return self.root / f"{split}.json"

    def edit(self, change, split: str = "train") -> None:
        """Change the JSON of a split by a function of it."""
        value = json.loads(self.json(split).read_text())
        change(value)
        self.json(split).write_text(json.dumps(value))


def data_of(dataset: str, image_size: tuple[int, int] = (65, 65), **changes) -> Data:
    """The data section of a run, with all augmentations on."""
    augmentation = Augmentation(
        flip=0.5, scale=[0.5, 1.5], scale_step=0.1, color_jitter=0.3, copy_paste=CopyPaste(scale_factor=0.5)
    )
    values = {
        "dataset": dataset,
        "train_split": "train",
        "val_split": "val",
        "image_size": list(image_size),
        "train_images": None,
        "val_images": None,
        "augmentation": augmentation,
    }
    return Data(**(values | changes))
