"""The labels of Cityscapes, and what its evaluation scripts do with each.

Source: the label table of cityscapesScripts 2.3.0, and the average sizes of instances in its evaluation.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Label:
    """One label.

    Attributes:
        id: value in labelIds PNGs, and in instanceIds PNGs alone or times 1000 plus a number.
        ignored: pixels of it count as void.
        average_size: pixels of its average instance in the training set, None for what has no instances.
    """

    id: int
    name: str
    category: str
    ignored: bool
    average_size: float | None = None

    @property
    def has_instances(self) -> bool:
        """Whether objects of it are told apart."""
        return self.average_size is not None


LABELS = [
    Label(0, "unlabeled", "void", True),
    Label(1, "ego vehicle", "void", True),
    Label(2, "rectification border", "void", True),
    Label(3, "out of roi", "void", True),
    Label(4, "static", "void", True),
    Label(5, "dynamic", "void", True),
    Label(6, "ground", "void", True),
    Label(7, "road", "flat", False),
    Label(8, "sidewalk", "flat", False),
    Label(9, "parking", "flat", True),
    Label(10, "rail track", "flat", True),
    Label(11, "building", "construction", False),
    Label(12, "wall", "construction", False),
    Label(13, "fence", "construction", False),
    Label(14, "guard rail", "construction", True),
    Label(15, "bridge", "construction", True),
    Label(16, "tunnel", "construction", True),
    Label(17, "pole", "object", False),
    Label(18, "polegroup", "object", True),
    Label(19, "traffic light", "object", False),
    Label(20, "traffic sign", "object", False),
    Label(21, "vegetation", "nature", False),
    Label(22, "terrain", "nature", False),
    Label(23, "sky", "sky", False),
    Label(24, "person", "human", False, 3462.4756337644),
    Label(25, "rider", "human", False, 3930.4788056518),
    Label(26, "car", "vehicle", False, 12794.0202738185),
    Label(27, "truck", "vehicle", False, 27855.1264367816),
    Label(28, "bus", "vehicle", False, 35732.1511111111),
    Label(29, "caravan", "vehicle", True, 36771.8241758242),
    Label(30, "trailer", "vehicle", True, 16926.9763313609),
    Label(31, "train", "vehicle", False, 67583.7075812274),
    Label(32, "motorcycle", "vehicle", False, 6298.7200839748),
    Label(33, "bicycle", "vehicle", False, 4672.3249222261),
]
CLASSES = [label for label in LABELS if not label.ignored]
INSTANCE_CLASSES = [label for label in CLASSES if label.has_instances]
CATEGORIES = list(dict.fromkeys(label.category for label in LABELS if label.category != "void"))
