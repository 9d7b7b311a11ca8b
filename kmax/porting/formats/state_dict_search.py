"""The state dict inside a pickled checkpoint, among the other things that training programs store.

A state dict is a mapping from names to tensors; its other entries (counters, settings) are left out, with the
reason. A checkpoint may hold several: the weights, and their moving averages (EMA). The rule is: the weights
under a usual key, else a state dict that is the file itself, else the average, else the only one of another
name. Without a rule that decides, the user must choose.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kmax.display import one_line
from kmax.errors import unknown_name
from kmax.porting.formats.pickled_values import (
    BFLOAT16,
    Array,
    Named,
    OddTensor,
    Plain,
    RefusedError,
    Skipped,
    StoredTensor,
)

Value = Array | StoredTensor | OddTensor
MAPPINGS = (dict, Plain)
# Usual keys of weights, and of their moving averages, in the order of preference.
WRAPPERS = ("state_dict", "model", "model_state_dict", "module", "network", "net", "weights", "params")
AVERAGES = (
    *("model_ema", "ema", "state_dict_ema", "ema_state_dict", "model_ema_state_dict", "ema_model"),
    *("module_ema", "params_ema", "averaged_model"),
)
WHOLE_FILE = "."  # name of the state dict that is the file itself
ORDER = (*WRAPPERS, WHOLE_FILE, *AVERAGES)
MAX_DEPTH = 4
MAX_SHOWN = 8  # keys in a message


@dataclass(frozen=True)
class StateDict:
    """A state dict, and what was left out.

    Attributes:
        values: tensors by name.
        ignored: reasons by name, of entries that are not tensors.
        others: names of the other state dicts, with their numbers of tensors.
        name: keys that lead to it, joined by dots.
    """

    values: Mapping[str, Value]
    name: str = WHOLE_FILE
    ignored: Mapping[str, str] = field(default_factory=dict)
    others: Mapping[str, int] = field(default_factory=dict)


def find_state_dict(content: Any, chosen: str | None = None) -> StateDict:
    """The state dict in the content of a checkpoint.

    Args:
        content: as unpickled by `safe_pickle`.
        chosen: name of the state dict to take; None: by the rule.

    Raises:
        RefusedError: there is none, or none is chosen and no rule decides.
        InputError: `chosen` is not among them.
    """
    found = _candidates(content)
    if not found:
        raise RefusedError(f"no state dict inside: {_contents(content)}")
    names = {one_line(".".join(keys)) or WHOLE_FILE: keys for keys in found}
    if chosen is not None and chosen not in names:
        raise unknown_name("state dict", chosen, names, "--state-dict")
    name = _by_rule(names) if chosen is None else chosen
    mapping = found[names[name]]
    values = {key: value for key, value in mapping.items() if isinstance(key, str) and _is_tensor(value)}
    counts = {other: _count_tensors(found[keys]) for other, keys in names.items() if other != name}
    others = {keys[0] for keys in found if keys} if name == WHOLE_FILE else set()
    ignored = {
        one_line(str(key)): f"not a weight: {_kind(value)}"
        for key, value in mapping.items()
        if key not in values and key not in others
    }
    return StateDict(values, name, ignored, counts)


def _candidates(content: Any) -> dict[tuple[str, ...], Mapping[Any, Any]]:
    """All state dicts, by the keys that lead to them; states of optimisers are none."""
    found: dict[tuple[str, ...], Mapping[Any, Any]] = {}
    level: dict[tuple[str, ...], Any] = {(): content}
    holds_weights: dict[int, bool] = {}  # by identity: a pickle may refer to one mapping many times
    for _ in range(MAX_DEPTH + 1):
        following: dict[tuple[str, ...], Any] = {}
        for keys, one in level.items():
            if type(one) not in MAPPINGS or _is_optimizer(one):
                continue
            if id(one) not in holds_weights:
                texts = {key: value for key, value in one.items() if isinstance(key, str)}
                holds_weights[id(one)] = any(map(_is_weight, texts.values()))
                following |= {(*keys, key): value for key, value in texts.items()}
            if holds_weights[id(one)]:
                found[keys] = one
        level = following
    return found


def _by_rule(names: Mapping[str, tuple[str, ...]]) -> str:
    """The name of the state dict to read.

    Raises:
        RefusedError: no rule decides.
    """
    ranks = sorted((tuple(map(_rank, keys or (WHOLE_FILE,))), name) for name, keys in names.items())
    if len(ranks) > 1 and (ranks[0][0] == ranks[1][0] or ranks[0][0][0] == len(ORDER)):
        raise RefusedError(f"several state dicts inside: {listed(names)}; choose one with --state-dict")
    return ranks[0][1]


def _rank(key: str) -> int:
    return ORDER.index(key) if key in ORDER else len(ORDER)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, StoredTensor | OddTensor) or (
        isinstance(value, Array) and value.value is not None
    )


def _is_weight(value: Any) -> bool:
    """Whether a value is a tensor that may be a weight: of fractions, and not a single number."""
    if isinstance(value, StoredTensor):
        return value.shape != () and (value.storage.dtype == BFLOAT16 or value.storage.dtype[0] in "fc")
    if isinstance(value, Array) and value.value is not None:
        return value.value.shape != () and value.value.dtype.kind in "fc"
    return isinstance(value, OddTensor)


def _is_optimizer(content: Mapping[Any, Any]) -> bool:
    return "param_groups" in content and "state" in content


def _count_tensors(content: Mapping[Any, Any]) -> int:
    return sum(map(_is_tensor, content.values()))


def _contents(content: Any) -> str:
    """What a file without a state dict holds."""
    if type(content) not in MAPPINGS:
        return f"expected a mapping from names to tensors, found {_kind(content)}"
    if _is_optimizer(content):
        return "this is the state of an optimiser, without weights"
    if not content:
        return "the file holds an empty mapping"
    parts = [f"{one_line(repr(key))} ({_kind(value)})" for key, value in content.items()]
    return f"expected a mapping from names to tensors, found the keys {listed(parts)}"


def listed(parts: Iterable[str]) -> str:
    """The first parts of a message, and the number of the others."""
    parts = list(parts)
    more = f" and {len(parts) - MAX_SHOWN} more" if len(parts) > MAX_SHOWN else ""
    return ", ".join(parts[:MAX_SHOWN]) + more


def _kind(value: Any) -> str:
    """The type of a value, for messages."""
    if _is_tensor(value):
        return "a tensor"
    if isinstance(value, Skipped):
        return "settings"
    if isinstance(value, Named):
        return value.full_name
    if type(value) in MAPPINGS:
        return "the state of an optimiser" if _is_optimizer(value) else f"a mapping of {len(value)} entries"
    return type(value).__name__
