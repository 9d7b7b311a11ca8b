"""The sum of all loss terms of kMaX-DeepLab, for the final output and for every k-means layer.

Both originals are computed, chosen by `flavour`: "tf" (google-research/deeplab2) and "torch"
(bytedance/kmax-deeplab). `loss_flavour` says where they differ.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kmax import config
from kmax.data.batch import Batch
from kmax.losses.finite import check_finite
from kmax.losses.instance_discrimination import instance_discrimination_loss
from kmax.losses.loss_terms import (
    class_loss,
    dice_loss,
    log_probabilities,
    mask_id_loss,
    read_masks,
    semantic_loss,
    small_instance_weights,
)
from kmax.losses.matching import Matching, match
from kmax.losses.sampling import Sampler, enlarge, features_at, gumbel_top_k, sample_logits
from kmax.losses.targets import GroundTruth, Targets, subsample
from kmax.model.output import Auxiliary, Output


class Criterion:
    """All loss terms of a batch.

    Args:
        losses: weights and sampling.
        num_classes: K, without void.
        flavour: which original is computed.
        isthing: bool [K]; required where small instances have their own weight.
        sampler: draws pixels. It is called for the final output, the semantic term (where it samples), then
            each auxiliary output, and not at all where all pixels are taken.
    """

    def __init__(
        self,
        losses: config.Losses,
        num_classes: int,
        flavour: config.Flavour = "tf",
        *,
        isthing: Tensor | None = None,
        sampler: Sampler = gumbel_top_k,
    ) -> None:
        if losses.small_instances is not None and isthing is None:
            raise ValueError("losses.small_instances requires isthing")
        self.isthing = isthing
        self.losses = losses
        self.num_classes = num_classes
        self.flavour: config.Flavour = flavour
        self.sampler = sampler

    def __call__(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """The weighted terms, each a scalar and a mean over the batch; their sum is the loss to minimise.

        Args:
            output: of the network; the semantic term is omitted without semantic logits.
            batch: with labels as fine as the output, or finer by a whole factor.

        Returns:
            `class`, `dice`, `mask_id`, `instance_discrimination`, `semantic`, and the first four of every
            auxiliary output i as `aux<i>/class` and so on.

        Raises:
            NonFiniteLossError: a term is NaN or infinite; names it and the images.
            ValueError: a prediction's size is not a subsampling of the labels, or its classes are not K + 1.
        """
        if output.class_logits.shape[2] != self.num_classes + 1:
            raise ValueError(
                f"{output.class_logits.shape[2]} class logits, expected {self.num_classes} classes and void"
            )
        # Exponentials and sums over many pixels: in float32 also where the network runs in bfloat16.
        with torch.autocast(output.class_logits.device.type, enabled=False):
            per_image = self.per_image(output, batch)
        check_finite(per_image, batch.image_ids)
        return {name: values.mean() for name, values in per_image.items()}

    def per_image(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """The weighted terms of each image, [B], not checked."""
        truth = GroundTruth(batch, self.flavour)
        size = _size(output.mask_logits)
        mask_logits = output.mask_logits.float()
        shared = log_probabilities(mask_logits)
        probabilities = shared.detach().exp()
        matching = match(output.class_logits.detach().float(), probabilities, truth, size, batch.image_ids)

        terms = self._terms(output, mask_logits, truth.at(size), matching, size, shared)
        if output.semantic_logits is not None:
            terms["semantic"] = self._semantic(output.semantic_logits.float(), truth, batch)
        for index, auxiliary in enumerate(output.auxiliary):
            aux_size = _size(auxiliary.mask_logits) if self.losses.native_auxiliary else size
            aux_logits = enlarge(auxiliary.mask_logits.float(), aux_size, self.flavour)
            aux_terms = self._terms(auxiliary, aux_logits, truth.at(aux_size), matching, aux_size)
            terms.update({f"aux{index}/{name}": values for name, values in aux_terms.items()})
        return terms

    def _terms(
        self,
        output: Output | Auxiliary,
        mask_logits: Tensor,
        targets: Targets,
        matching: Matching,
        size: tuple[int, int],
        shared: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The four terms that the final and the auxiliary outputs have; `shared` as in `read_masks`."""
        masks = read_masks(mask_logits, targets, matching, shared)
        indices = self._draw(targets, self.losses.sample_k, self.losses.sample_temperature)
        features = features_at(output.pixel_features.float(), indices, size, self.flavour)
        discrimination = instance_discrimination_loss(features, targets.shares_at(indices))
        return {
            "class": class_loss(output.class_logits.float(), matching) * self.losses.class_weight,
            "dice": dice_loss(masks, targets, matching) * self.losses.dice_weight,
            "mask_id": mask_id_loss(masks) * self.losses.mask_id_weight,
            "instance_discrimination": discrimination * self.losses.instance_discrimination_weight,
        }

    def _semantic(self, logits: Tensor, truth: GroundTruth, batch: Batch) -> Tensor:
        size = _size(logits)
        targets = truth.at(size)
        logits, semantic, weight = logits.flatten(2), targets.semantic, None
        if self.losses.small_instances is not None and self.isthing is not None:
            weights = small_instance_weights(batch, self.isthing, self.losses.small_instances)
            weight = subsample(weights, size).flatten(1)
        if self.losses.semantic_sampling is not None:
            sampling = self.losses.semantic_sampling
            indices = self._draw(targets, sampling.k, sampling.temperature)
            if indices is not None:
                semantic = semantic.gather(1, indices)
                weight = None if weight is None else weight.gather(1, indices)
                logits = logits.gather(2, indices[:, None].expand(-1, logits.shape[1], -1))
        loss = semantic_loss(logits, semantic, weight, self.losses.semantic_top_k)
        return loss * self.losses.semantic_weight

    def _draw(self, targets: Targets, k: int, temperature: float) -> Tensor | None:
        """Indices [B, k] of sampled pixels; None when there are no more than k, so that all are taken."""
        if k >= targets.labelled.shape[1]:
            return None
        return self.sampler(sample_logits(targets, temperature), k)


def _size(maps: Tensor) -> tuple[int, int]:
    return maps.shape[2], maps.shape[3]
