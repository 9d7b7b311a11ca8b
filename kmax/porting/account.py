"""What becomes of every tensor of a checkpoint when it is put into a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from kmax.errors import InputError
from kmax.porting.entries import Entry
from kmax.porting.naming import SLOT
from kmax.porting.source_checkpoint import Checkpoint

Fate = Literal["mapped", "skipped", "missing", "unexpected", "wrong shape", "wrong type", "not finite"]
FLOATS = {"float16", "bfloat16", "float32", "float64"}


@dataclass
class Line:
    """One tensor of the checkpoint, or one that it lacks.

    Attributes:
        name: in the checkpoint.
        fate: what becomes of it.
        targets: names in the model.
        shape: in the checkpoint; None where it is missing.
        wanted: shape that the model asks the checkpoint for; None where it asks for none.
        dtype: in the checkpoint.
        reason: why it is skipped.
        crc32c: of its values (bfloat16 as float32), once it was read.
    """

    name: str
    fate: Fate
    targets: list[str] = field(default_factory=list)
    shape: list[int] | None = None
    wanted: list[int] | None = None
    dtype: str | None = None
    reason: str | None = None
    crc32c: str | None = None

    def fault(self) -> str:
        """The line in words."""
        match self.fate:
            case "missing":
                return f"{self.name}: missing in the checkpoint; the model wants shape {self.wanted}"
            case "unexpected" if SLOT in self.name:
                return f"{self.name}: state of an optimiser, but its weight is missing in the checkpoint"
            case "unexpected":
                return f"{self.name}: shape {self.shape}, not a tensor of the model"
            case "wrong shape":
                return f"{self.name}: shape {self.shape}, but the model wants {self.wanted}"
            case "wrong type":
                return f"{self.name}: of type {self.dtype}, which does not fit the model's"
            case "not finite":
                return f"{self.name}: contains NaN, infinite values, or numbers too large for float32"
            case _:
                return f"{self.name}: {self.fate}"


@dataclass(frozen=True)
class Account:
    """Every tensor of a checkpoint and of the model it goes to."""

    lines: Mapping[str, Line]

    @property
    def faults(self) -> list[str]:
        """One line for each tensor that is neither mapped nor skipped."""
        return [line.fault() for line in self.lines.values() if line.fate not in ("mapped", "skipped")]

    def counts(self) -> dict[str, int]:
        """How many tensors had which fate."""
        return dict(sorted(Counter(line.fate for line in self.lines.values()).items()))

    def to_json(self, variables: Mapping[str, str]) -> dict[str, Any]:
        """For port.json; `variables`: what the writing program called a tensor's variable."""
        lines = []
        for line in self.lines.values():
            found = {key: value for key, value in vars(line).items() if value is not None}
            lines.append(found | ({"variable": variables[line.name]} if line.name in variables else {}))
        return {"counts": self.counts(), "tensors": lines}

    def require_complete(self, where: str, advice: Iterable[str] = ()) -> None:
        """Raise unless every tensor of both sides is mapped or skipped.

        Args:
            where: the checkpoint.
            advice: what may be the cause, told before the tensors.

        Raises:
            InputError: one line per tensor that is not, after a line of counts.
        """
        if faults := self.faults:
            counts = ", ".join(f"{count} {fate}" for fate, count in self.counts().items())
            raise InputError([f"{where}: does not fit the model: {counts}", *advice, *faults])


def account_for(
    checkpoint: Checkpoint,
    entries: Iterable[Entry],
    reason: Callable[[str], str | None],
    left_out: Mapping[str, str],
) -> Account:
    """Compare a checkpoint with what a model asks for, by names, shapes and types alone.

    Args:
        checkpoint: its tensors are not read.
        entries: what the model asks for.
        reason: why a tensor that nobody asks for is left out; None: it must not be there.
        left_out: tensors that were left out before, with reasons.
    """
    lines: dict[str, Line] = {}
    for entry in entries:
        for name, wanted in zip(entry.sources, entry.source_shapes, strict=True):
            if name in lines:
                lines[name].targets.append(entry.target)
            elif name in checkpoint:
                shape, dtype = checkpoint.describe(name)
                fate: Fate = "wrong shape" if shape != wanted else "mapped"
                if fate == "mapped" and dtype not in FLOATS:
                    fate = "wrong type"
                lines[name] = Line(name, fate, [entry.target], list(shape), list(wanted), dtype)
            else:
                lines[name] = Line(name, "missing", [entry.target], None, list(wanted))
    for name in checkpoint:
        if name not in lines:
            shape, dtype = checkpoint.describe(name)
            why = reason(name)
            lines[name] = Line(
                name, "skipped" if why else "unexpected", shape=list(shape), dtype=dtype, reason=why
            )
    for name, why in left_out.items():
        lines.setdefault(name, Line(name, "skipped", reason=why))
    return Account({name: lines[name] for name in sorted(lines)})
