"""Every array of deeplab2's recorded forward passes (TensorFlow), against ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from forward_golden import Deviation, forward, model_of, relative_rms
from torch import Tensor, nn
from weight_rule import tf_weights

from kmax.config.model_sizes import (
    AxialSize,
    ModelSize,
    ResNetSize,
    SemanticSize,
    StageSize,
    TransformerSize,
)
from kmax.model.construction import model_arguments
from kmax.model.kmax import KMaX
from kmax.model.norm import BatchNorm
from kmax.model.output import Output
from kmax.porting import convert_tf
from kmax.porting.tensorflow_names import tensorflow_entries

TF_CASES = {
    "coco_r50": "forward_coco_r50_129",
    "coco_axial_r50": "forward_coco_axial_r50_129",
    "coco_convnext_tiny": "forward_coco_convnext_tiny_129",
    "cityscapes_r50": "forward_cityscapes_r50_129x257",
}
# For each place in deeplab2's class logits, and in its semantic logits, the place in ours.
TF_CLASSES = {"coco": [*range(134)], "cityscapes": [*range(11, 19), *range(11), 19]}
TF_SEMANTIC = {"coco": [133, *range(133)], "cityscapes": [*range(19)]}


def tf_deviations(folder: Path, config: str) -> list[Deviation]:
    """Every array of the case, against deeplab2."""
    record = json.loads((folder / f"{TF_CASES[config]}.json").read_text())
    with np.load(folder / f"{TF_CASES[config]}.npz") as npz:
        arrays = {name.replace("__", "/"): npz[name] for name in npz.files}
    image = arrays.pop("image_uint8")
    model = model_of(config, "tf", image.shape[:2])
    output, parts = forward(model, tf_image(image))
    ours = tf_arrays(model, output, parts, config.split("_")[0])
    assert arrays.keys() <= ours.keys(), arrays.keys() - ours.keys()
    found = []
    for name, recorded in arrays.items():
        group = tf_group(name)
        if name.endswith("assignment_argmax"):
            top = output.auxiliary[int(name[3])].mask_logits.topk(2, dim=1).values
            clear = ((top[:, 0] - top[:, 1]) > 1e-4).numpy().ravel()
            differ = (ours[name].numpy().ravel() != recorded.ravel()) & clear
            found.append(Deviation(group, name, flips=int(differ.sum())))
            continue
        about = record["arrays"][name]
        found.append(tf_deviation(group, name, ours[name], recorded, about, about["std"]))
    return found


def tf_deviation(
    group: str, name: str, ours: Tensor, recorded: np.ndarray, about: dict[str, Any], std: float
) -> Deviation:
    assert list(ours.shape) == about["shape"], f"{name}: {list(ours.shape)}, recorded {about['shape']}"
    sampled = ours.contiguous().numpy().ravel()[:: about["stride"]]
    largest = float(np.abs(sampled - recorded).max()) / std
    return Deviation(group, name, relative_rms(sampled, recorded), largest, 1e-4, 1e-3)


def tf_image(image: np.ndarray) -> Tensor:
    """uint8 [H, W, 3] to the network's input [1, 3, H, W]."""
    return torch.from_numpy(image.astype(np.float32) / np.float32(127.5) - 1).permute(2, 0, 1)[None]


def channels_last(tensor: Tensor) -> Tensor:
    return tensor.permute(0, 2, 3, 1)


def tf_arrays(model: KMaX, output: Output, parts: dict[str, Any], dataset: str) -> dict[str, Tensor]:
    """Our arrays by the record's names, in its layout and order of classes."""
    encoder, decoder = parts["pixel_encoder"], parts["pixel_decoder"]
    arrays = {f"encoder/stage{i + 1}": channels_last(feature) for i, feature in enumerate(encoder)}
    activate = model.pixel_encoder.activation
    arrays |= {f"encoder/res{i + 1}": channels_last(activate(feature)) for i, feature in enumerate(encoder)}
    arrays["encoder/backbone_output"] = arrays["encoder/res5"]
    arrays |= {f"pixel_decoder/decoder_stage{i + 1}": channels_last(x) for i, x in enumerate(decoder)}
    arrays["pixel_decoder/decoder_output"] = channels_last(decoder[-1])
    for i, layer in enumerate(output.auxiliary):
        centers, _ = parts[f"transformer_decoder.layers.{i}"]
        arrays[f"transformer/cluster_centers_after_{i}"] = centers
        arrays[f"aux{i}/pixel_space_normalized_feature"] = channels_last(layer.pixel_features)
        arrays[f"aux{i}/pixel_space_mask_logits"] = channels_last(layer.mask_logits)
        arrays[f"aux{i}/transformer_class_logits"] = layer.class_logits[..., TF_CLASSES[dataset]]
        arrays[f"aux{i}/assignment_argmax"] = layer.assignment
    arrays["transformer/class_feature"] = parts["transformer_decoder.class_projection"]
    arrays["transformer/mask_feature"] = parts["transformer_decoder.mask_projection"]
    assert output.semantic_logits is not None
    arrays["pred/semantic_logits"] = channels_last(output.semantic_logits)[..., TF_SEMANTIC[dataset]]
    arrays["pred/pixel_space_normalized_feature"] = channels_last(output.pixel_features)
    arrays["pred/pixel_space_mask_logits"] = channels_last(output.mask_logits)
    arrays["pred/transformer_class_logits"] = output.class_logits[..., TF_CLASSES[dataset]]
    return arrays


