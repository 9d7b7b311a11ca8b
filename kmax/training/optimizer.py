"""The optimisers and learning-rate schedules of both originals.

Both use Adam with decoupled weight decay, a smaller learning rate for the pixel encoder, and a linear warm-up
followed by polynomial decay. `optimizer_flavour` lists where they differ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kmax.config import Flavour, Train
from kmax.model.kmax import KMaX
from kmax.training.optimizer_flavour import OPTIMIZER_FLAVOURS


class KerasAdamW(torch.optim.Optimizer):
    """Adam as Keras computes it, with decoupled weight decay applied first.

    Update t = 1, 2, ..: w -= rate * decay * w, then
    w -= rate * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + eps) with the uncorrected v.
    `torch.optim.AdamW` adds epsilon after the correction, which differs for small gradients.

    Args:
        params: parameters or groups of them.
        lr: learning rate; the training loop sets it before every step.
        betas: decay rates of the two moments.
        eps: added to the square root of the uncorrected second moment.
        weight_decay: every update subtracts this times the learning rate times the weight.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-7,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient. `closure` is not supported."""
        if closure is not None:
            raise NotImplementedError("KerasAdamW does not support closures")
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if not weights:
                continue
            for weight in weights:
                if not self.state[weight]:
                    self.state[weight] = {
                        "step": torch.zeros(()),
                        "m": torch.zeros_like(weight),
                        "v": torch.zeros_like(weight),
                    }
            states = [self.state[weight] for weight in weights]
            for state in states:
                state["step"] += 1
            _update(
                weights,
                [weight.grad for weight in weights],
                [state["m"] for state in states],
                [state["v"] for state in states],
                updates=int(states[0]["step"]),
                group=group,
            )


def _update(
    weights: list[Tensor],
    gradients: list[Tensor],
    m: list[Tensor],
    v: list[Tensor],
    updates: int,
    group: dict[str, Any],
) -> None:
    rate, (beta1, beta2) = group["lr"], group["betas"]
    if group["weight_decay"]:
        torch._foreach_mul_(weights, 1 - rate * group["weight_decay"])
    torch._foreach_lerp_(m, gradients, 1 - beta1)
    torch._foreach_mul_(v, beta2)
    torch._foreach_addcmul_(v, gradients, gradients, 1 - beta2)
    denominators = torch._foreach_sqrt(v)
    torch._foreach_add_(denominators, group["eps"])
    correction = math.sqrt(1 - beta2**updates) / (1 - beta1**updates)
    torch._foreach_addcdiv_(weights, m, denominators, -rate * correction)


def parameter_groups(model: KMaX, train: Train) -> list[dict[str, Any]]:
    """Parameter groups by (pixel encoder or not) x (decayed or not), each with a learning-rate `multiplier`.

    Only the kernels of convolutions and linear layers are decayed (`KMaX.no_weight_decay` lists the others).
    """
    not_decayed = model.no_weight_decay()
    members: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            kind = (name.startswith("pixel_encoder."), name not in not_decayed)
            members.setdefault(kind, []).append(parameter)
    return [
        {
            "params": parameters,
            "multiplier": train.backbone_lr_multiplier if in_encoder else 1.0,
            "weight_decay": train.weight_decay if decayed else 0.0,
        }
        for (in_encoder, decayed), parameters in members.items()
    ]


def optimizer_flavour(train: Train, model: Flavour) -> Flavour:
    """The original whose optimiser and schedule are used: `train.optimizer`, else the model's flavour."""
    return train.optimizer or model


def make_optimizer(model: KMaX, train: Train, flavour: Flavour) -> torch.optim.Optimizer:
    """The optimiser of an original (see `optimizer_flavour`) over `parameter_groups`."""
    optimizer = KerasAdamW if OPTIMIZER_FLAVOURS[flavour].keras_adam else torch.optim.AdamW
    return optimizer(
        parameter_groups(model, train),
        lr=train.learning_rate,
        betas=(train.adam_betas[0], train.adam_betas[1]),
        eps=train.adam_epsilon,
    )


def set_learning_rates(optimizer: torch.optim.Optimizer, step: int, train: Train, flavour: Flavour) -> None:
    """Set the learning rate of update `step` in every group."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, train, flavour, group["multiplier"])


def learning_rate(step: int, train: Train, flavour: Flavour, multiplier: float = 1.0) -> float:
    """The learning rate of update `step`, bit-identical to either original.

    The warm-up is linear. The decay is counted from step 0, so the rate drops slightly where the warm-up
    ends.

    Args:
        step: number of updates done before.
        train: the recipe.
        flavour: the original whose schedule is used.
        multiplier: of the base rate, for parameter groups such as the pixel encoder's.
    """
    schedule = OPTIMIZER_FLAVOURS[flavour]
    rate = _rate_in_float32 if schedule.rate_in_float32 else _rate
    return rate(step, train, multiplier, schedule.warmup_start)


def _rate(step: int, train: Train, multiplier: float, start: float) -> float:
    base = train.learning_rate * multiplier
    if step < train.warmup_steps:
        part = step / train.warmup_steps
        return float(base * (start * (1 - part) + part))
    return float(base * (1 - min(step, train.steps) / train.steps) ** train.poly_power)


def _rate_in_float32(step: int, train: Train, multiplier: float, start: float) -> float:
    base = np.float32(train.learning_rate) * np.float32(multiplier)
    if step < train.warmup_steps:
        part = np.float32(step) / np.float32(train.warmup_steps)
        return float(base * (np.float32(start) * (1 - part) + part))
    left = np.float32(1) - np.float32(min(step, train.steps)) / np.float32(train.steps)
    # Rounded once: the last bit of NumPy's float32 power differs between processors.
    return float(base * np.float32(float(left) ** float(np.float32(train.poly_power))))
