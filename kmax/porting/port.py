"""`kmax port` and `kmax port-file`: a checkpoint becomes a model of this project."""

from __future__ import annotations

import contextlib
import gc
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from kmax import files, paths
from kmax.checkpoint_formats import CheckpointFormat
from kmax.config import Category, Preprocessing, Run
from kmax.data.dataset_file import load_dataset
from kmax.data.datasets import open_prepared
from kmax.errors import InputError
from kmax.machine import kmax_version
from kmax.model.construction import shapes_only
from kmax.model.io import KEY, ModelMetadata, metadata_text, parse_metadata, read_metadata
from kmax.model.kmax import KMaX
from kmax.outputs import json_object, require_outputs
from kmax.parameter_files import parse
from kmax.porting.account import Account, account_for
from kmax.porting.convert import UNKNOWN, check_values, hashing, write_model
from kmax.porting.formats import Checkpoint, open_checkpoint
from kmax.porting.naming import Naming, recognise, skip_reasons, wanted_entries
from kmax.porting.weight_files import left_out, weights_entry
from kmax.runs.families import load_run, location
from kmax.runs.identity import identify
from kmax.runs.source_commit import commit, warn_if_unknown
from kmax.runs.weight_digests import expected_sha256, source_of

Check = Callable[[Path], None]


@contextlib.contextmanager
def _no_garbage() -> Iterator[None]:
    """Disable the garbage collector: searching all imported modules takes a fifth of a second."""
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

    The model keeps the run's thresholds and preprocessing, for `kmax predict-images`.

    Args:
        run: with a `port` section.
        check: see `port_file`.

    Raises:
        InputError: the run trains, the weights are not fetched, or a tensor does not fit.
    """
    if run.port is None:
        raise InputError(f"{location(run.run)}: the run has no 'port' section; run: kmax train {run.run}")
    path = paths.weights(run.port.weights)
    if not path.is_file():
        raise InputError(f"{path}: not found; run: kmax weights fetch {run.port.weights}")
    entry = weights_entry(run.port.weights)
    checkpoint = open_checkpoint(path, "safetensors")
    sha256 = checkpoint.metadata.get("sha256", "")
    if sha256 != expected_sha256(run.port.weights, entry):
        raise InputError(
            f"{path}: not the file named in {paths.WEIGHTS_FILE}; run: kmax weights fetch {run.port.weights}"
        )
    naming = recognise(checkpoint, str(path))
    if naming.source not in (None, run.port.source):
        raise InputError(
            f"{location(run.run)}.port.source is '{run.port.source}', but {path} looks like weights "
            f"of {naming.program}; set source: {naming.source}"
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
        source=source_of(entry),
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


def require_model_name(out: Path, inputs: Iterable[Path], overwrite: bool) -> None:
    """Check the name of a model that `port_file` will write, and that of its report.

    Args:
        inputs: files that must be kept.
        overwrite: also replace files that `port_file` did not write.

    Raises:
        InputError: they cannot be written, or would replace an input or a file of the user.
    """
    require_outputs({out: _is_ported_file, report_of(out): _is_report}, inputs, overwrite)


def report_of(model: Path) -> Path:
    """The account of a model's tensors, beside the model."""
    return model.with_suffix(".port.json")


def _is_ported_file(path: Path) -> bool:
    """Whether `port_file` wrote this model; those of runs are results of their own."""
    try:
        extra = read_metadata(path).extra
    except InputError:
        return False
    return "original" in extra and "run" not in extra


def _is_report(path: Path) -> bool:
    found = json_object(path)
    provenance = found.get("provenance")
    return found.keys() >= {"model", "counts", "tensors"} and isinstance(provenance, dict)


@_no_garbage()
def port_file(
    source: CheckpointFormat,
    checkpoint: Path,
    out: Path,
    model: str,
    *,
    dataset: str,
    image_size: Sequence[int],
    flavour: str | None = None,
    state_dict: str | None = None,
    thresholds_of: str | None = None,
    check: Check | None = None,
    overwrite: bool = False,
    **arguments: Any,
) -> Path:
    """Port one file; the account of its tensors is written beside `out` as `<stem>.port.json`.

    Args:
        source: the checkpoint's format.
        checkpoint: the file (for TensorFlow the common prefix of its files, or their folder).
        out: safetensors file to write.
        model: architecture, as for `kmax.create_model`.
        dataset: whose categories the weights predict.
        image_size: (height, width) of the network input.
        flavour: which original is computed; None: that of the weights.
        state_dict: name of one of several state dicts in a file of the format "torch".
        thresholds_of: a run whose thresholds and preprocessing the file keeps, for `kmax predict-images`;
            None: no thresholds, and the preprocessing of the original that the weights come from.
        check: called with the finished model under a temporary name; if it raises, `out` is not written.
        overwrite: also replace files that this function did not write.
        arguments: further arguments of `kmax.create_model`.

    Raises:
        InputError: unreadable, of another original than `flavour`, or a tensor does not fit; or `out` cannot
            be written, or would replace the checkpoint or a file of the user.
    """
    warn_if_unknown()
    opened = open_checkpoint(checkpoint, source, state_dict)
    require_model_name(out, opened.files(), overwrite)
    naming = recognise(opened, str(checkpoint))
    own = _model_metadata(opened) if naming.flavour is None else None
    stated = None if own is None else str(own.arguments.flavour)
    arguments["flavour"] = flavour or naming.flavour or stated
    if arguments["flavour"] is None:
        raise InputError(
            f"{checkpoint}: the original implementation cannot be determined from the file; "
            "pass --flavour tf or torch"
        )
    if stated not in (None, arguments["flavour"]):
        raise InputError(f"{checkpoint}: states flavour '{stated}', but flavour is '{arguments['flavour']}'")
    extra = {"data": _preprocessing(opened, naming, own).model_dump()}
    if thresholds_of is not None:
        run = load_run(thresholds_of)
        extra = {"predict": run.predict.model_dump(), "data": run.data.preprocessing_alone().model_dump()}
    return _port(
        opened,
        naming,
        out,
        report_of(out),
        name=model,
        image_size=(image_size[0], image_size[1]),
        dataset=dataset,
        arguments=arguments,
        source=str(checkpoint),
        extra=extra,
        check=check,
    )


