"""Names in the PyTorch original's state dicts (bytedance/kmax-deeplab), and the layouts of their values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from torch import nn

from kmax.errors import InputError
from kmax.model.kmax import KMaX
from kmax.model.layers import ConvBN
from kmax.model.pixel_encoder import ConvNeXtEncoder, ResNetEncoder
from kmax.model.residual import ResidualBlock
from kmax.model.semantic_head import PyramidSemanticHead
from kmax.porting.tensor_mapping import SAME, Layout, TensorMapping, TensorMappings, permuted

BATCH_NORM = ("weight", "bias", "running_mean", "running_var")
# Convolutions along a sequence, (O, I, 1); ours are linear layers, and 1x1 convolutions in axial attention.
LINEAR_1D = Layout(lambda shape: (*shape, 1), lambda weight: weight.squeeze(2))
POINTWISE_1D = Layout(lambda shape: shape[:3], lambda weight: weight.unsqueeze(3))
HEAD = "sem_seg_head"
# Tensors of wrappers and training programs beside the weights, whose names have no dot.
COUNTERS = dict.fromkeys(("n_averaged", "num_updates", "decay"), "counts for a moving average of weights")
COUNTERS |= dict.fromkeys(("iteration", "step", "global_step", "epoch"), "counts training steps")


class _State(TensorMappings):
    """Mappings by module: `ours` and `theirs` are the names of the same module on both sides."""

    def same(self, ours: str, theirs: str, layout: Layout = SAME) -> None:
        """Weights, and a bias where the module has one."""
        self.add(f"{ours}.weight", f"{theirs}.weight", layout)
        if f"{ours}.bias" in self.shapes:
            self.add(f"{ours}.bias", f"{theirs}.bias")

    def batch_norm(self, ours: str, theirs: str) -> None:
        for part in BATCH_NORM:
            self.add(f"{ours}.{part}", f"{theirs}.{part}")

    def conv_bn(self, ours: str, theirs: str) -> None:
        self.same(f"{ours}.conv", f"{theirs}.conv")
        self.batch_norm(f"{ours}.norm", f"{theirs}.norm")

    def linear_bn(self, ours: str, theirs: str) -> None:
        self.same(f"{ours}.linear", f"{theirs}.conv", LINEAR_1D)
        self.batch_norm(f"{ours}.norm", f"{theirs}.norm")

    def residual_block(self, ours: str, theirs: str, block: ResidualBlock) -> None:
        self.conv_bn(f"{ours}.conv1", f"{theirs}._conv1_bn_act")
        if isinstance(block.middle, ConvBN):
            self.conv_bn(f"{ours}.middle", f"{theirs}._conv2_bn_act")
        else:
            for axis in ("height", "width"):
                self.axis_attention(f"{ours}.middle.0.{axis}", f"{theirs}._attention._{axis}_axis")
        self.conv_bn(f"{ours}.conv3", f"{theirs}._conv3_bn")
        if isinstance(block.shortcut, ConvBN):
            self.conv_bn(f"{ours}.shortcut", f"{theirs}._shortcut")

    def axis_attention(self, ours: str, theirs: str) -> None:
        self.same(f"{ours}.qkv", f"{theirs}.qkv_transform.conv", POINTWISE_1D)
        self.batch_norm(f"{ours}.qkv_norm", f"{theirs}._batch_norm_qkv")
        for part in ("query", "key", "value"):
            self.add(f"{ours}.{part}_positions.embeddings", f"{theirs}._{part}_rpe._embeddings.weight")
        self.batch_norm(f"{ours}.similarity_norm", f"{theirs}._batch_norm_similarity")
        self.batch_norm(f"{ours}.output_norm", f"{theirs}._batch_norm_retrieved_output")


def torch_reference_entries(model: KMaX) -> list[TensorMapping]:
    """Every tensor of the model, with the tensor of the PyTorch original that it is.

    Args:
        model: may be on the meta device.

    Raises:
        InputError: the PyTorch original does not have this model.
    """
    names = _State({name: tuple(tensor.shape) for name, tensor in model.state_dict().items()})
    match model.pixel_encoder:
        case ResNetEncoder() as encoder:
            _resnet(names, "pixel_encoder.network", encoder)
        case ConvNeXtEncoder() as encoder:
            depths = [len(stage.blocks) for stage in encoder.network.stages]
            _convnext(names, "pixel_encoder.network", depths)
        case _:
            raise InputError(f"{model.arguments.name}: the PyTorch original does not have this model")
    _pixel_decoder(names, model)
    _transformer_decoder(names, model)
    _semantic_head(names, model)
    return names.all


def _resnet(names: _State, ours: str, encoder: ResNetEncoder) -> None:
    names.same(f"{ours}.conv1", "backbone.stem.conv1")
    names.batch_norm(f"{ours}.bn1", "backbone.stem.conv1.norm")
    for layer, blocks in enumerate(encoder.layers(), 1):
        for index, block in enumerate(cast(Iterable[Any], blocks)):
            prefix, theirs = f"{ours}.layer{layer}.{index}", f"backbone.res{layer + 1}.{index}"
            for number in (1, 2, 3):
                names.same(f"{prefix}.conv{number}", f"{theirs}.conv{number}")
                names.batch_norm(f"{prefix}.bn{number}", f"{theirs}.conv{number}.norm")
            if block.downsample is not None:
                names.same(f"{prefix}.downsample.0", f"{theirs}.shortcut")
                names.batch_norm(f"{prefix}.downsample.1", f"{theirs}.shortcut.norm")


def _convnext(names: _State, ours: str, depths: list[int]) -> None:
    for index in (0, 1):
        names.same(f"{ours}.stem.{index}", f"backbone.downsample_layers.0.{index}")
    for stage, depth in enumerate(depths):
        for index in (0, 1) if stage else ():
            downsample = f"backbone.downsample_layers.{stage}.{index}"
            names.same(f"{ours}.stages.{stage}.downsample.{index}", downsample)
        for index in range(depth):
            block, theirs = f"{ours}.stages.{stage}.blocks.{index}", f"backbone.stages.{stage}.{index}"
            names.same(f"{block}.conv_dw", f"{theirs}.dwconv")
            names.same(f"{block}.norm", f"{theirs}.norm")
            names.same(f"{block}.mlp.fc1", f"{theirs}.pwconv1")
            names.same(f"{block}.mlp.fc2", f"{theirs}.pwconv2")
            names.add(f"{block}.gamma", f"{theirs}.gamma")


def _pixel_decoder(names: _State, model: KMaX) -> None:
    ours, theirs = "pixel_decoder", f"{HEAD}.pixel_decoder"
    for stage, blocks in enumerate(model.pixel_decoder.stages):
        names.same(f"{ours}.norms.{stage}", f"{theirs}._in_norms.{stage}")
        for index, block in enumerate(cast(Iterable[Any], blocks)):
            prefix = f"{ours}.stages.{stage}.{index}"
            names.residual_block(prefix, f"{theirs}._stages.{stage}._blocks.{index}", block)
    for fuse, module in enumerate(model.pixel_decoder.fuses):
        for branch in ("low", "high"):
            if isinstance(getattr(module, branch), nn.Sequential):
                names.conv_bn(
                    f"{ours}.fuses.{fuse}.{branch}.1", f"{theirs}._resized_fuses.{fuse}._conv_bn_{branch}"
                )


def _transformer_decoder(names: _State, model: KMaX) -> None:
    ours, theirs = "transformer_decoder", f"{HEAD}.predictor"
    names.add(f"{ours}.cluster_centers", f"{theirs}._cluster_centers.weight", permuted(1, 0))
    names.linear_bn(f"{ours}.mask_projection", f"{theirs}._mask_embedding_projection")
    names.linear_bn(f"{ours}.class_projection", f"{theirs}._class_embedding_projection")
    _predictor(names, "predictor", f"{theirs}._predcitor")
    for index in range(len(model.transformer_decoder.layers)):
        _kmeans_layer(names, f"{ours}.layers.{index}", f"{theirs}._kmax_transformer_layers.{index}")


def _kmeans_layer(names: _State, ours: str, theirs: str) -> None:
    names.conv_bn(f"{ours}.project_pixels", f"{theirs}._pixel_conv1_bn_act")
    names.linear_bn(f"{ours}.project_centers", f"{theirs}._query_conv1_bn_act")
    _predictor(names, f"{ours}.predictor", f"{theirs}._predcitor")
    names.conv_bn(f"{ours}.cluster_update.value", f"{theirs}._pixel_v_conv_bn")
    names.batch_norm(f"{ours}.cluster_update.norm", f"{theirs}._kmeans_query_batch_norm_retrieved_value")
    names.linear_bn(f"{ours}.cluster_update.project", f"{theirs}._kmeans_query_conv3_bn")
    attention = f"{theirs}._query_self_attention._batch_norm"
    names.linear_bn(f"{ours}.self_attention.qkv", f"{theirs}._query_qkv_conv_bn")
    names.batch_norm(f"{ours}.self_attention.similarity_norm", f"{attention}_similarity")
    names.batch_norm(f"{ours}.self_attention.output_norm", f"{attention}_retrieved_value")
    names.linear_bn(f"{ours}.self_attention.project", f"{theirs}._query_conv3_bn")
    names.linear_bn(f"{ours}.ffn.0", f"{theirs}._query_ffn_conv1_bn_act")
    names.linear_bn(f"{ours}.ffn.1", f"{theirs}._query_ffn_conv2_bn")


def _predictor(names: _State, ours: str, theirs: str) -> None:
    for index, part in enumerate(("conv0bnact", "conv1bnact", "last_convbn")):
        names.conv_bn(f"{ours}.pixel_head.{index}", f"{theirs}._pixel_space_head_{part}")
    names.linear_bn(f"{ours}.mask_head", f"{theirs}._transformer_mask_head")
    names.batch_norm(f"{ours}.mask_norm", f"{theirs}._pixel_space_mask_batch_norm")
    names.same(f"{ours}.class_head", f"{theirs}._transformer_class_head.conv", LINEAR_1D)


def _semantic_head(names: _State, model: KMaX) -> None:
    head, theirs = model.semantic_head, f"{HEAD}.predictor._auxiliary_semantic_predictor"
    classifier = [f"{theirs}.0", f"{theirs}.1", f"{theirs}.2"]
    if isinstance(head, PyramidSemanticHead):
        classifier = [f"{theirs}.conv_block_0", f"{theirs}.conv_block_1", f"{theirs}.final_conv"]
        for index in range(len(head.aspp.branches)):
            names.conv_bn(f"semantic_head.aspp.branches.{index}", f"{theirs}._aspp._aspp_conv{index}")
        names.conv_bn("semantic_head.aspp.pool", f"{theirs}._aspp._aspp_pool")
        names.conv_bn("semantic_head.aspp.project", f"{theirs}._aspp._proj_conv_bn_act")
        for stride in (8, 4):
            ours = f"semantic_head.fuse{stride}"
            names.conv_bn(f"{ours}.project", f"{theirs}._low_level_projection_os{stride}")
            for index in (0, 1):
                fusion = f"{theirs}._low_level_fusion_os{stride}_conv{index}_bn_act"
                names.conv_bn(f"{ours}.fuse.{index}", fusion)
    for index in (0, 1):
        names.conv_bn(f"semantic_head.classifier.{index}", classifier[index])
    names.same("semantic_head.classifier.2", f"{classifier[2]}.conv")


def skipped_torch_reference(name: str) -> str | None:
    """Why a tensor of the PyTorch original is not a weight of the network; None if it should be one."""
    if name.endswith(".num_batches_tracked"):
        return "counts batches, which moving averages of a fixed momentum do not need"
    if name in ("pixel_mean", "pixel_std", "criterion.empty_weight"):
        return "a constant"
    if name.rpartition(".")[2] == "_extra_state":
        return "extra state of a module"
    return COUNTERS.get(name)
