"""Archives of a run's predictions in the formats of the test servers of COCO and Cityscapes.

COCO: `panoptic_<split>_<algorithm>_results.json` beside the folder of PNGs of that name, or
`detections_<split>_<algorithm>_results.json`, directly in the archive, which has the same name
(https://cocodataset.org/#upload). Cityscapes: label PNGs; or a text file and masks per frame; or a panoptic
JSON with the folder of PNGs of its name (https://www.cityscapes-dataset.com/submit). Everything is checked
before it is written: servers give few details when they reject an archive, and count the attempt anyway.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from kmax import paths
from kmax.config import Run
from kmax.data.dataset_file import load_dataset
from kmax.data.datasets import ImageFolder, UnannotatedImages, open_prepared
from kmax.errors import InputError
from kmax.evaluation.cityscapes.cityscapes_format import CLASSES, frame_of
from kmax.evaluation.submission import submission_check as check
from kmax.evaluation.submission.submission_check import Predicted
from kmax.files import atomic_path, read_json
from kmax.inference.prediction_files import check_frame_names
from kmax.outputs import require_outputs
from kmax.runs.families import location

CocoTask = Literal["panoptic", "instances"]
CityscapesTask = Literal["panoptic", "instances", "semantic"]
# Member of an archive: its name, and the file or its content.
ArchiveMember = tuple[str, Path | bytes]
_COMMENT = b"kmax submission"  # of the first entry: readers skip it, unlike one of the whole archive
_DATE = (1980, 1, 1, 0, 0, 0)  # of all entries: equal predictions give equal bytes


def submit_coco(run: Run, out: Path, task: CocoTask, algorithm: str | None, split: str | None = None) -> str:
    """Write the archive for COCO's server.

    Args:
        algorithm: name of the algorithm on the server; None: the name of the run.
        split: its predictions are packed; None: the run's val split.

    Returns:
        The name that the archive must have for the upload.

    Raises:
        InputError: predictions are missing, corrupt or not of the whole split, or the dataset is not COCO.
    """
    run, folder = run.on_split(split), paths.predictions(run.run, split)
    images = open_prepared(run.data.dataset).images_of(run.data.val_split)
    algorithm = run.run.replace("_", "-") if algorithm is None else algorithm
    if not re.fullmatch(r"[A-Za-z0-9.-]+", algorithm):
        raise InputError(
            f"algorithm '{algorithm}': may contain only letters, digits, '-' and '.', "
            "because it becomes part of file names"
        )
    _require_categories(run, {category.id for category in load_dataset("coco").categories or []}, "COCO")
    predicted = check.require_whole_split(run, folder)
    kind = "panoptic" if task == "panoptic" else "detections"
    name = f"{kind}_{server_split(images)}_{algorithm}_results"
    if task == "panoptic":
        check.require_sound_maps(predicted)
        content = {"annotations": [_annotation(one, one.image.id) for one in predicted]}
        entries: list[ArchiveMember] = [(f"{name}.json", _compact(content))]
        entries += [(f"{name}/{one.map.name}", one.map) for one in predicted]
    else:
        path = check.require_valid_detections(run, folder, predicted)
        entries = [(f"{name}.json", _compact(read_json(path, "instance predictions")))]
    _write(out, entries)
    return f"{name}.zip"


def submit_cityscapes(run: Run, out: Path, task: CityscapesTask, split: str | None = None) -> None:
    """Write the archive for Cityscapes' server, which reads the names inside; else as `submit_coco`."""
    run, folder = run.on_split(split), paths.predictions(run.run, split)
    _require_categories(run, {label.id for label in CLASSES}, "Cityscapes")
    predicted = check.require_whole_split(run, folder)
    where = f"{run.data.dataset}/{run.data.val_split}"
    check_frame_names([one.image.file_name for one in predicted], where)
    entries: list[ArchiveMember]
    if task == "semantic":
        labels = check.require_valid_labels(run, folder, predicted, [label.id for label in CLASSES])
        entries = [(path.name, path) for path in labels]
    elif task == "instances":
        entries = [(path.name, path) for path in check.require_valid_frames(run, folder, predicted)]
    else:
        check.require_sound_maps(predicted)
        name = f"cityscapes_panoptic_{run.data.val_split}"
        content = {"annotations": [_annotation(one, frame_of(one.png.stem)) for one in predicted]}
        entries = [(f"{name}.json", _compact(content))]
        entries += [(f"{name}/{one.map.name}", one.map) for one in predicted]
    _write(out, entries)


def require_archive_name(out: Path, run: str, split: str | None, overwrite: bool) -> None:
    """Check the name of an archive before the predictions are checked.

    Args:
        overwrite: also replace a file that is not an archive of this command.

    Raises:
        InputError: `out` cannot be written, or would replace a prediction or a file of the user.
    """
    require_outputs({out: _is_archive}, [paths.predictions(run, split)], overwrite)


def _is_archive(path: Path) -> bool:
    """Whether `_write` wrote this file."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(entry.comment == _COMMENT for entry in archive.infolist()[:1])
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return False


def server_split(images: ImageFolder) -> str:
    """Name of a split on COCO's server, from the folder of images or the list of images.

    The set of all test images is submitted as test-challenge, whose own images are not published.
    """
    if isinstance(images, UnannotatedImages) and images.image_info is not None:
        name = images.image_info.stem.removeprefix("image_info_")
        return re.sub(r"^test(?=\d)", "test-challenge", name)
    return images.images_dir.name


def _require_categories(run: Run, wanted: set[int], name: str) -> None:
    found = {category.id for category in open_prepared(run.data.dataset).categories}
    if found != wanted:
        raise InputError(
            f"{location(run.run)}.data: dataset '{run.data.dataset}' does not have the categories of {name}"
        )


def _annotation(one: Predicted, image_id: int | str) -> dict[str, Any]:
    segments = [{"id": s["id"], "category_id": s["category_id"]} for s in one.segments]
    return {"image_id": image_id, "file_name": one.map.name, "segments_info": segments}


def _compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True, allow_nan=False).encode()


def _write(out: Path, entries: Iterable[ArchiveMember]) -> None:
    """Write a zip file atomically; PNGs are stored without compression."""
    with atomic_path(out) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for number, (name, source) in enumerate(_each_once(entries)):
            info = zipfile.ZipInfo(name, _DATE)
            info.comment = b"" if number else _COMMENT
            info.external_attr = 0o644 << 16
            compressed = name.endswith(".png")
            info.compress_type = zipfile.ZIP_STORED if compressed else zipfile.ZIP_DEFLATED
            archive.writestr(info, source.read_bytes() if isinstance(source, Path) else source)


def _each_once(entries: Iterable[ArchiveMember]) -> Iterator[ArchiveMember]:
    """The members; test servers ignore folders, so names must be distinct without them.

    Raises:
        InputError: two members have the same name.
    """
    seen: set[str] = set()
    for name, source in entries:
        if name in seen:
            raise InputError(f"{source!s:.200}: two images would have the same name {name} in the archive")
        seen.add(name)
        yield name, source