def dataset_categories(name: str) -> list[Category]:
    """A dataset's classes: from its file, or as prepared if they are read from its JSON."""
    categories = load_dataset(name).categories
    return open_prepared(name).categories if categories is None else list(categories)


def _model_metadata(checkpoint: Checkpoint) -> ModelMetadata | None:
    """The metadata of a model file of this project; None: it is another file."""
    return parse_metadata(checkpoint.metadata, checkpoint.path) if KEY in checkpoint.metadata else None


def _preprocessing(checkpoint: Checkpoint, naming: Naming, own: ModelMetadata | None) -> Preprocessing:
    """The preprocessing of the training images, as far as it is known."""
    if naming.flavour is not None:
        return Preprocessing(preprocessing=naming.flavour)
    if own is not None:
        return parse(Preprocessing, own.extra.get("data", {}), checkpoint.path)
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
    """Write the model, and the account of its tensors; `extra` is only written into the model's metadata."""
    where = str(checkpoint.path)
    if naming.flavour not in (None, arguments["flavour"]):
        raise InputError(
            f"{where}: looks like weights of {naming.program} (flavour '{naming.flavour}'), "
            f"but flavour is '{arguments['flavour']}': loading them would give wrong results"
        )
    categories = dataset_categories(dataset)
    model = shapes_only(name, num_classes=len(categories), image_size=image_size, **arguments)
    things = [place for place, category in enumerate(categories) if category.isthing]
    entries = wanted_entries(naming, model, things)
    for note in checkpoint.notes:
        print(f"warning: {note}", file=sys.stderr)
    skipped = {**checkpoint.ignored, **left_out(checkpoint)}
    account = account_for(checkpoint, entries, skip_reasons(naming, checkpoint), skipped)
    advice = _advice(account, model, dataset, checkpoint.path)
    if account.faults:
        check_values(checkpoint, account)
        account.require_complete(where, advice)
    provenance = {"source": source, "flavour": str(arguments["flavour"]), "commit": commit() or ""}
    provenance |= {"kmax": kmax_version(), "original": naming.program}

    def metadata(digest: str) -> str:
        return metadata_text(model, out, categories, {**provenance, "sha256": digest, **extra})

    with files.atomic_path(out) as temporary, hashing(checkpoint.digested(), sha256) as digest:

        def finish() -> str:
            account.require_complete(where, advice)
            return metadata(digest())

        write_model(temporary, model, entries, checkpoint, account, metadata(UNKNOWN), finish)
        if check is not None:
            check(temporary)
        # The report is written first: a model without its account must not exist.
        known = {**provenance, "sha256": digest()}
        content = account.to_json(checkpoint.variables())
        files.write_json(report, {"model": name, "provenance": known, **content})
    return out


def _advice(account: Account, model: KMaX, dataset: str, where: Path) -> list[str]:
    """Why the weights may not fit: a part of them, or other numbers of classes or clusters."""
    classes, clusters = model.arguments.num_classes, model.arguments.num_clusters
    advice = []
    if re.search(r"-\d{5}-of-\d{5}", where.name) and "missing" in account.counts():
        advice.append(f"{where}: is one of several files of a checkpoint; give their index (*.index.json)")
    if (found := _size_instead(account, ".class_head.", classes + 1)) is not None:
        advice.append(f"the weights predict {found - 1} classes, but dataset '{dataset}' has {classes}")
    if (found := _size_instead(account, ".cluster_centers", clusters)) is not None:
        advice.append(
            f"the weights have {found} clusters, but the model has {clusters}; the originals use 128, "
            "and for Cityscapes 256 with 5 decoder stages"
        )
    return advice


def _size_instead(account: Account, part: str, expected: int) -> int | None:
    """The checkpoint's size in place of the size `expected` of that part of the model, if they differ."""
    for line in account.lines.values():
        has, needs = line.shape or [], line.expected or []
        if line.status == "wrong shape" and len(has) == len(needs) and any(part in to for to in line.targets):
            found = {size for size, other in zip(has, needs, strict=True) if other == expected != size}
            if len(found) == 1:
                return found.pop()
    return None
