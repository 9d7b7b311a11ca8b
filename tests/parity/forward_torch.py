"""Every array of the PyTorch original's recorded forward passes, against ours, up to the final results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from forward_golden import Deviation, Size, forward, model_of, relative_rms
from torch import Tensor
from torch.nn import functional as F

from kmax.config import Predict
from kmax.inference.panoptic_postprocess import maskwise
from kmax.inference.scored_instances import instances_of_clusters
from kmax.inference.semantic_map import semantic_map, semantic_scores
from kmax.inference.upsampling import ImageSizes, to_image
from kmax.model.kmax import KMaX
from kmax.model.output import Output
from kmax.porting.tensorflow_names import THINGS

TORCH_CASES = ["coco_r50", "coco_convnext_tiny", "cityscapes_r50", "ade20k_r50"]

TORCH_GROUPS = {
    "backbone features": "encoder",
    "pixel decoder": "pixel decoder",
    "pred_logits": "class logits",
    "pred_masks and layer mask logits": "mask logits",
    "pixel_feature": "pixel features",
    "aux_semantic_pred": "semantic logits",
    "sem_seg": "end to end semantic scores",
}


def torch_deviations(folder: Path, config: str) -> list[Deviation]:
    """Every array of the case, against the PyTorch original."""
    record = json.loads((folder / f"forward_{config}.json").read_text())
    suggested = json.loads((folder / "tolerances.json").read_text())["suggested"]["forward eval fp32 (abs)"]
    bounds = {group: suggested[key] for key, group in TORCH_GROUPS.items()}
    bounds["cluster centres"] = bounds["class logits"]
    bounds["end to end mask logits"] = bounds["mask logits"]
    bounds["end to end instance scores"] = bounds["end to end semantic scores"]
    with np.load(folder / f"forward_{config}.npz") as npz:
        arrays = {name: npz[name] for name in npz.files}
    images = [arrays.pop("image0"), arrays.pop("image1")]
    sizes = [tuple(map(int, arrays.pop(f"orig_size{b}"))) for b in (0, 1)]
    height, width = record["image_size"]
    model = model_of(config, "torch", (height, width))
    batch = torch.zeros(2, 3, height, width)
    for image, place in zip(images, batch, strict=True):
        place[:, : image.shape[1], : image.shape[2]] = (torch.from_numpy(image) - 127.5) / 127.5
    output, parts = forward(model, batch)
    assert list(output.semantic_logits.shape) == list(arrays.pop("out/aux_semantic_shape"))  # type: ignore[union-attr]
    ours = torch_arrays(model, output, parts)
    for b in (0, 1):
        ours |= end_to_end(output, b, (height, width), sizes[b], config, record)
    assert arrays.keys() <= ours.keys(), arrays.keys() - ours.keys()
    for b in (0, 1):
        for side in (arrays, ours):
            side[f"e2e/inst_classes{b}"] = in_order(
                side[f"e2e/inst_classes{b}"], side[f"e2e/inst_areas{b}"] > 0
            )
    return [torch_deviation(name, ours[name], recorded, bounds) for name, recorded in arrays.items()]


def in_order(classes: np.ndarray, with_pixels: np.ndarray) -> np.ndarray:
    """Classes of instances by falling score; those without a pixel all score 0, and come by class."""
    return np.concatenate([classes[with_pixels], np.sort(classes[~with_pixels])])


def torch_deviation(name: str, ours: Any, recorded: np.ndarray, bounds: dict[str, float]) -> Deviation:
    group = torch_group(name)
    found = np.asarray(ours)
    assert found.shape == recorded.shape, f"{name}: {found.shape}, recorded {recorded.shape}"
    if group not in bounds:
        # Maps of the whole image may differ at a few pixels, where two labels come within rounding.
        return Deviation(
            group,
            name,
            flips=int((found != recorded).sum()),
            bound_flips=5 if "seg" in name or "areas" in name else 0,
        )
    largest = float(np.abs(found - recorded).max(initial=0))
    rms = relative_rms(found, recorded) if recorded.size else 0.0
    return Deviation(group, name, rms, largest, bound_largest=bounds[group])


def torch_group(name: str) -> str:
    part, array = name.split("/")
    if part == "e2e":
        ends = {
            "upsampled_masks": "mask logits",
            "sem_seg": "semantic scores",
            "inst_scores": "instance scores",
        }
        return f"end to end {ends.get(array[:-1], 'maps')}"
    if part == "feat":
        return "encoder"
    if part == "pixdec":
        return "pixel decoder"
    for piece, group in {
        "pred_logits": "class logits",
        "argmax": "assignments",
        "pred_masks": "mask logits",
        "mask_logits": "mask logits",
        "assign_margin": "mask logits",
        "assign": "assignments",
        "pixel_feature": "pixel features",
        "semantic": "semantic logits",
        "query": "cluster centres",
    }.items():
        if piece in array:
            return group
    raise AssertionError(name)


def torch_arrays(model: KMaX, output: Output, parts: dict[str, Any]) -> dict[str, Any]:
    """Our arrays by the record's names, cut as recorded."""
    features, decoder = parts["pixel_encoder"], parts["pixel_decoder"]
    names = ("stem", "res2", "res3", "res4", "res5")
    arrays: dict[str, Any] = {f"feat/{name}": x[:, ::16] for name, x in zip(names, features, strict=True)}
    arrays |= {f"pixdec/os{32 >> i}": decoder[i][:, ::16] for i in range(3)}
    arrays |= {
        "pixdec/panoptic": decoder[-1][:, ::8],
        "out/pred_logits": output.class_logits,
        "out/pred_masks_img0": output.mask_logits[0, ::2],
        "out/pred_masks_img1": output.mask_logits[1, ::8],
        "out/pred_masks_argmax": output.mask_logits.argmax(1),
        "out/pixel_feature": output.pixel_features[:, ::8],
    }
    semantic_logits = output.semantic_logits
    assert semantic_logits is not None
    arrays["out/aux_semantic_pred"] = semantic_logits[:, :: 1 if model.arguments.decoder_stages == 5 else 8]
    final = output.mask_logits.shape[2:]

    def at_final_size(x: Tensor) -> Tensor:
        return F.interpolate(x, final, mode="bilinear", align_corners=final[0] % 2 == 1)

    for i, layer in enumerate(output.auxiliary):
        centers, _ = parts[f"transformer_decoder.layers.{i}"]
        top = layer.mask_logits.topk(2, dim=1).values
        arrays |= {
            f"aux{i}/pred_logits": layer.class_logits[:, ::2],
            f"aux{i}/pred_masks": at_final_size(layer.mask_logits)[:, ::16],
            f"aux{i}/pixel_feature": at_final_size(layer.pixel_features)[:, ::32],
            f"layer{i}/mask_logits_native": layer.mask_logits[:, ::8],
            f"layer{i}/assign": layer.assignment,
            f"layer{i}/assign_margin": top[:, 0] - top[:, 1],
            f"layer{i}/query": centers.transpose(1, 2)[:, ::8],
        }
    return arrays


