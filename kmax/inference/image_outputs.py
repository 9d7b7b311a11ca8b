"""The images that a user asks to segment, and the names of what is written for each."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from kmax.data.formats.image_file import SUFFIXES
from kmax.display import one_line
from kmax.errors import InputError
from kmax.folders import list_files
from kmax.inference.output_record import JOURNAL, PANOPTIC_JSON, OutputRecord
from kmax.outputs import check_outputs, refuse_foreign


@dataclass(frozen=True)
class ImageOutputs:
    """An image and the names of its outputs.

    Attributes:
        path: of the image.
        name: in the JSON; of an image in a folder that was given, relative to this folder.
    """

    path: Path
    name: str

    @property
    def map(self) -> str:
        """Name of the panoptic map, relative to the folder of outputs."""
        return self._named(".png")

    @property
    def overlay(self) -> str:
        """Name of the coloured picture, relative to the folder of outputs."""
        return self._named("_overlay.png")

    def _named(self, ending: str) -> str:
        name = PurePath(self.name)
        return name.with_name(f"{name.stem}{ending}").as_posix()


def find_images(arguments: Sequence[Path], out: Path, record: OutputRecord) -> list[ImageOutputs]:
    """The images among files and folders; what is left out of a folder is printed to stderr.

    Args:
        arguments: image files, and folders that are searched for images at any depth.
        out: folder of outputs; earlier outputs in it are no images.
        record: of `out`.

    Raises:
        InputError: a folder cannot be read, or contains no images.
    """
    found: list[ImageOutputs] = []
    for argument in arguments:
        if argument.is_dir():
            found += _in_folder(argument, out, record)
        else:
            found.append(ImageOutputs(argument, argument.name))
    return found


def _in_folder(folder: Path, out: Path, record: OutputRecord) -> Iterator[ImageOutputs]:
    listed = list_files(folder, SUFFIXES, "folder of images")
    own = 0
    images = []
    for name in listed.names:
        path = folder / name
        if path.absolute().is_relative_to(out.absolute()) and record.is_ours(
            out / path.absolute().relative_to(out.absolute())
        ):
            own += 1
        else:
            images.append(ImageOutputs(path, name))
    notices = [listed.notice(), f"{folder}: left out: {own} written by predict-images" if own else None]
    for notice in notices:
        if notice is not None:
            print(f"warning: {one_line(notice, most=len(notice))}", file=sys.stderr)
    if not images:
        raise InputError(f"{folder}: contains no images ({', '.join(SUFFIXES)})")
    yield from images


def name_faults(
    images: Sequence[ImageOutputs], weights: Path, out: Path, record: OutputRecord, overwrite: bool
) -> list[str]:
    """One line for each output that would replace an input, another output, or a file of the user.

    Args:
        weights: the model's file, which is kept like the images.
        out: folder of outputs.
        record: of `out`: which existing files are earlier outputs.
        overwrite: also replace other existing files, except inputs.
    """
    faults: list[str] = []
    made_from: dict[str, Path] = {}
    stems: set[str] = set()
    for image in images:
        stem = image.map.removesuffix(".png")
        if stem in stems:
            faults.append(
                f"{image.path}: duplicate stem '{stem}': the outputs of two images would overwrite each other"
            )
            continue
        stems.add(stem)
        for name in (image.map, image.overlay):
            other = made_from.setdefault(name, image.path)
            if other != image.path:
                faults.append(f"{image.path} and {other}: both have the output {name}; rename one of them")
    names = [PANOPTIC_JSON, JOURNAL, *made_from]
    outputs = [out / name for name in names]
    try:
        refuse_foreign(outputs[0], record.is_ours, True)  # one line if the folder cannot be written
        check_outputs(outputs, [weights, *(image.path for image in images)])
    except InputError as error:
        return faults + error.faults
    for path in outputs:
        try:
            refuse_foreign(path, record.is_ours, overwrite or path.name == JOURNAL)
        except InputError as error:
            faults += error.faults
    return list(dict.fromkeys(faults))
