"""Time and memory of kMaX-DeepLab by part: forward pass, end to end, and training step.

    python benchmarks/model.py                                        # ResNet-50 on COCO's shapes, 641x641
    python benchmarks/model.py --step --size 385 385 --batch 2        # a training step
    python benchmarks/model.py --compiled --precision bf16 --json speed.json

The floor is the time that the arithmetic would take at the rate of a large matrix product, measured in the
same run and precision. FLOPs count matrix products and convolutions, with two per multiply-add. The network
always uses the channels-last memory format. Weights follow the rule of the recorded passes, or are initial
values. Times are the minimum of several calls, which limits the influence of other work on the machine. "all"
includes the cost of measuring the parts; "whole" does not.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from parts import Meter, Replaced, figures_of, modules_of
from torch import Tensor, nn

from kmax import files
from kmax.config import Losses
from kmax.data.batch import Batch
from kmax.data.dataset_file import load_dataset
from kmax.data.loading.loader import network_input
from kmax.data.shapes.scenes import draw_scene
from kmax.inference import segment_batch
from kmax.inference.benchmark import measure, peak_memory, picture, wait
from kmax.inference.predict_images import DEFAULTS
from kmax.losses import Criterion, criterion
from kmax.machine import describe
from kmax.model.create import create_model
from kmax.model.kmax import KMaX
from kmax.model.output import Output

ROOT = Path(__file__).resolve().parents[1]
LOSSES = Losses(
    class_weight=3.0,
    dice_weight=3.0,
    mask_id_weight=0.3,
    instance_discrimination_weight=1.0,
    semantic_weight=1.0,
    sample_k=4096,
    sample_temperature=1.5,
)
LOSS_PARTS: Replaced = {
    "- matching": (criterion, "match"),
    "- masks and targets": (criterion, "read_masks"),
    "- instance discrimination": (criterion, "instance_discrimination_loss"),
}
# Random weights rarely give confident classes.
PREDICT = DEFAULTS.model_copy(update={"class_threshold_thing": 0.3, "class_threshold_stuff": 0.3})


def main() -> None:
    """Measure, print a table, and write the results as JSON."""
    options = read_options()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[options.precision]
    model = build(options).to(device)
    run = model if not options.compiled else torch.compile(model)

    def network(images: Tensor) -> Output:
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            return run(images)  # type: ignore[no-any-return]

    kind = training_step if options.step else inference
    rate = matmul_rate(device, dtype)
    call, functions = kind(model, network, options, device)
    # A compiled network is measured as a whole.
    modules: dict[str, list[nn.Module]] = {} if options.compiled else modules_of(model)
    with torch.inference_mode(not options.step):
        parts = figures_of(call, modules, functions, device, options.repeats)
        whole = measure(lambda: call(_Nothing()), device)
        memory = peak_memory(lambda: call(_Nothing()), device)
    rate = max(rate, matmul_rate(device, dtype))
    results = {
        "arguments": model.arguments.as_json(),
        "size": options.size,
        "batch": options.batch,
        "precision": options.precision,
        "compiled": options.compiled,
        "what": "training step" if options.step else "inference",
        "machine": describe(device),
        "matmul_flops_per_second": rate,
        "peak_flops_per_second": options.peak_tflops and options.peak_tflops * 1e12,
        "whole": whole,
        "memory": memory,
        "parts": parts,
    }
    print(table(results))
    if options.json:
        files.write_json(options.json, results)


def read_options() -> argparse.Namespace:
    """Parse the command line."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--model", default="kmax_resnet50", help="model name for kmax.create_model")
    parser.add_argument("--flavour", choices=("tf", "torch"), default="torch")
    parser.add_argument("--classes", type=int, default=133)
    parser.add_argument("--clusters", type=int, default=128)
    parser.add_argument("--decoder-stages", type=int, default=4)
    parser.add_argument("--size", type=int, nargs=2, default=[641, 641], metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--batch", type=int, default=1, help="images per batch")
    parser.add_argument("--step", action="store_true", help="measure a training step instead of inference")
    parser.add_argument("--compiled", action="store_true", help="use torch.compile; needs a C++ compiler")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--weights", choices=("rule", "initial"), default="rule")
    parser.add_argument("--threads", type=int, help="CPU threads; default: one per core")
    parser.add_argument("--repeats", type=int, default=5, help="timed calls per part")
    parser.add_argument(
        "--peak-tflops", type=float, help="nominal peak of the device; adds the fraction achieved"
    )
    parser.add_argument("--json", type=Path, help="file to write all results to")
    return parser.parse_args()


def build(options: argparse.Namespace) -> KMaX:
    """The model."""
    arguments: dict[str, Any] = {
        "name": options.model,
        "num_classes": options.classes,
        "image_size": (options.size[0], options.size[1]),
        "flavour": options.flavour,
        "num_clusters": options.clusters,
        "decoder_stages": options.decoder_stages,
    }
    if options.weights == "initial" or options.model == "kmax_tiny":  # the originals have no such model
        return create_model(**arguments)
    sys.path.insert(0, str(ROOT / "tests/parity"))
    from forward_golden import with_weights_of_rule

    return with_weights_of_rule(**arguments)


class _Nothing:
    """A meter that measures nothing."""

    def __init__(self) -> None:
        self.figures: dict[str, float] = {}

    def of(self, name: str) -> torch.autograd.profiler.record_function:
        """A block that is visible only to torch's profiler, if one is active."""
        return torch.autograd.profiler.record_function(name)


Measured = tuple[Callable[[Meter], Any], Replaced]


def inference(model: KMaX, network: Any, options: argparse.Namespace, device: torch.device) -> Measured:
    """From decoded images to panoptic maps."""
    model.eval().requires_grad_(False)  # the FLOP counter follows tensors that require grad
    rgb = picture(model.image_size)
    isthing = torch.arange(options.classes, device=device) < options.classes * 3 // 5
    size = (rgb.shape[0], rgb.shape[1])

    def call(meter: Meter) -> None:
        with meter.of("preparation"):
            image, content = network_input(rgb, model.image_size)
            images = torch.stack([image] * options.batch).to(device)
        with meter.of("forward"):
            output = network(images)
        with meter.of("post-processing"):
            sizes = [content] * options.batch, [size] * options.batch
            list(
                segment_batch.post_process(
                    model, output, images, *sizes, isthing, PREDICT, range(options.batch)
                )
            )

    return call, {}


def training_step(model: KMaX, network: Any, options: argparse.Namespace, device: torch.device) -> Measured:
    """Forward, losses, backward and optimiser."""
    model.train()
    batch = scene_batch(options.batch, model.image_size).to(device)
    losses = Criterion(LOSSES, options.classes, options.flavour)
    # With a learning rate of 0, weights stay finite however often the step is repeated.
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)

    def call(meter: Meter) -> None:
        with meter.of("forward"):
            output = network(batch.images)
        with meter.of("losses"):
            loss = torch.stack(list(losses(output, batch).values())).sum()
        del output
        with meter.of("backward"):
            loss.backward()  # type: ignore[no-untyped-call]
        with meter.of("optimiser"):
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return call, LOSS_PARTS


