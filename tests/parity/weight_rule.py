"""The rules that generate the weights of the recorded runs from names and shapes alone.

They are not initial values: they keep activations of a random network near 1 and use many clusters.
"""

import zlib
from collections.abc import Callable, Iterable
from math import prod, sqrt

import numpy as np

Shape = tuple[int, ...]
Rule = Callable[[np.random.RandomState, Shape], np.ndarray]


def normal(scale: float) -> Rule:
    return lambda r, shape: scale * r.standard_normal(shape)


def uniform(low: float, high: float) -> Rule:
    return lambda r, shape: r.uniform(low, high, shape)


def fan_in(axes: tuple[int, ...], centred: bool = True, scale: float = 1.0) -> Rule:
    """Normal, divided by the root of the product of `axes`, and without its mean over them if `centred`."""

    def rule(r: np.random.RandomState, shape: Shape) -> np.ndarray:
        w = scale * r.standard_normal(shape) / sqrt(prod(shape[axis] for axis in axes))
        return w - w.mean(axis=axes, keepdims=True) if centred else w

    return rule


TF_RULES: dict[str, Rule] = {
    "conv2d_kernel": fan_in((0, 1, 2)),
    "conv1d_kernel": fan_in((0, 1)),
    "dense_kernel": fan_in((0,)),
    "depthwise_kernel": fan_in((0, 1), centred=False),
    "bias": normal(0.05),
    "gamma": uniform(0.5, 1.5),
    "beta": normal(0.1),
    "moving_mean": normal(0.1),
    "moving_variance": uniform(0.5, 1.5),
    "kmeans_moving_variance": uniform(2e4, 6e4),
    "layer_scale": uniform(0.1, 0.5),
    "embedding": normal(0.5),
    "cluster_centers": normal(0.5),
}


def tf_kind(name: str, shape: Shape) -> str:
    path = name.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE")
    last = path.rsplit("/", 1)[-1]
    if last in ("kernel", "qkv_kernel"):
        return {4: "conv2d_kernel", 3: "conv1d_kernel", 2: "dense_kernel"}[len(shape)]
    if path.endswith("_kmeans_memory_batch_norm_retrieved_value/moving_variance"):
        return "kmeans_moving_variance"
    return "embedding" if last == "embeddings" else last


TORCH_RULES: dict[str, Rule] = {
    "running_mean": normal(0.1),
    "kmeans_running_var": lambda r, shape: 400 * r.uniform(0.5, 1.5, shape),
    "similarity_running_var": lambda r, shape: 16 * r.uniform(0.5, 1.5, shape),
    "running_var": uniform(0.5, 1.5),
    "layer_scale": uniform(0.1, 0.5),
    "rpe_embedding": normal(1.0),
    "cluster_centers": normal(3.0),
    "conv_bias": normal(0.05),
    "norm_beta": normal(0.1),
    "mask_bn_gamma": uniform(4, 8),
    "residual_gamma": uniform(0.1, 0.5),
    "norm_gamma": uniform(0.5, 1.5),
}
CONV_BIASES = (".conv.bias", ".dwconv.bias", ".pwconv1.bias", ".pwconv2.bias", "downsample_layers.0.0.bias")
CONV_BIASES += tuple(f"downsample_layers.{stage}.1.bias" for stage in (1, 2, 3))


def torch_kind(name: str, shape: Shape) -> str:
    """The first row of the rule's table whose test the name passes."""
    endings = {
        "num_batches_tracked": "num_batches_tracked",
        "running_mean": "running_mean",
        "_kmeans_query_batch_norm_retrieved_value.running_var": "kmeans_running_var",
        "_batch_norm_similarity.running_var": "similarity_running_var",
        "running_var": "running_var",
        ".gamma": "layer_scale",
        "_rpe._embeddings.weight": "rpe_embedding",
        "_cluster_centers.weight": "cluster_centers",
        **dict.fromkeys(CONV_BIASES, "conv_bias"),
        ".bias": "norm_beta",
        "_pixel_space_mask_batch_norm.weight": "mask_bn_gamma",
    }
    for ending, kind in endings.items():
        if name.endswith(ending):
            return kind
    if len(shape) == 1:
        residual = name.endswith(("_conv3_bn.norm.weight", "_ffn_conv2_bn.norm.weight"))
        return "residual_gamma" if residual else "norm_gamma"
    if name.endswith("_transformer_class_head.conv.weight"):
        return "class_head_weight"
    if name.endswith("_pixel_space_head_conv0bnact.conv.weight"):
        return "zero_sum_depthwise"
    return "conv_weight"


def tf_value(name: str, shape: Shape) -> np.ndarray:
    """float64 value of a variable of deeplab2, by its full name."""
    r = np.random.RandomState(zlib.crc32(name.encode()))
    return TF_RULES[tf_kind(name, shape)](r, shape)


def torch_value(name: str, shape: Shape) -> np.ndarray:
    """float64 value of a tensor of the PyTorch original (int64 for counters)."""
    kind = torch_kind(name, shape)
    if kind == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    r = np.random.RandomState(zlib.crc32(name.encode()))
    if kind in TORCH_RULES:
        return TORCH_RULES[kind](r, shape)
    w = r.standard_normal(shape) * sqrt(1 / prod(shape[1:]))
    if kind == "class_head_weight":
        w = 2.0 * w
    return w - w.mean(axis=(2, 3), keepdims=True) if kind == "zero_sum_depthwise" else w


def tf_weights(variables: Iterable[tuple[str, Shape]]) -> dict[str, np.ndarray]:
    return {name: tf_value(name, shape).astype(np.float32) for name, shape in variables}


def torch_weights(tensors: Iterable[tuple[str, Shape]]) -> dict[str, np.ndarray]:
    values = {name: torch_value(name, shape) for name, shape in tensors}
    return {name: v if v.dtype == np.int64 else v.astype(np.float32) for name, v in values.items()}
