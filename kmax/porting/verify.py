"""`--verify`: a ported model on one image, against what the original gave for it, where that is recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kmax.errors import InputError
from kmax.model.io import load_model
from kmax.model.output import Output

SIZE = 129
RMS, MAX = 1e-4, 1e-3
# Arrays of a recording of the TensorFlow original: name -> from ours in its layout.
MASKS, CLASSES, PIXELS = "mask_logits", "class_logits", "pixel_features"


def verify_file(weights: Path, recorded: Path | None = None) -> list[str]:
    """Run the model of a file on an image, and say how it went, one line per array.

    Args:
        weights: a ported file.
        recorded: outputs of the original: `<name>.npz` with `image_uint8` [H, W, 3] and arrays `pred__*`, and
            beside it `<name>.json` with their shapes and strides. None: a bundled image, and nothing to
            compare with.

    Raises:
        InputError: the outputs are not finite, or differ from the recorded ones by more than rounding.
    """
    model, metadata = load_model(weights)
    image = bundled_image() if recorded is None else _recorded_image(recorded)
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.inference_mode():
        output = model(tensor)
    lines = [_summary(name, values) for name, values in _arrays(output).items()]
    if not all(bool(torch.isfinite(values).all()) for values in _arrays(output).values()):
        raise InputError([f"{weights}: outputs are not finite", *lines])
    if recorded is None:
        return [*lines, f"{weights}: finite; for these weights no outputs of the original are recorded"]
    order = _their_class_order(metadata.categories, str(metadata.arguments["flavour"]))
    return _compare(recorded, output, order)


def bundled_image() -> NDArray[np.uint8]:
    """uint8 [129, 129, 3]: coloured discs on a gradient, the same on every machine."""
    rows, columns = np.mgrid[0:SIZE, 0:SIZE]
    image = np.stack([rows, columns, SIZE - 1 - rows], axis=2).astype(np.uint8)
    discs = ((40, 44, 22, (220, 40, 60)), (88, 36, 17, (40, 190, 80)), (80, 92, 28, (60, 90, 230)))
    for row, column, radius, color in discs:
        image[(rows - row) ** 2 + (columns - column) ** 2 <= radius**2] = color
    return image


def _arrays(output: Output) -> dict[str, torch.Tensor]:
    return {MASKS: output.mask_logits, CLASSES: output.class_logits, PIXELS: output.pixel_features}


def _summary(name: str, values: torch.Tensor) -> str:
    shape = "x".join(map(str, values.shape))
    return f"{name} {shape}: mean {values.mean():.6g}, rms {values.square().mean().sqrt():.6g}"


def _their_class_order(categories: list[Any], flavour: str) -> list[int]:
    """Places of our classes in the original's order, void last: TensorFlow has things first."""
    order = list(range(len(categories)))
    if flavour == "tf":
        order.sort(key=lambda place: not categories[place].isthing)
    return [*order, len(categories)]


def _recorded_image(recorded: Path) -> NDArray[np.uint8]:
    with _open(recorded) as arrays:
        if "image_uint8" not in arrays:
            raise InputError(f"{recorded}: no image_uint8 inside")
        image: NDArray[np.uint8] = arrays["image_uint8"]
        return image


def _open(recorded: Path) -> Any:
    try:
        return np.load(recorded, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{recorded}: recorded outputs cannot be read: {error}") from error


def _compare(recorded: Path, output: Output, order: list[int]) -> list[str]:
    try:
        facts = json.loads(recorded.with_suffix(".json").read_bytes())["arrays"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{recorded.with_suffix('.json')}: shapes of the outputs: {error!r}") from error
    ours = {
        "pred/pixel_space_mask_logits": output.mask_logits.permute(0, 2, 3, 1),
        "pred/transformer_class_logits": output.class_logits[..., order],
    }
    lines, wrong = [], False
    with _open(recorded) as arrays:
        for name, values in ours.items():
            key = name.replace("/", "__")
            if key not in arrays or name not in facts:
                continue
            mine = values.numpy().ravel()[:: facts[name]["stride"]]
            theirs = arrays[key]
            if mine.shape != theirs.shape:
                raise InputError(f"{recorded}: {name} is of {theirs.size} numbers, ours of {mine.size}")
            rms = float(np.sqrt(np.mean((mine - theirs) ** 2) / np.mean(theirs**2)))
            largest = float(np.max(np.abs(mine - theirs)) / np.std(theirs))
            lines.append(f"{name}: rms error {rms:.2e} of its rms, largest {largest:.2e} of its deviation")
            wrong |= rms > RMS or largest > MAX
    if not lines:
        raise InputError(f"{recorded}: no outputs inside that can be compared")
    if wrong:
        raise InputError([f"{recorded}: not what the original gave (bounds: {RMS}, {MAX})", *lines])
    return lines
