"""The family of runs that comes with a user's own dataset: the small network, from scratch."""

from __future__ import annotations

SIDES = (129, 193, 257)  # input sizes that two CPU cores can train
MIN_CLUSTERS = 16

TEMPLATE = """\
# Written by `kmax data init`: a first run on a CPU. Add others under `runs`, with what differs from `base`.
# For good results, use the model, the image size and the recipe of a larger run,
# and weights to start from.
family: {name}
description: own data, {name}
{default}
base:
  data: &data
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
  model: &model
    name: kmax_tiny
    flavour: tf
    num_clusters: {clusters}
    decoder_stages: 4
    cross_attention: kmeans
    drop_path: 0.0
    backbone_drop_path: 0.0
  train: &train
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
    losses: &losses
      class_weight: 3.0
      dice_weight: 3.0
      mask_id_weight: 0.3
      instance_discrimination_weight: 0.2
      semantic_weight: 1.0
      sample_k: 256
      sample_temperature: 1.5
    checkpoint_every: 100
    log_every: 10
  predict: &predict
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
  evaluate: &evaluate
    metrics: [pq, miou_panoptic]
    ap: panoptic_annotation
    miou: panoptic_annotation
    bootstrap_samples: 1000
    bootstrap_seed: 0

runs:
  # The small network from scratch: kmax train {name}-tiny
  {name}-tiny:
    description: kMaX-DeepLab with a small encoder, from scratch on {name}
    data: *data
    model: *model
    train: *train
    predict: *predict
    evaluate: *evaluate
"""


def family_text(name: str, side: int, most_segments: int, default: bool) -> str:
    """A family file with the run `<name>-tiny`.

    Args:
        name: of the dataset and the family.
        side: size of the images in pixels; the network's input is at most 257.
        most_segments: in one image; there are a quarter more clusters than that.
        default: whether this is the default family, as for the first family of a project.
    """
    fitting = min((s for s in SIDES if s >= side), default=SIDES[-1])
    clusters = max(MIN_CLUSTERS, -(-most_segments * 5 // 64) * 16)
    steps = {129: 1200, 193: 800, 257: 600}[fitting]
    first = "default: true\n" if default else ""
    return TEMPLATE.format(name=name, side=fitting, clusters=clusters, steps=steps, default=first)
