"""The three public datasets in a few files each, packed as their publishers pack them, and dataset files.

The archives' own names, folders and by-ways are true: archives inside archives, a folder that stands for the
data root, README files of one name in two archives, what a Mac leaves behind.
"""

import hashlib
import io
import json
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import yaml
from faulty_server import Server

Files = dict[str, bytes]


@dataclass
class Packed:
    """A dataset as it is published.

    Attributes:
        archives: by name.
        content: what must come to lie below the data root.
    """

    dataset: str
    archives: Files
    content: Files


def zipped(files: Files) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def tarred(files: Files) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def some(name: str, size: int = 3000) -> bytes:
    """Bytes that do not compress, another for each name; the download looks at no picture."""
    return (hashlib.shake_256(name.encode()).digest(size)) + name.encode()


def below(files: Files, folder: str) -> Files:
    return {name: content for name, content in files.items() if name.startswith(folder)}


def coco() -> Packed:
    content: Files = {}
    for split, number in (("train2017", 4), ("val2017", 2), ("test2017", 2)):
        names = [f"{i:012d}" for i in range(number)]
        content |= {f"{split}/{name}.jpg": some(f"{split}{name}") for name in names}
        if split == "test2017":
            continue
        images = [
            {"id": i, "file_name": f"{name}.jpg", "width": 9, "height": 9} for i, name in enumerate(names)
        ]
        segment = {"id": 1, "category_id": 1, "area": 81, "bbox": [0, 0, 9, 9], "iscrowd": 0}
        annotations = [
            {"image_id": i, "file_name": f"{name}.png", "segments_info": [segment]}
            for i, name in enumerate(names)
        ]
        categories = [{"id": 1, "name": "person", "isthing": 1}]
        value = {"images": images, "annotations": annotations, "categories": categories}
        content[f"annotations/panoptic_{split}.json"] = json.dumps(value).encode()
        content[f"annotations/instances_{split}.json"] = some(f"instances{split}")
        content |= {f"annotations/panoptic_{split}/{name}.png": some(f"png{split}{name}") for name in names}
    for part in ("test2017", "test-dev2017"):
        content[f"annotations/image_info_{part}.json"] = some(part)
    panoptic: Files = {}
    for split in ("train2017", "val2017"):
        pngs = below(content, f"annotations/panoptic_{split}/")
        inner = {name.removeprefix("annotations/"): png for name, png in pngs.items()}
        junk = {f"__MACOSX/panoptic_{split}/._{name.rsplit('/', 1)[1]}": b"mac" for name in pngs}
        panoptic[f"annotations/panoptic_{split}.zip"] = zipped(inner | junk)
        name = f"annotations/panoptic_{split}.json"
        panoptic |= {name: content[name], f"__MACOSX/annotations/._panoptic_{split}.zip": b"mac"}
    keypoints = {"annotations/person_keypoints_val2017.json": b"{}"}
    archives = {
        f"{split}.zip": zipped(below(content, split)) for split in ("train2017", "val2017", "test2017")
    }
    archives["panoptic_annotations_trainval2017.zip"] = zipped(panoptic)
    archives["annotations_trainval2017.zip"] = zipped(below(content, "annotations/instances") | keypoints)
    archives["image_info_test2017.zip"] = zipped(below(content, "annotations/image_info"))
    return Packed("coco", archives, content)


def ade20k() -> Packed:
    content: Files = {}
    for split, short, number in (("training", "train", 3), ("validation", "val", 2)):
        for i in range(number):
            name = f"{split}/ADE_{short}_{i:08d}"
            content[f"images/{name}.jpg"] = some(name)
            content[f"annotations/{name}.png"] = some(f"semantic{name}")
            content[f"annotations_instance/{name}.png"] = some(f"instance{name}")
    instances = below(content, "annotations_instance/")
    scenes = {name: file for name, file in content.items() if name not in instances}
    prefixed = {f"ADEChallengeData2016/{name}": file for name, file in scenes.items()}
    archives = {
        "ADEChallengeData2016.zip": zipped(prefixed | {"ADEChallengeData2016/objectInfo150.txt": b"wall"}),
        "annotations_instance.tar": tarred(instances),
    }
    return Packed("ade20k", archives, content)


def cityscapes() -> Packed:
    content: Files = {}
    for split, city, number in (("train", "aachen", 3), ("val", "munster", 2), ("test", "berlin", 2)):
        for i in range(number):
            name = f"{split}/{city}/{city}_{i:06d}_000019"
            content[f"leftImg8bit/{name}_leftImg8bit.png"] = some(name)
            for kind in ("color.png", "instanceIds.png", "labelIds.png", "polygons.json"):
                content[f"gtFine/{name}_gtFine_{kind}"] = some(f"{kind}{name}")
    archives = {
        f"{part}_trainvaltest.zip": zipped(
            below(content, part) | {"README": part.encode(), "license.txt": b"licence"}
        )
        for part in ("leftImg8bit", "gtFine")
    }
    return Packed("cityscapes", archives, content)


def describe(packed: Packed, server: Server) -> None:
    """Serve the archives, and make the project's dataset file one of them: same files, other numbers."""
    path = Path(f"params/datasets/{packed.dataset}.yaml")
    value = yaml.safe_load(path.read_text())
    for file in value["source"]["files"]:
        archive = packed.archives[file["path"]]
        url = server.add(file["path"], archive)
        if file["url"] is not None:
            assert file["url"].endswith("/" + file["path"])
            file["url"] = url
        for kind in ("sha256", "md5"):
            if kind in file:
                file[kind] = hashlib.new(kind, archive).hexdigest()
        if "bytes" in file:
            file["bytes"] = len(archive)
        for name in file["holds"]:
            numbers = [1 for other in packed.content if other == name or other.startswith(f"{name}/")]
            file["holds"][name] = len(numbers)
    path.write_text(yaml.safe_dump(value, sort_keys=False))


def files_below(root: Path) -> Files:
    """What lies below a folder, without what the download keeps for itself."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and ".downloads" not in path.parts
    }