THRESHOLDS = {  # thing, stuff, overlap, weight of the mask score
    "coco": (0.7, 0.5, 0.8, 1.0),
    "cityscapes": (0.5, 0.3, 0.9, 0.0),
    "ade20k": (0.4, 0.4, 0.8, 1.0),
}


@torch.no_grad()
def end_to_end(
    output: Output, b: int, input_size: Size, original: Size, config: str, record: dict[str, Any]
) -> dict[str, Any]:
    """Post-processed results of image `b`, by the record's names."""
    dataset = config.split("_")[0]
    thing, stuff, overlap, mask_weight = THRESHOLDS[dataset]
    predict = Predict(
        mode="maskwise",
        pixel_threshold=0.4,
        class_threshold_thing=thing,
        class_threshold_stuff=stuff,
        overlap_threshold=overlap,
        reorder_class_weight=1.0,
        reorder_mask_weight=mask_weight,
        thing_area_limit=0,
        stuff_area_limit=0,
        batch_size=1,
        pictures=0,
    )
    classes, masks = output.class_logits[b], output.mask_logits[b]
    num_classes = classes.shape[1] - 1
    isthing = torch.zeros(num_classes, dtype=torch.bool)
    isthing[list(THINGS[num_classes])] = True
    scale = max(input_size) / max(original)
    content = (round(original[0] * scale), round(original[1] * scale))
    sizes = ImageSizes(input_size, content, original)
    panoptic = maskwise(classes, masks, sizes, isthing, predict, "torch")
    segments = [
        {"id": s.id, "isthing": bool(isthing[s.class_index]), "category_id": s.class_index}
        for s in panoptic.segments
    ]
    assert segments == record["segments_info"][b]
    found = instances_of_clusters(classes, masks, sizes, isthing, predict)
    enlarge = to_image((masks.shape[1], masks.shape[2]), sizes)
    scores = torch.cat(list(semantic_scores(classes, masks, sizes)))
    return {
        f"e2e/panoptic_seg{b}": panoptic.ids,
        f"e2e/upsampled_masks{b}": enlarge(masks)[::16, ::5, ::5],
        f"e2e/sem_seg{b}": scores.permute(1, 0, 2)[::10, ::8, ::8],
        f"e2e/sem_seg_argmax{b}": semantic_map(classes, masks, sizes, "torch"),
        f"e2e/inst_scores{b}": np.array([i.score for i in found]),
        f"e2e/inst_classes{b}": np.array([i.class_index for i in found]),
        f"e2e/inst_areas{b}": np.array([i.mask.sum() for i in found]),
    }
