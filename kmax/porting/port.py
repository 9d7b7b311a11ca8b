"""`kmax port` and `kmax port-file`: a checkpoint becomes a model of this project."""

from __future__ import annotations

import contextlib
import gc
import importlib.metadata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from kmax import files, paths
from kmax.config import Category, Preprocessing, Run
from kmax.data.datasets import load_dataset, open_prepared
from kmax.errors import InputError
from kmax.model.build import shapes_only
from kmax.model.io import KEY, metadata_text
from kmax.model.io import read_metadata as read_model_metadata
from kmax.model.kmax import KMaX
from kmax.parameter_files import parse
from kmax.porting.account import Account, account_for
from kmax.porting.convert import check_values, write_model
from kmax.porting.digest import UNKNOWN, hashing
from kmax.porting.naming import Naming, recognise, skip_reasons, wanted_entries
from kmax.porting.source_checkpoint import Checkpoint, Kind, open_checkpoint, read_metadata
from kmax.porting.weight_files import LEFT_OUT, left_out, weights_entry
from kmax.runs.identity import commit, identify
from kmax.runs.run_files import load_run
from kmax.runs.weight_digests import expected_sha256

Check = Callable[[Path], None]


@contextlib.contextmanager
def _no_garbage() -> Iterator[None]:
    """No search for garbage meanwhile: among all that was imported it takes a fifth of a second."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@_no_garbage()
def port_run(run: Run, check: Check | None = None) -> Path:
    """Port stage: fetched weights into `results/<run>/model.safetensors`, with `port.json` beside it.

    The model keeps the run's thresholds and preprocessing, for pictures of one's own.

    Args:
        run: with a `port` section.
        check: see `port_file`.

    Raises:
        InputError: the run trains, the weights are not fetched, or a tensor does not fit.
    """
    if run.port is None:
        raise InputError(
            f"{paths.run_file(run.run)}: no 'port' section: `kmax train {run.run}` makes its model"
        )
    path = paths.weights(run.port.weights)
    if not path.is_file():
        raise InputError(f"{path}: not there; run `kmax weights fetch {run.port.weights}` first")
    entry = weights_entry(run.port.weights)
    sha256 = read_metadata(path).get("sha256", "")
    if sha256 != expected_sha256(run.port.weights, entry):
        raise InputError(
            f"{path}: not what {paths.WEIGHTS_FILE} names now; run `kmax weights fetch {run.port.weights}`"
        )
    checkpoint = open_checkpoint(path, "safetensors")
    naming = recognise(checkpoint, str(path))
    if naming.source not in (None, run.port.source):
        raise InputError(
            f"{paths.run_file(run.run)}: port.source is '{run.port.source}', but {path} looks like weights "
            f"of {naming.words}: write source: {naming.source}"
        )
    return _port(
        checkpoint,
        naming,
        paths.model(run.run),
        paths.port_report(run.run),
        name=run.model.name,
        image_size=(run.data.image_size[0], run.data.image_size[1]),
        dataset=run.data.dataset,
        arguments=run.model.model_dump(exclude={"name"}),
        source=str(entry.url or entry.path),
        sha256=sha256,
        extra={
            "predict": run.predict.model_dump(),
            "data": run.data.preprocessing_alone().model_dump(),
            "run": run.run,
            "digest": identify(run).digest,
            "weights_digest": sha256,
        },
        check=check,
    )


@_no_garbage()
def port_file(
    source: Kind,
    checkpoint: Path,
    out: Path,
    model: str,
    *,
    dataset: str,
    image_size: Sequence[int],
    flavour: str | None = None,
    thresholds_of: str | None = None,
    check: Check | None = None,
    **arguments: Any,
) -> Path:
    """Port one file; the account of its tensors is written beside `out` as `<stem>.port.json`.

    Args:
        source: what wrote the checkpoint.
        checkpoint: the file (for TensorFlow what its files begin with, or their folder).
        out: safetensors file to write.
        model: architecture, as for `kmax.create_model`.
        dataset: whose categories the weights predict.
        image_size: (height, width) of the network input.
        flavour: which original is computed; None: the one that the weights say they come from.
        thresholds_of: a run whose thresholds and preprocessing the file keeps, for pictures of one's own;
            None: no thresholds, and the preprocessing of the original that the weights come from.
        check: called with the finished model before it is at `out`, under another name; what it raises keeps
            it from there.
        arguments: further arguments of `kmax.create_model`.

    Raises:
        InputError: unreadable, of another original than `flavour`, or a tensor does not fit.
    """
    opened = open_checkpoint(checkpoint, source)
    naming = recognise(opened, str(checkpoint))
    own = _own_flavour(opened, checkpoint) if naming.flavour is None else None
    arguments["flavour"] = flavour or naming.flavour or own
    if arguments["flavour"] is None:
        raise InputError(
            f"{checkpoint}: does not tell which original its network computes; say --flavour tf or torch"
        )
    if own not in (None, arguments["flavour"]):
        raise InputError(
            f"{checkpoint}: says that it is of flavour '{own}', but flavour is '{arguments['flavour']}'"
        )
    extra = {"data": _preprocessing(opened, naming).model_dump()}
    if thresholds_of is not None:
        run = load_run(thresholds_of)
        extra = {"predict": run.predict.model_dump(), "data": run.data.preprocessing_alone().model_dump()}
    return _port(
        opened,
        naming,
        out,
        out.with_suffix(".port.json"),
        name=model,
        image_size=(image_size[0], image_size[1]),
        dataset=dataset,
        arguments=arguments,
        source=str(checkpoint),
        extra=extra,
        check=check,
    )


def dataset_categories(name: str) -> list[Category]:
    """A dataset's classes: from its file, or as prepared where the file leaves them to the JSON."""
    categories = load_dataset(name).categories
    return open_prepared(name).categories if categories is None else list(categories)


