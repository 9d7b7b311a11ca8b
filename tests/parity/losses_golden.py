"""Readers of the recorded loss cases of both originals, as `Output`, `Batch` and expected values."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from kmax import config
from kmax.data.batch import Batch, layer_masks
from kmax.losses import Sampler, gumbel_top_k
from kmax.model.output import Auxiliary, Output

CARRIED = Path(__file__).resolve().parents[1] / "golden" / "losses"

TF_CASES = ["coco_a", "coco_crowd", "cityscapes_a", "coco_too_few_slots", "coco_novoid"]
TF_CARRIED = ["coco_a", "coco_crowd", "coco_too_few_slots"]
TORCH_CASES = [
    "A_coco_mixed_and_stuff_only_allpixels",
    "B_coco_fixed_gumbel_k128",
    "C_single_mask_with_void_and_full_image_mask",
    "D_overlapping_masks",
    "E_cityscapes_semantic_os32_k0",
    "F_not_shared_matching",
    "G_more_targets_than_queries",
    "H_zero_targets_in_one_image",
]
TORCH_CARRIED = ["D_overlapping_masks", "E_cityscapes_semantic_os32_k0", "G_more_targets_than_queries"]

TF_TERMS = {
    "pq_style_loss_class_term": "class",
    "pq_style_loss_mask_dice_term": "dice",
    "mask_id_cross_entropy_loss": "mask_id",
    "instance_discrimination_loss": "instance_discrimination",
    "semantic_loss": "semantic",
}
TORCH_TERMS = {
    "loss_ce": "class",
    "loss_dice": "dice",
    "loss_mask": "mask_id",
    "loss_pixel_insdis": "instance_discrimination",
    "loss_aux_semantic": "semantic",
}


@dataclass
class Case:
    """One recorded case.

    Attributes:
        expected: term -> recorded value; TensorFlow: weighted, per image [B]; PyTorch: unweighted mean.
        leaves: the PyTorch cases' inputs that gradients were recorded for: prefix ("", "aux0/") and name.
        sample_logits: [B, P] logits of drawing, recorded without noise; None where not recorded.
    """

    losses: config.Losses
    num_classes: int
    output: Output
    batch: Batch
    sampler: Sampler
    expected: dict[str, Any]
    record: dict[str, Any]
    arrays: dict[str, np.ndarray]
    leaves: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    sample_logits: Tensor | None = None
    segment_of_row: list[dict[int, int]] = field(default_factory=list)


def tf_case(folder: Path, name: str) -> Case:
    record = next(
        c for c in json.loads((folder / "loss_golden.json").read_text())["cases"] if c["name"] == name
    )
    arrays = dict(np.load(folder / f"loss_{name}.npz"))
    things, stuff = record["thing_class_ids"], record["stuff_class_ids"]
    order = np.full(256, -1, np.int64)  # dataset id -> class, things before stuff as in the class logits
    order[things + stuff] = np.arange(len(things) + len(stuff))
    semantic = order[arrays["gt_semantic"]]

    segments = np.full(semantic.shape, -1, np.int64)
    classes, rows = [], []
    for image, (thing_map, thing_class) in enumerate(
        zip(arrays["gt_thing_id_mask"], arrays["gt_thing_id_class"], strict=True)
    ):
        row_masks = {t: thing_map == t for t in np.unique(thing_map[thing_map >= 0])}
        row_class = {t: order[thing_class[t]] for t in row_masks}
        for index, label in enumerate(stuff):
            if (mask := arrays["gt_semantic"][image] == label).any():
                row_masks[record["max_thing_id"] + index] = mask
                row_class[record["max_thing_id"] + index] = order[label]
        for segment, mask in enumerate(row_masks.values()):
            segments[image][mask] = segment
        classes.append(torch.tensor([int(c) for c in row_class.values()]))
        rows.append({int(row): segment for segment, row in enumerate(row_masks)})

    channels = things + stuff + ([0] if record["ignore_label"] == 0 else [])
    output = Output(
        class_logits=torch.from_numpy(arrays["pred_class_logits"]),
        mask_logits=channels_first(arrays["pred_mask_logits"]),
        pixel_features=channels_first(arrays["pred_feature"]),
        semantic_logits=channels_first(arrays["pred_semantic_logits"])[:, channels],
        auxiliary=[
            auxiliary(
                torch.from_numpy(arrays[f"aux{i}_class_logits"]),
                channels_first(arrays[f"aux{i}_mask_logits"]),
                channels_first(arrays[f"aux{i}_feature"]),
            )
            for i in range(record["n_aux"])
        ],
    )
    indices = torch.from_numpy(arrays["sample_indices"]).long() if "sample_indices" in arrays else None
    weights = record["weights"]
    return Case(
        losses=config.Losses(
            class_weight=weights["pq_style"],
            dice_weight=weights["pq_style"],
            mask_id_weight=weights["mask_id_ce"],
            instance_discrimination_weight=weights["instance_discrimination"],
            semantic_weight=weights["semantic"],
            sample_k=record["instance_discrimination_sample_k"],
            sample_temperature=record["instance_discrimination_sample_temperature"],
        ),
        num_classes=len(things) + len(stuff),
        output=output,
        batch=batch(segments, semantic, classes),
        sampler=gumbel_top_k if indices is None else lambda logits, k: indices,
        expected={
            tf_term(key): values for key, values in record["losses_weighted"].items() if key != "total_loss"
        },
        record=record,
        arrays=arrays,
        sample_logits=torch.from_numpy(arrays["sample_logits"]),
        segment_of_row=rows,
    )


def torch_case(folder: Path, name: str) -> Case:
    record = next(c for c in json.loads((folder / "loss.json").read_text())["cases"] if c["name"] == name)
    with np.load(folder / "loss.npz") as npz:
        arrays = {key.removeprefix(f"{name}/"): npz[key] for key in npz.files if key.startswith(f"{name}/")}
    leaves: dict[tuple[str, str], Tensor] = {}

    def leaf(prefix: str, key: str, path: str) -> Tensor:
        leaves[prefix, key] = torch.from_numpy(arrays[path].astype(np.float32)).requires_grad_()
        return leaves[prefix, key]

    def prediction(prefix: str, path: str) -> tuple[Tensor, Tensor, Tensor]:
        keys = ("pred_logits", "pred_masks", "pixel_feature")
        logits, masks, features = (leaf(prefix, key, f"{path}/{key}") for key in keys)
        return logits, masks, F.normalize(features, dim=1, eps=1e-12)

    masks, classes, semantic = [], [], []
    for image in range(record["batch"]):
        masks.append(torch.from_numpy(arrays[f"target{image}/masks"]))
        classes.append(torch.from_numpy(arrays[f"target{image}/labels"]))
        nowhere = np.full(masks[image].shape[1:], -1)  # the case of overlapping masks has no semantic term
        semantic.append(arrays.get(f"target{image}/semantic", nowhere))
    segments = layer_masks(masks).numpy()
    if segments.shape[1] == 1:
        segments = segments[:, 0]
    has_semantic = "aux_semantic_pred" in arrays
    k = record["aux_semantic_sample_k"] if has_semantic else 0
    return Case(
        losses=config.Losses(
            class_weight=1.0,
            dice_weight=1.0,
            mask_id_weight=1.0,
            instance_discrimination_weight=1.0,
            semantic_weight=1.0,
            sample_k=record["pixel_insdis_sample_k"],
            sample_temperature=record["pixel_insdis_temperature"],
            semantic_sampling=config.Sampling(k=k, temperature=record["aux_semantic_temperature"])
            if k
            else None,
        ),
        num_classes=record["num_classes"],
        output=Output(
            *prediction("", "final"),
            semantic_logits=leaf("", "aux_semantic_pred", "aux_semantic_pred") if has_semantic else None,
            auxiliary=[auxiliary(*prediction(f"aux{i}/", f"aux{i}")) for i in range(record["num_aux"])],
        ),
        batch=batch(segments, np.stack(semantic), classes),
        sampler=recorded_noise(arrays) if record["random_calls_fixed"] else gumbel_top_k,
        expected={torch_term(key): value for key, value in record["losses_unweighted"].items()},
        record=record,
        arrays=arrays,
        leaves=leaves,
    )


def recorded_noise(arrays: dict[str, np.ndarray]) -> Sampler:
    """Gumbel top-k with the recorded uniform numbers, call by call; it must draw the recorded pixels."""
    calls = iter(range(len(arrays)))

    def sample(logits: Tensor, k: int) -> Tensor:
        call = next(calls)
        uniform = torch.from_numpy(arrays[f"gumbel_uniform_call{call}"])
        indices = (logits - torch.log(-torch.log(uniform))).topk(k).indices
        recorded = np.sort(arrays[f"sampled_indices_call{call}"], axis=1)
        np.testing.assert_array_equal(np.sort(indices.numpy(), axis=1), recorded)
        return indices

    return sample


def tf_term(key: str) -> str:
    prefix = f"aux{key[4]}/" if key.startswith("aux_") else ""
    return prefix + TF_TERMS[key[5:] if prefix else key]


def torch_term(key: str) -> str:
    base, _, index = key.rpartition("_")
    return f"aux{index}/{TORCH_TERMS[base]}" if index.isdigit() else TORCH_TERMS[key]


def channels_first(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(array, -1, 1)))


def auxiliary(class_logits: Tensor, mask_logits: Tensor, pixel_features: Tensor) -> Auxiliary:
    return Auxiliary(class_logits, mask_logits, pixel_features, assignment=mask_logits.argmax(1))


def batch(segments: np.ndarray, semantic: np.ndarray, classes: list[Tensor]) -> Batch:
    count, height, width = semantic.shape
    return Batch(
        images=torch.zeros(count, 3, height, width),
        segments=torch.from_numpy(segments.astype(np.int64)),
        semantic=torch.from_numpy(semantic.astype(np.int64)),
        classes=classes,
        image_ids=list(range(count)),
        content_sizes=[(height, width)] * count,
        original_sizes=[(height, width)] * count,
    )


CaseReader = Callable[[Path, str], Case]
