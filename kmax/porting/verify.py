"""`--verify`: run a ported model, and compare with recorded outputs of the original, if given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from kmax.config import Category
from kmax.errors import InputError
from kmax.model.io import load_model
from kmax.model.output import Output
from kmax.porting.recorded import Recording

SIZE = 129
RMS, MAX = 1e-4, 1e-3


def verify_file(
    weights: Path, recording: Recording | None = None, *, called: Path | None = None
) -> list[str]:
    """Run the model of a file on an image; returns a message per output array.

    Args:
        weights: a ported file.
        recording: outputs of the original. None: run on a generated image without a comparison.
        called: the file's final name, for messages.

    Raises:
        InputError: the outputs are not finite, or differ from the recorded ones by more than rounding: by
            1e-4 of their rms or, anywhere, by 1e-3 of their standard deviation.
    """
    called = called or weights
    model, metadata = load_model(weights)
    flavour = metadata.arguments.flavour
    if recording is not None and recording.flavour != flavour:
        raise InputError(
            f"{recording.path}: recorded with flavour '{recording.flavour}', but {called} "
            f"has flavour '{flavour}'"
        )
    with torch.inference_mode():
        output = model(_input(bundled_image()) if recording is None else recording.images)
    arrays = _arrays(output)
    if not all(bool(torch.isfinite(values).all()) for values in arrays.values()):
        infinite = ", ".join(name for name, values in arrays.items() if not torch.isfinite(values).all())
        raise InputError(
            f"{called}: the model's {infinite} are not finite: its weights are corrupt or have diverged"
        )
    lines = [_summary(name, values) for name, values in arrays.items()]
    if recording is None:
        return [*lines, f"{called}: finite; no recorded outputs of the original exist for these weights"]
    return [*lines, *_compare(recording, output, metadata.categories, called)]


def bundled_image() -> NDArray[np.uint8]:
    """uint8 [129, 129, 3]: coloured discs on a gradient, the same on every machine."""
    rows, columns = np.mgrid[0:SIZE, 0:SIZE]
    image = np.stack([rows, columns, SIZE - 1 - rows], axis=2).astype(np.uint8)
    discs = ((40, 44, 22, (220, 40, 60)), (88, 36, 17, (40, 190, 80)), (80, 92, 28, (60, 90, 230)))
    for row, column, radius, color in discs:
        image[(rows - row) ** 2 + (columns - column) ** 2 <= radius**2] = color
    return image


def _input(image: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)[None] / 127.5 - 1


def _arrays(output: Output) -> dict[str, torch.Tensor]:
    return {
        "mask_logits": output.mask_logits,
        "class_logits": output.class_logits,
        "pixel_features": output.pixel_features,
    }


def _summary(name: str, values: torch.Tensor) -> str:
    shape = "x".join(map(str, values.shape))
    return f"{name} {shape}: mean {values.mean():.6g}, rms {values.square().mean().sqrt():.6g}"


def _compare(recording: Recording, output: Output, categories: list[Category], called: Path) -> list[str]:
    where, lines, wrong = recording.path, [], []
    for name, mine in recording.ours(output, categories).items():
        theirs = recording.arrays[name]
        if mine.shape != theirs.shape:
            raise InputError(
                f"{where}: {name} has shape {list(theirs.shape)}, but ours has {list(mine.shape)}"
            )
        with np.errstate(divide="ignore", invalid="ignore"):
            rms = float(np.sqrt(np.mean((mine - theirs) ** 2) / np.mean(theirs**2)))
            largest = float(np.max(np.abs(mine - theirs)) / np.std(theirs))
        lines.append(f"{name}: relative rms deviation {rms:.1e}, maximum {largest:.1e} standard deviations")
        if not (rms <= RMS and largest <= MAX):
            wrong.append(f"{where}: {lines[-1]}")
    if not lines:
        raise InputError(f"{where}: contains no comparable outputs")
    if wrong:
        tolerance = f"tolerance: relative rms {RMS:.0e}, maximum {MAX:.0e} standard deviations"
        raise InputError([f"{called}: removed: its outputs differ from the original's; {tolerance}", *wrong])
    return [*lines, f"{called}: agrees with {where}"]