def _own_flavour(checkpoint: Checkpoint, path: Path) -> str | None:
    """The flavour that a file of this project names."""
    if checkpoint.files() != [path] or path.suffix != ".safetensors" or KEY not in read_metadata(path):
        return None
    return str(read_model_metadata(path).arguments.flavour)


def _preprocessing(checkpoint: Checkpoint, naming: Naming) -> Preprocessing:
    """How the images were prepared that the weights learned from, as far as the checkpoint tells."""
    if naming.flavour is not None:
        return Preprocessing(preprocessing=naming.flavour)
    if KEY in _metadata(checkpoint):
        told = read_model_metadata(checkpoint.path).extra.get("data", {})
        return parse(Preprocessing, told, checkpoint.path)
    return Preprocessing()


def _port(
    checkpoint: Checkpoint,
    naming: Naming,
    out: Path,
    report: Path,
    *,
    name: str,
    image_size: tuple[int, int],
    dataset: str,
    arguments: dict[str, Any],
    source: str,
    extra: dict[str, Any],
    sha256: str | None = None,
    check: Check | None = None,
) -> Path:
    """Write the model, and the account of its tensors; `extra` goes into the model's metadata alone."""
    where = str(checkpoint.path)
    if naming.flavour not in (None, arguments["flavour"]):
        raise InputError(
            f"{where}: looks like weights of {naming.words}, which flavour '{naming.flavour}' computes, but "
            f"flavour is '{arguments['flavour']}': they would load, and give wrong results"
        )
    categories = dataset_categories(dataset)
    model = shapes_only(name, num_classes=len(categories), image_size=image_size, **arguments)
    things = [place for place, category in enumerate(categories) if category.isthing]
    entries = wanted_entries(naming, model, things)
    reasons = left_out(checkpoint.path) if LEFT_OUT in _metadata(checkpoint) else {}
    account = account_for(checkpoint, entries, skip_reasons(naming, checkpoint), reasons)
    advice = _advice(account, model, dataset)
    if account.faults:
        check_values(checkpoint, account)
        account.require_complete(where, advice)
    provenance = {"source": source, "flavour": str(arguments["flavour"]), "commit": commit() or ""}
    provenance |= {"kmax": importlib.metadata.version("kmax"), "original": naming.words}

    def metadata(digest: str) -> str:
        return metadata_text(model, out, categories, {**provenance, "sha256": digest, **extra})

    with files.atomic_path(out) as temporary, hashing(checkpoint.digested(), sha256) as digest:

        def finish() -> str:
            account.require_complete(where, advice)
            return metadata(digest())

        write_model(temporary, model, entries, checkpoint, account, metadata(UNKNOWN), finish)
        if check is not None:
            check(temporary)
        # The report goes first: a model without its account must not exist.
        known = {**provenance, "sha256": digest()}
        content = account.to_json(checkpoint.variables())
        files.write_json(report, {"model": name, "provenance": known, **content})
    return out


def _metadata(checkpoint: Checkpoint) -> dict[str, str]:
    return read_metadata(checkpoint.path) if checkpoint.path.suffix == ".safetensors" else {}


def _advice(account: Account, model: KMaX, dataset: str) -> list[str]:
    """Where shapes tell that the weights are of other classes or clusters than the model: of how many."""
    classes, clusters = model.arguments.num_classes, model.arguments.num_clusters
    advice = []
    if (found := _size_instead(account, ".class_head.", classes + 1)) is not None:
        advice.append(f"the weights predict {found - 1} classes, but dataset '{dataset}' has {classes}")
    if (found := _size_instead(account, ".cluster_centers", clusters)) is not None:
        advice.append(
            f"the weights have {found} clusters, but the model {clusters}; the originals have 128, "
            "and on Cityscapes 256 and 5 decoder stages"
        )
    return advice


def _size_instead(account: Account, part: str, wanted: int) -> int | None:
    """The size that the checkpoint has where that part of the model has `wanted`, if the two differ."""
    for line in account.lines.values():
        has, wants = line.shape or [], line.wanted or []
        if line.fate == "wrong shape" and len(has) == len(wants) and any(part in to for to in line.targets):
            found = {size for size, other in zip(has, wants, strict=True) if other == wanted != size}
            if len(found) == 1:
                return found.pop()
    return None