def scene_batch(size: int, image_size: tuple[int, int]) -> Batch:
    """Generated scenes as a batch."""
    categories = load_dataset("shapes").categories
    assert categories is not None
    class_of = {category.id: index for index, category in enumerate(categories)}
    images, segments, semantic, classes = [], [], [], []
    for index in range(size):
        scene = draw_scene(0, "benchmark", index, image_size, categories)
        kept = [each for each in scene.segments if not each.iscrowd]
        ids = torch.from_numpy(scene.ids.astype("int64"))
        number, of_class = torch.full_like(ids, -1), torch.full_like(ids, -1)
        for place, each in enumerate(kept):
            number[ids == each.id] = place
            of_class[ids == each.id] = class_of[each.category_id]
        images.append(network_input(scene.rgb, image_size)[0])
        segments.append(number)
        semantic.append(of_class)
        classes.append(torch.tensor([class_of[each.category_id] for each in kept]))
    return Batch(
        images=torch.stack(images),
        segments=torch.stack(segments),
        semantic=torch.stack(semantic),
        classes=classes,
        image_ids=list(range(size)),
        content_sizes=[image_size] * size,
        original_sizes=[image_size] * size,
    )


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a large matrix product."""
    side = 8192 if device.type == "cuda" else 2048
    a = torch.rand(side, side, device=device).to(dtype)
    times = []
    for _ in range(6):
        wait(device)
        start = time.perf_counter()
        a @ a
        wait(device)
        times.append(time.perf_counter() - start)
    return 2 * side**3 / min(times)


def table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    rate, nominal = results["matmul_flops_per_second"], results["peak_flops_per_second"]
    heads = ["part", "ms", "fraction", "GFLOP", "times the floor", "peak GB"]
    heads += ["fraction of nominal peak"] if nominal else []
    rows = [heads, ["---", *["---:"] * (len(heads) - 1)]]
    total = results["parts"]["all"]["seconds"]
    for name, part in results["parts"].items():
        seconds, flops = part["seconds"], part["flops"]
        row = [name, f"{1000 * seconds:.1f}", f"{seconds / total:.0%}", f"{flops / 1e9:.2f}"]
        row += [f"{seconds * rate / flops:.2f}" if flops else "", f"{part['peak'] / 1e9:.2f}"]
        rows.append(row + ([f"{flops / seconds / nominal:.0%}"] if nominal else []))
    machine_, whole, height_width = results["machine"], results["whole"], "x".join(map(str, results["size"]))
    mode = "compiled" if results["compiled"] else "eager"
    peak = results["memory"]["peak"]
    lines = [
        f"{results['arguments']['name']} ({results['arguments']['flavour']}), {results['what']}, "
        f"{height_width}, batch {results['batch']}, {results['precision']}, {mode}",
        f"{machine_['name']}, {machine_['threads']} threads, torch {machine_['torch']}: "
        f"{rate / 1e9:.0f} GFLOP/s in a matrix product",
        f"whole: {whole['fastest']:.3f} s fastest, {whole['median']:.3f} s median of {whole['calls']}, "
        f"{whole['fastest'] * rate / results['parts']['all']['flops']:.2f} times the floor"
        + (f"; peak {peak / 1e9:.2f} GB" if peak else ""),
        "",
    ]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


if __name__ == "__main__":
    main()
