"""Names of deeplab2's variables in its checkpoints, and the layouts of their values.

Its weights order classes as things, stuff, void; ours follow the dataset's order, then void.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any, cast

from torch import nn

from kmax.errors import InputError
from kmax.model.axial_resnet import AxialResNet
from kmax.model.kmax import KMaX
from kmax.model.layers import ConvBN
from kmax.model.pixel_encoder import ConvNeXtEncoder, ResNetEncoder
from kmax.model.residual import ResidualBlock
from kmax.model.semantic_head import PyramidSemanticHead
from kmax.porting.tensor_mapping import SAME, Layout, TensorMapping, TensorMappings, permuted, reshaped, rows

SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
SLOT = "/.OPTIMIZER_SLOT/"
_BOOKKEEPING = re.compile(r"_CHECKPOINTABLE_OBJECT_GRAPH|(save_counter|global_step)(/.*)?")
_OPTIMIZER = re.compile(r"(.*/\.OPTIMIZER_SLOT|optimizer|backbone_optimizer)/.*")

# Stuff classes of ADE20K's panoptic benchmark, of 150 classes in the order of the dataset.
ADE20K_STUFF = {
    *range(7), 9, 11, 13, 16, 17, 21, 25, 26, 28, 29, 34, 40, 46, 48, 51, 52, 54, 59, 60, 61, 63, 68, 77, 79,
    84, 91, 94, 96, 99, 100, 101, 105, 106, 109, 113, 114, 117, 122, 128, 131, 140, 141, 145,
}  # fmt: skip
THINGS = {
    133: tuple(range(80)),  # COCO
    19: tuple(range(11, 19)),  # Cityscapes
    150: tuple(c for c in range(150) if c not in ADE20K_STUFF),
}

KERNEL = permuted(3, 2, 0, 1)  # (H, W, I, O)
DEPTHWISE = permuted(2, 3, 0, 1)  # (H, W, C, 1)
DENSE = permuted(1, 0)  # (I, O)
# Convolutions along a sequence of pixels or clusters, (1, I, O); ours are linear layers and 1x1 convolutions.
LINEAR_1D = Layout(lambda shape: (1, *shape[::-1]), lambda kernel: kernel[0].T)
POINTWISE_1D = Layout(lambda shape: (1, shape[1], shape[0]), lambda kernel: kernel[0].T[:, :, None, None])
QKV = Layout(lambda shape: (shape[1], shape[0]), lambda kernel: kernel.T[:, :, None, None])
LAYER_SCALE = Layout(lambda shape: (1, 1, 1, *shape), lambda scale: scale.reshape(-1))
CENTERS = Layout(lambda shape: (1, *shape), lambda centers: centers[0])

BATCH_NORM = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
LAYER_NORM = {"weight": "gamma", "bias": "beta"}


class _Variables(TensorMappings):
    """Mappings by module: `ours` and `theirs` are the names of the same module on both sides."""

    def add(self, target: str, source: str, layout: Layout = SAME) -> None:
        super().add(target, source + SUFFIX, layout)

    def kernel(self, ours: str, theirs: str, layout: Layout = KERNEL) -> None:
        """Weights, and a bias where the module has one."""
        self.add(f"{ours}.weight", f"{theirs}/kernel", layout)
        if f"{ours}.bias" in self.shapes:
            self.add(f"{ours}.bias", f"{theirs}/bias")

    def batch_norm(self, ours: str, theirs: str, layout: Layout = SAME) -> None:
        for our_part, their_part in BATCH_NORM.items():
            self.add(f"{ours}.{our_part}", f"{theirs}/{their_part}", layout)

    def layer_norm(self, ours: str, theirs: str) -> None:
        for our_part, their_part in LAYER_NORM.items():
            self.add(f"{ours}.{our_part}", f"{theirs}/{their_part}")

    def conv_bn(self, ours: str, theirs: str, layout: Layout = KERNEL) -> None:
        self.kernel(f"{ours}.conv", f"{theirs}/_conv", layout)
        self.batch_norm(f"{ours}.norm", f"{theirs}/_batch_norm")

    def linear_bn(self, ours: str, theirs: str) -> None:
        self.kernel(f"{ours}.linear", f"{theirs}/_conv", LINEAR_1D)
        self.batch_norm(f"{ours}.norm", f"{theirs}/_batch_norm")

    def separable(self, ours: Sequence[str], theirs: str) -> None:
        """A depthwise and a 1x1 convolution."""
        depthwise, pointwise = ours
        self.add(
            f"{depthwise}.conv.weight",
            f"{theirs}/_conv1_bn_act/_depthwise/_depthwise_conv/depthwise_kernel",
            DEPTHWISE,
        )
        self.batch_norm(f"{depthwise}.norm", f"{theirs}/_conv1_bn_act/_depthwise/_batch_norm")
        self.conv_bn(pointwise, f"{theirs}/_conv1_bn_act/_pointwise")

    def residual_block(self, ours: str, theirs: str, block: ResidualBlock) -> None:
        self.conv_bn(f"{ours}.conv1", f"{theirs}/_conv1_bn_act")
        if isinstance(block.middle, ConvBN):
            self.conv_bn(f"{ours}.middle", f"{theirs}/_conv2_bn_act")
        else:
            for axis in ("height", "width"):
                self.axis_attention(f"{ours}.middle.0.{axis}", f"{theirs}/_attention/_{axis}_axis")
        self.conv_bn(f"{ours}.conv3", f"{theirs}/_conv3_bn")
        if isinstance(block.shortcut, ConvBN):
            self.conv_bn(f"{ours}.shortcut", f"{theirs}/_shortcut")

    def axis_attention(self, ours: str, theirs: str) -> None:
        heads = self.shapes[f"{ours}.similarity_norm.weight"][0] // 3
        self.add(f"{ours}.qkv.weight", f"{theirs}/qkv_kernel", QKV)
        self.batch_norm(f"{ours}.qkv_norm", f"{theirs}/_batch_norm_qkv")
        for part in ("query", "key", "value"):
            self.add(f"{ours}.{part}_positions.embeddings", f"{theirs}/_{part}_rpe/embeddings")
        similarity = reshaped((3, 1, heads, 1, 1))
        self.batch_norm(f"{ours}.similarity_norm", f"{theirs}/_batch_norm_similarity", similarity)
        (channels,) = self.shapes[f"{ours}.output_norm.weight"]
        output = reshaped((2, 1, heads, 1, channels // (2 * heads)))
        self.batch_norm(f"{ours}.output_norm", f"{theirs}/_batch_norm_retrieved_output", output)


def tensorflow_entries(model: KMaX, thing_classes: Sequence[int] | None = None) -> list[TensorMapping]:
    """Every tensor of the model, with the variables of a checkpoint of deeplab2 that it is made of.

    Args:
        model: may be on the meta device.
        thing_classes: see `dataset_order`.

    Raises:
        InputError: deeplab2 has no such model.
    """
    names = _Variables({name: tuple(tensor.shape) for name, tensor in model.state_dict().items()})
    _encoder(names, model)
    _pixel_decoder(names, model)
    order = rows(dataset_order(model.arguments.num_classes, thing_classes))
    _transformer_decoder(names, model, order)
    _semantic_head(names, model)
    return names.all


def _encoder(names: _Variables, model: KMaX) -> None:
    encoder, ours = model.pixel_encoder, "pixel_encoder"
    match encoder:
        case ResNetEncoder():
            ours += ".network"
            names.kernel(f"{ours}.conv1", "encoder/_stem/_conv")
            names.batch_norm(f"{ours}.bn1", "encoder/_stem/_batch_norm")
            for layer, blocks in enumerate(encoder.layers(), 1):
                for index, block in enumerate(blocks):
                    _resnet_block(
                        names,
                        f"{ours}.layer{layer}.{index}",
                        f"encoder/_stage{layer + 1}/_block{index + 1}",
                        block.downsample is not None,
                    )
        case AxialResNet():
            for index, name in enumerate(("_conv1_bn_act", "_conv2_bn_act", "_conv3_bn")):
                names.conv_bn(f"{ours}.stem.{index}", f"encoder/_stem/{name}")
            for stage, modules in enumerate(encoder.stages):
                _blocks(
                    names,
                    f"{ours}.stages.{stage}",
                    f"encoder/_stage{stage + 2}",
                    cast(Iterable[Any], modules),
                )
        case ConvNeXtEncoder():
            _convnext(names, f"{ours}.network", [len(stage.blocks) for stage in encoder.network.stages])
        case _:
            raise InputError(f"{model.arguments.name}: the TensorFlow original does not have this model")


def _resnet_block(names: _Variables, ours: str, theirs: str, has_shortcut: bool) -> None:
    for index, name in enumerate(("_conv1_bn_act", "_conv2_bn_act", "_conv3_bn"), 1):
        names.kernel(f"{ours}.conv{index}", f"{theirs}/{name}/_conv")
        names.batch_norm(f"{ours}.bn{index}", f"{theirs}/{name}/_batch_norm")
    if has_shortcut:
        names.kernel(f"{ours}.downsample.0", f"{theirs}/_shortcut/_conv")
        names.batch_norm(f"{ours}.downsample.1", f"{theirs}/_shortcut/_batch_norm")


def _convnext(names: _Variables, ours: str, depths: Sequence[int]) -> None:
    stem = "encoder/downsample_layers/0/layer_with_weights"
    names.kernel(f"{ours}.stem.0", f"{stem}-0")
    names.layer_norm(f"{ours}.stem.1", f"{stem}-1")
    for stage, depth in enumerate(depths):
        if stage > 0:
            downsample = f"encoder/downsample_layers/{stage}/layer_with_weights"
            names.layer_norm(f"{ours}.stages.{stage}.downsample.0", f"{downsample}-0")
            names.kernel(f"{ours}.stages.{stage}.downsample.1", f"{downsample}-1")
        for index in range(depth):
            block = f"{ours}.stages.{stage}.blocks.{index}"
            theirs = f"encoder/stages/{stage}/layer_with_weights-{index}"
            names.kernel(f"{block}.conv_dw", f"{theirs}/depthwise_conv")
            names.layer_norm(f"{block}.norm", f"{theirs}/norm")
            names.kernel(f"{block}.mlp.fc1", f"{theirs}/pointwise_conv1", DENSE)
            names.kernel(f"{block}.mlp.fc2", f"{theirs}/pointwise_conv2", DENSE)
            names.add(f"{block}.gamma", f"{theirs}/layer_scale", LAYER_SCALE)


def _blocks(names: _Variables, ours: str, theirs: str, blocks: Iterable[Any]) -> None:
    for index, block in enumerate(blocks):
        names.residual_block(f"{ours}.{index}", f"{theirs}/_block{index + 1}", block)


def _pixel_decoder(names: _Variables, model: KMaX) -> None:
    ours, theirs = "pixel_decoder", "pixel_decoder"
    for stage, blocks in enumerate(model.pixel_decoder.stages):
        names.layer_norm(f"{ours}.norms.{stage}", f"{theirs}/_backbone_norms/{stage}")
        _blocks(names, f"{ours}.stages.{stage}", f"{theirs}/_stages/{stage}", cast(Iterable[Any], blocks))
    for fuse, module in enumerate(model.pixel_decoder.fuses):
        for branch, index in (("low", 1), ("high", 2)):
            if isinstance(getattr(module, branch), nn.Sequential):
                skip = f"{theirs}/_skip_connections/{fuse}/_resized_conv_bn{index}"
                names.conv_bn(f"{ours}.fuses.{fuse}.{branch}.1", skip)


def _transformer_decoder(names: _Variables, model: KMaX, order: Layout) -> None:
    ours, theirs = "transformer_decoder", "transformer_decoder"
    names.add(f"{ours}.cluster_centers", f"{theirs}/cluster_centers", CENTERS)
    names.linear_bn(f"{ours}.mask_projection", f"{theirs}/_mask_embedding_projection")
    names.linear_bn(f"{ours}.class_projection", f"{theirs}/_class_embedding_projection")
    for index in range(len(model.transformer_decoder.layers)):
        _kmeans_layer(
            names, f"{ours}.layers.{index}", f"{theirs}/_kmax_decoder/{index}/_block1_transformer", order
        )
    # The last predictor's parts are at the root of a checkpoint.
    _predictor(names, "predictor", "", order)


def _kmeans_layer(names: _Variables, ours: str, theirs: str, order: Layout) -> None:
    names.conv_bn(f"{ours}.project_pixels", f"{theirs}/_pixel_conv1_bn_act", POINTWISE_1D)
    names.linear_bn(f"{ours}.project_centers", f"{theirs}/_memory_conv1_bn_act")
    _predictor(names, f"{ours}.predictor", f"{theirs}/_auxiliary_clustering_predictor/_", order)
    names.conv_bn(f"{ours}.cluster_update.value", f"{theirs}/_pixel_v_conv_bn", POINTWISE_1D)
    names.batch_norm(f"{ours}.cluster_update.norm", f"{theirs}/_kmeans_memory_batch_norm_retrieved_value")
    names.linear_bn(f"{ours}.cluster_update.project", f"{theirs}/_kmeans_memory_conv3_bn")
    attention = f"{theirs}/_memory_attention/_batch_norm"
    (heads,) = names.shapes[f"{ours}.self_attention.similarity_norm.weight"]
    (channels,) = names.shapes[f"{ours}.self_attention.output_norm.weight"]
    names.linear_bn(f"{ours}.self_attention.qkv", f"{theirs}/_memory_qkv_conv_bn")
    names.batch_norm(f"{ours}.self_attention.similarity_norm", f"{attention}_similarity")
    retrieved = reshaped((1, heads, 1, channels // heads))
    names.batch_norm(f"{ours}.self_attention.output_norm", f"{attention}_retrieved_value", retrieved)
    names.linear_bn(f"{ours}.self_attention.project", f"{theirs}/_memory_conv3_bn")
    names.linear_bn(f"{ours}.ffn.0", f"{theirs}/_memory_ffn_conv1_bn_act")
    names.linear_bn(f"{ours}.ffn.1", f"{theirs}/_memory_ffn_conv2_bn")


def _predictor(names: _Variables, ours: str, theirs: str, order: Layout) -> None:
    """`theirs` is put before the names of the parts."""
    pixel_head = f"{ours}.pixel_head"
    names.separable((f"{pixel_head}.0", f"{pixel_head}.1"), f"{theirs}pixel_space_head/conv_block")
    names.kernel(f"{pixel_head}.2.conv", f"{theirs}pixel_space_head/final_conv")
    names.batch_norm(f"{pixel_head}.2.norm", f"{theirs}pixel_space_feature_batch_norm")
    names.linear_bn(f"{ours}.mask_head", f"{theirs}transformer_mask_head")
    names.batch_norm(f"{ours}.mask_norm", f"{theirs}pixel_space_mask_batch_norm")
    class_head = f"{theirs}transformer_class_head/_conv"
    names.add(f"{ours}.class_head.weight", f"{class_head}/kernel", LINEAR_1D.then(order))
    names.add(f"{ours}.class_head.bias", f"{class_head}/bias", order)


def _semantic_head(names: _Variables, model: KMaX) -> None:
    head = model.semantic_head
    if isinstance(head, PyramidSemanticHead):
        ours, theirs = "semantic_head.aspp", "semantic_decoder/_aspp"
        names.conv_bn(f"{ours}.branches.0", f"{theirs}/_conv_bn_act")
        for index in range(1, len(head.aspp.branches)):
            names.conv_bn(f"{ours}.branches.{index}", f"{theirs}/_aspp_conv{index}/_conv_bn_act")
        names.conv_bn(f"{ours}.pool", f"{theirs}/_aspp_pool/_conv_bn_act")
        names.conv_bn(f"{ours}.project", f"{theirs}/_proj_conv_bn_act")
        for index, ours in enumerate(("semantic_head.fuse8", "semantic_head.fuse4"), 1):
            names.conv_bn(f"{ours}.project", f"semantic_decoder/_low_level_conv{index}")
            names.separable((f"{ours}.fuse.0", f"{ours}.fuse.1"), f"semantic_decoder/_fusion_conv{index}")
    ours = "semantic_head.classifier"
    names.separable((f"{ours}.0", f"{ours}.1"), "semantic_head_without_last_layer")
    outputs = names.shapes[f"{ours}.2.bias"][0]
    # Outputs are labels of the dataset. Where void is one of them it is label 0, and ours comes last.
    void_last = outputs > model.arguments.num_classes
    order = rows([*range(1, outputs), 0] if void_last else range(outputs))
    names.add(f"{ours}.2.weight", "semantic_last_layer/kernel", KERNEL.then(order))
    names.add(f"{ours}.2.bias", "semantic_last_layer/bias", order)


def dataset_order(num_classes: int, things: Sequence[int] | None) -> list[int]:
    """For each class in the dataset's order, and then void: its index in deeplab2's class logits.

    Args:
        num_classes: K, without void.
        things: indices of the thing classes in the dataset's order. None: as in the datasets of the paper,
            which have different numbers of classes; with another number, the order stays the same.

    Raises:
        InputError: `things` are not indices of classes.
    """
    if things is None:
        things = THINGS.get(num_classes, ())
    first = sorted(set(things))
    if first and not 0 <= first[0] <= first[-1] < num_classes:
        raise InputError(f"thing classes {first[0]} to {first[-1]}: there are only {num_classes} classes")
    theirs = [*first, *sorted(set(range(num_classes)) - set(first)), num_classes]
    place = {label: index for index, label in enumerate(theirs)}
    return [place[label] for label in range(num_classes + 1)]


def skipped_tf(name: str) -> str | None:
    """Why a variable of a TensorFlow checkpoint is not a weight of the network; None if it should be one."""
    if _BOOKKEEPING.fullmatch(name):
        return "bookkeeping of the checkpoint"
    if _OPTIMIZER.fullmatch(name):
        return "state of the optimiser"
    return None


def is_orphan_slot(name: str, names: Collection[str]) -> bool:
    """Whether a tensor is an optimiser's state of a weight that `names` lacks."""
    weight, slot, _ = name.partition(SLOT)
    return bool(slot) and weight + SUFFIX not in names
