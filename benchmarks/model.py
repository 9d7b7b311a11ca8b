"""Where the time of kMaX-DeepLab goes: forward pass, training step and post-processing, part by part.

    python benchmarks/model.py                    kmax_tiny on a generated scene, on the GPU if there is one
    python benchmarks/model.py --batch-size 8

The floor is the time that the forward pass's arithmetic would take at the rate of a large matrix product on
this machine. FLOPs count matrix products and convolutions, two for each multiply-add.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from kmax.config import Losses, Predict
from kmax.data.batch import Batch
from kmax.data.datasets import load_dataset
from kmax.data.loader import network_input
from kmax.data.shapes import draw_scene
from kmax.inference.segment import segment_images
from kmax.losses import Criterion, criterion
from kmax.model.create import create_model
from kmax.model.kmax import KMaX
from kmax.runs import load_run

RUN = "shapes-tiny"
REPEATS = 5


class Clock:
    """Seconds by name, with the GPU's work waited for."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Add the time of a block to a name."""
        start = self.now()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + self.now() - start

    @staticmethod
    def now() -> float:
        """Seconds, when all that was asked for is done."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()

    @contextmanager
    def parts(self, modules: dict[str, nn.Module]) -> Iterator[None]:
        """Add the time of each call of these modules to their names."""
        starts: dict[str, float] = {}
        with ExitStack() as stack:
            for name, module in modules.items():

                def begin(*_: Any, name: str = name) -> None:
                    starts[name] = self.now()

                def end(*_: Any, name: str = name) -> None:
                    self.seconds[name] = self.seconds.get(name, 0.0) + self.now() - starts[name]

                for handle in (module.register_forward_pre_hook(begin), module.register_forward_hook(end)):
                    stack.callback(handle.remove)
            yield

    def row(self, name: str, extra: str = "") -> None:
        """Print one line."""
        print(f"{name:<34}{1000 * self.seconds[name] / REPEATS:>10.1f} ms  {extra}")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch-size", type=int, default=1)
    batch_size = parser.parse_args().batch_size
    run = load_run(RUN)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batch, isthing = scene_batch(batch_size, run.data.image_size, device)
    arguments = run.model.model_dump(exclude={"name"})
    size = (run.data.image_size[0], run.data.image_size[1])
    model = create_model(run.model.name, num_classes=len(isthing), image_size=size, **arguments).to(device)
    gflops = matmul_rate(device)
    threads = torch.get_num_threads()
    print(
        f"{run.model.name}, {size[0]}x{size[1]}, batch {batch_size}, {device.type}, {threads} threads, fp32"
    )
    forward_pass(model, batch, gflops)
    post_processing(model, batch, isthing, run.predict)
    assert run.train is not None
    training_step(model, batch, run.train.losses, run.model.flavour)


def scene_batch(size: int, image_size: list[int], device: torch.device) -> tuple[Batch, torch.Tensor]:
    """Generated scenes as a batch, and which classes are things."""
    categories = load_dataset("shapes").categories
    assert categories is not None
    class_of = {category.id: index for index, category in enumerate(categories)}
    height, width = image_size
    images, segments, semantic, classes, contents = [], [], [], [], []
    for index in range(size):
        scene = draw_scene(0, "benchmark", index, (height, width), categories)
        image, content = network_input(scene.rgb, (height, width))
        ids = torch.from_numpy(scene.ids.astype("int64"))
        of_segment = torch.full_like(ids, -1)
        of_class = torch.full_like(ids, -1)
        kept = [segment for segment in scene.segments if not segment.iscrowd]
        for number, segment in enumerate(kept):
            of_segment[ids == segment.id] = number
            of_class[ids == segment.id] = class_of[segment.category_id]
        images.append(image)
        segments.append(of_segment)
        semantic.append(of_class)
        classes.append(torch.tensor([class_of[segment.category_id] for segment in kept]))
        contents.append(content)
    isthing = torch.tensor([category.isthing for category in categories])
    batch = Batch(
        images=torch.stack(images),
        segments=torch.stack(segments),
        semantic=torch.stack(semantic),
        classes=classes,
        image_ids=list(range(size)),
        content_sizes=contents,
        original_sizes=contents,
    )
    return batch.to(device), isthing.to(device)


def matmul_rate(device: torch.device) -> float:
    """FLOP/s of a large fp32 matrix product."""
    side = 8192 if device.type == "cuda" else 1536
    a = torch.rand(side, side, device=device)
    times = []
    for _ in range(4):
        start = Clock.now()
        a @ a
        times.append(Clock.now() - start)
    return 2 * side**3 / min(times)


def parts_of(model: KMaX) -> dict[str, nn.Module]:
    """The parts by name: as the model holds them, the k-means layers one by one."""
    parts: dict[str, nn.Module] = {}
    for name, module in model.named_children():
        parts[name] = module
        if name == "transformer_decoder":
            layers: Any = module.layers
            parts |= {f"  k-means layer {number}": layer for number, layer in enumerate(layers, start=1)}
    return parts


def forward_pass(model: KMaX, batch: Batch, rate: float) -> None:
    """Inference, part by part, with FLOPs, parameters and the ratio to the floor."""
    model.eval().requires_grad_(False)
    clock, parts = Clock(), parts_of(model)
    with torch.inference_mode():
        with FlopCounterMode(display=False) as counter:
            model(batch.images)
        by_module = {name: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
        names = {id(module): name for name, module in model.named_modules()}
        with clock.parts(parts):
            for _ in range(REPEATS):
                with clock.of("forward"):
                    model(batch.images)
    print("\nforward pass")
    for name, module in parts.items():
        if name in clock.seconds:
            flops = by_module.get(f"KMaX.{names[id(module)]}", 0)
            parameters = sum(parameter.numel() for parameter in module.parameters())
            clock.row(name, f"{flops / 1e9:8.3f} GFLOP  {parameters / 1e6:7.3f} M parameters")
    total, seconds = counter.get_total_flops(), clock.seconds["forward"] / REPEATS
    clock.row("forward", f"{total / 1e9:8.3f} GFLOP")
    floor = total / rate
    print(f"floor at {rate / 1e9:.0f} GFLOP/s {1000 * floor:26.1f} ms  {seconds / floor:8.1f} times that")
    model.requires_grad_(True)


def post_processing(model: KMaX, batch: Batch, isthing: torch.Tensor, predict: Predict) -> None:
    """From images to panoptic maps."""
    clock = Clock()
    model.eval()
    for _ in range(REPEATS):
        with clock.of("end to end"):
            sizes = batch.content_sizes, batch.original_sizes
            list(segment_images(model, batch.images, *sizes, isthing, predict))
    print("\nwith post-processing")
    clock.row("end to end")


def training_step(model: KMaX, batch: Batch, losses: Losses, flavour: Any) -> None:
    """Forward, losses (matching among them), backward."""
    clock = Clock()
    model.train()
    measure = Criterion(losses, int(model.arguments["num_classes"]), flavour)
    match: Callable[..., Any] = criterion.match

    def timed_match(*arguments: Any, **options: Any) -> Any:
        with clock.of("  matching"):
            return match(*arguments, **options)

    criterion.match = timed_match
    for step in range(REPEATS + 1):
        if step == 1:
            clock.seconds.clear()  # the first step warms up
        with clock.of("training step"):
            with clock.of("forward"):
                output = model(batch.images)
            with clock.of("losses"):
                loss = torch.stack(list(measure(output, batch).values())).sum()
            with clock.of("backward"):
                loss.backward()
        model.zero_grad(set_to_none=True)
    criterion.match = match
    print("\ntraining step, without the optimiser")
    for name in ("forward", "losses", "  matching", "backward", "training step"):
        clock.row(name)


if __name__ == "__main__":
    main()
