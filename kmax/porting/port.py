"""`kmax port` and `kmax port-file`: a checkpoint becomes a model of this project.

The checkpoint's tensors carry this project's names. Names of the two originals come with their converters.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from kmax import files, paths
from kmax.config import Category, Run
from kmax.data.datasets import load_dataset, open_prepared
from kmax.errors import InputError
from kmax.model.create import create_model
from kmax.model.io import save_model
from kmax.porting.account import Account, account_for
from kmax.porting.checkpoint import TENSORFLOW_LINE, Format, read_metadata, read_tensors
from kmax.porting.weights import weights_entry
from kmax.tracking.identity import commit


def port_run(run: Run) -> Path:
    """Port stage: fetched weights into `results/<run>/model.safetensors`, with `port.json` beside it.

    The model keeps the run's thresholds, for pictures of one's own.

    Raises:
        InputError: the run trains, the weights are not fetched, or a tensor does not fit.
    """
    if run.port is None:
        raise InputError(
            f"{paths.run_file(run.run)}: no 'port' section: `kmax train {run.run}` makes its model"
        )
    if run.port.source == "tf":
        raise InputError(f"{paths.run_file(run.run)}: port.source: {TENSORFLOW_LINE}")
    checkpoint = paths.weights(run.port.weights)
    if not checkpoint.is_file():
        raise InputError(f"{checkpoint}: not there; run `kmax weights fetch {run.port.weights}` first")
    entry = weights_entry(run.port.weights)
    if read_metadata(checkpoint).get("sha256") != entry.sha256:
        raise InputError(
            f"{checkpoint}: not what {paths.WEIGHTS_FILE} names now;"
            f" run `kmax weights fetch {run.port.weights}`"
        )
    arguments = run.model.model_dump(exclude={"name"})
    return _port(
        checkpoint,
        "safetensors",
        paths.model(run.run),
        paths.port_report(run.run),
        name=run.model.name,
        image_size=(run.data.image_size[0], run.data.image_size[1]),
        categories=dataset_categories(run.data.dataset),
        arguments=arguments,
        source=str(entry.url or entry.path),
        sha256=entry.sha256,
        predict=run.predict.model_dump(),
    )


def port_file(
    source: Literal["torch", "safetensors", "tf"],
    checkpoint: Path,
    out: Path,
    model: str,
    *,
    dataset: str,
    image_size: Sequence[int],
    **arguments: Any,
) -> Path:
    """Port one file; the account of its tensors is written beside `out` as `<stem>.port.json`.

    Args:
        source: what wrote the checkpoint.
        checkpoint: the file (for TensorFlow, the prefix).
        out: safetensors file to write.
        model: architecture, as for `kmax.create_model`.
        dataset: whose categories the weights predict.
        image_size: (height, width) of the network input.
        arguments: further arguments of `kmax.create_model`.

    Raises:
        InputError: TensorFlow, unreadable, or a tensor does not fit.
    """
    if source == "tf":
        raise InputError(f"{checkpoint}: {TENSORFLOW_LINE}")
    return _port(
        checkpoint,
        source,
        out,
        out.with_suffix(".port.json"),
        name=model,
        image_size=(image_size[0], image_size[1]),
        categories=dataset_categories(dataset),
        arguments=arguments,
        source=str(checkpoint),
        sha256=files.sha256(checkpoint) if checkpoint.is_file() else "",
    )


def dataset_categories(name: str) -> list[Category]:
    """A dataset's classes: from its file, or as prepared where the file leaves them to the JSON."""
    categories = load_dataset(name).categories
    return open_prepared(name).categories if categories is None else list(categories)


def _port(
    checkpoint: Path,
    form: Format,
    out: Path,
    report: Path,
    *,
    name: str,
    image_size: tuple[int, int],
    categories: list[Category],
    arguments: dict[str, Any],
    source: str,
    sha256: str,
    predict: dict[str, Any] | None = None,
) -> Path:
    tensors = read_tensors(checkpoint, form)
    model = create_model(name, num_classes=len(categories), image_size=image_size, **arguments)
    account = account_for(tensors, model)
    account.require_complete(str(checkpoint))
    model.load_state_dict(tensors)
    provenance = {"source": source, "sha256": sha256, "flavour": str(arguments.get("flavour", "tf"))}
    provenance |= {"commit": commit() or "", "kmax": importlib.metadata.version("kmax")}
    # The report goes first: a model without its account must not exist.
    files.write_json(report, _report(account, name, provenance))
    extra: dict[str, Any] = {} if predict is None else {"predict": predict}
    save_model(model, out, categories, **provenance, **extra)
    return out


def _report(account: Account, model: str, provenance: dict[str, str]) -> dict[str, Any]:
    return {"model": model, "provenance": provenance, **account.to_json()}