def tf_group(name: str) -> str:
    part, array = name.split("/")
    if part.startswith("aux"):
        part = "auxiliary"
    heads = {
        "pixel_space_mask_logits": "mask logits",
        "pixel_space_normalized_feature": "pixel features",
        "transformer_class_logits": "class logits",
        "semantic_logits": "semantic logits",
        "assignment_argmax": "assignments",
    }
    parts = {"pred": "final", "pixel_decoder": "pixel decoder", "transformer": "cluster centres"}
    return " ".join(filter(None, [parts.get(part, part), heads.get(array)]))


def max_s_deviations(folder: Path) -> list[Deviation]:
    """MaX-S block by block, on the image of its forward case."""
    record = json.loads((folder / "max_s_trace.json").read_text())
    with np.load(folder / f"{TF_CASES['coco_axial_r50']}.npz") as npz:
        image = npz["image_uint8"]
    with np.load(folder / "max_s_trace.npz") as npz:
        arrays = {name.replace("__", "/"): npz[name] for name in npz.files}
    model = model_of("coco_axial_r50", "tf", image.shape[:2])
    _, parts = forward(model, tf_image(image))
    found = []
    for name, about in record["arrays"].items():
        ours = channels_last(parts[f"pixel_encoder.{max_s_part(name)}"])
        recorded = arrays[name].ravel()
        std = float(ours.std())
        found.append(tf_deviation("encoder blocks", name, ours, recorded, about, std))
    return found


def max_s_part(name: str) -> str:
    """Our module whose output is that array."""
    place, _, part = name.rpartition("/")
    if place == "stem":
        return f"stem.{['conv1_bn_act', 'conv2_bn_act', 'conv3_bn'].index(part)}"
    stage, block = (int(word[5:]) for word in place.split("/"))
    parts = {
        "conv1_bn_act": ".conv1",
        "height_axis (before striding)": ".middle.0.height",
        "attention": ".middle.0",
        "conv3_bn": ".conv3",
        "shortcut": ".shortcut",
        "output": "",
    }
    return f"stages.{stage - 2}.{block - 1}{parts[part]}"


def small_model() -> KMaX:
    """The scaled-down network of deeplab2's code that `small_checkpoint` was written from."""
    axial = AxialSize(heads=8, span=255)
    stages = [StageSize(32, 1, axial), StageSize(16, 5, axial), StageSize(8, 1, None), StageSize(4, 1, None)]
    size = ModelSize(
        ResNetSize("resnet50", (("channels", (8, 16, 32, 64)),)),
        tuple(stages),
        TransformerSize(256, 32, 16, 16, 8, 32, 8, (2, 2, 2), 0.1),
        SemanticSize(16, (8, 4), (6, 12, 18)),
    )
    model = KMaX(size, model_arguments("kmax_resnet50", num_classes=133, image_size=(65, 65)))
    network = model.pixel_encoder.network  # timm's stem has 64 channels, whatever the other widths
    network.conv1, network.bn1 = nn.Conv2d(3, 8, 7, 2, 3, bias=False), BatchNorm(8)
    first = network.layer1[0]
    first.conv1, first.downsample[0] = nn.Conv2d(8, 8, 1, bias=False), nn.Conv2d(8, 32, 1, 2, bias=False)
    return model.eval()


def small_deviations(folder: Path) -> list[Deviation]:
    """Final outputs of the scaled-down network, on the image beside its checkpoint."""
    with np.load(folder / "small_checkpoint" / "forward.npz") as npz:
        arrays = {name: npz[name] for name in npz.files}
    image = arrays.pop("image_uint8")[0]
    model = small_model()
    weights = tf_weights((e.sources[0], e.source_shapes[0]) for e in tensorflow_entries(model))
    model.load_state_dict(convert_tf(weights, model))
    output, parts = forward(model, tf_image(image))
    ours = tf_arrays(model, output, parts, "coco")
    return [
        tf_deviation(
            tf_group(f"pred/{name}"),
            name,
            ours[f"pred/{name}"],
            recorded.ravel(),
            {"shape": list(recorded.shape), "stride": 1},
            float(recorded.std()),
        )
        for name, recorded in arrays.items()
    ]
