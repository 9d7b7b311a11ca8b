"""The run file that comes with a dataset of the user's own: the small network, from scratch."""

from __future__ import annotations

SIDES = (129, 193, 257)  # input sizes that two CPU cores can train
MIN_CLUSTERS = 16

TEMPLATE = """\
# kmax train {name}-tiny: the small network from scratch, for a first look on a CPU. For more, take the model,
# the image size and the recipe of a larger run, and weights to start from.
run: {name}-tiny
description: kMaX-DeepLab with a small encoder, from scratch on {name}
data:
  dataset: {name}
  train_split: train
  val_split: val
  image_size: [{side}, {side}]
  train_images: null
  val_images: null
  augmentation:
    flip: 0.5
    scale: [0.7, 1.4]
    scale_step: 0.0
    color_jitter: 0.2
    copy_paste: null
model:
  name: kmax_tiny
  flavour: tf
  num_clusters: {clusters}
  decoder_stages: 4
  cross_attention: kmeans
  drop_path: 0.0
  backbone_drop_path: 0.0
train:
  seed: 0
  weights: null
  steps: {steps}
  global_batch_size: 4
  learning_rate: 2.0e-3
  warmup_steps: 50
  poly_power: 0.9
  backbone_lr_multiplier: 1.0
  weight_decay: 0.05
  adam_betas: [0.9, 0.999]
  adam_epsilon: 1.0e-7
  clip_grad_norm: null
  ema_decay: null
  precision: fp32
  losses:
    class_weight: 3.0
    dice_weight: 3.0
    mask_id_weight: 0.3
    instance_discrimination_weight: 0.2
    semantic_weight: 1.0
    sample_k: 256
    sample_temperature: 1.5
  checkpoint_every: 100
  log_every: 10
predict:
  mode: maskwise
  pixel_threshold: 0.4
  class_threshold_thing: 0.2
  class_threshold_stuff: 0.2
  overlap_threshold: 0.8
  reorder_class_weight: 1.0
  reorder_mask_weight: 1.0
  thing_area_limit: 0
  stuff_area_limit: 0
  batch_size: 4
  pictures: 6
  instances: coco
  semantic: true
evaluate:
  metrics: [pq, miou_panoptic]
  ap: panoptic_annotation
  miou: panoptic_annotation
  bootstrap_samples: 1000
  bootstrap_seed: 0
"""


def run_text(name: str, side: int, most_segments: int) -> str:
    """A run file.

    Args:
        side: of the images, in pixels; the network's input is at most 257.
        most_segments: in one image; a quarter more clusters than that look for them.
    """
    fitting = min((s for s in SIDES if s >= side), default=SIDES[-1])
    clusters = max(MIN_CLUSTERS, -(-most_segments * 5 // 64) * 16)
    steps = {129: 1200, 193: 800, 257: 600}[fitting]
    return TEMPLATE.format(name=name, side=fitting, clusters=clusters, steps=steps)
