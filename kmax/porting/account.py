"""The status of every tensor of a checkpoint that is ported into a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from kmax.errors import InputError
from kmax.porting.formats import Checkpoint
from kmax.porting.tensor_mapping import TensorMapping
from kmax.porting.tensorflow_names import SLOT

Status = Literal["mapped", "skipped", "missing", "unexpected", "wrong shape", "wrong type", "not finite"]
FLOATS = {"float16", "bfloat16", "float32", "float64"}


@dataclass
class TensorStatus:
    """One tensor of the checkpoint, or one that is missing from it.

    Attributes:
        name: in the checkpoint.
        status: whether and how it is used.
        targets: names in the model.
        shape: in the checkpoint; None: missing.
        expected: shape that the model needs; None: the model does not need it.
        dtype: in the checkpoint.
        reason: why it is skipped.
        crc32c: of its values (bfloat16 as float32), once they were read.
    """

    name: str
    status: Status
    targets: list[str] = field(default_factory=list)
    shape: list[int] | None = None
    expected: list[int] | None = None
    dtype: str | None = None
    reason: str | None = None
    crc32c: str | None = None

    def fault(self) -> str:
        """The line as a message."""
        match self.status:
            case "missing":
                return f"{self.name}: missing in the checkpoint; the model needs shape {self.expected}"
            case "unexpected" if SLOT in self.name:
                return f"{self.name}: optimiser state whose weight is missing in the checkpoint"
            case "unexpected":
                return f"{self.name}: unexpected tensor of shape {self.shape}"
            case "wrong shape":
                return f"{self.name}: shape {self.shape}, but the model needs {self.expected}"
            case "wrong type":
                return f"{self.name}: type {self.dtype}, but the model needs floating-point numbers"
            case "not finite":
                return f"{self.name}: contains NaN, infinite values, or numbers too large for float32"
            case _:
                return f"{self.name}: {self.status}"


@dataclass(frozen=True)
class Account:
    """Every tensor of a checkpoint and of the model that it is ported into."""

    lines: Mapping[str, TensorStatus]

    @property
    def faults(self) -> list[str]:
        """One line for each tensor that is neither mapped nor skipped."""
        return list(self.faults_by_name().values())

    def faults_by_name(self) -> dict[str, str]:
        """The same by the tensors' names."""
        lines = self.lines.values()
        return {line.name: line.fault() for line in lines if line.status not in ("mapped", "skipped")}

    def counts(self) -> dict[str, int]:
        """Number of tensors by status."""
        return dict(sorted(Counter(line.status for line in self.lines.values()).items()))

    def to_json(self, variables: Mapping[str, str]) -> dict[str, Any]:
        """For port.json; `variables`: names of the writing program's variables, by tensor."""
        lines = []
        for line in self.lines.values():
            found = {key: value for key, value in vars(line).items() if value is not None}
            lines.append(found | ({"variable": variables[line.name]} if line.name in variables else {}))
        return {"counts": self.counts(), "tensors": lines}

    def require_complete(self, where: str, advice: Iterable[str] = ()) -> None:
        """Raise unless every tensor of both sides is mapped or skipped.

        Args:
            where: the checkpoint.
            advice: possible causes, reported before the tensors.

        Raises:
            InputError: one line per tensor that is not, after a line of counts.
        """
        if faults := self.faults:
            counts = ", ".join(f"{count} {status}" for status, count in self.counts().items())
            raise InputError([f"{where}: does not fit the model: {counts}", *advice, *faults])


def account_for(
    checkpoint: Checkpoint,
    entries: Iterable[TensorMapping],
    reason: Callable[[str], str | None],
    left_out: Mapping[str, str],
) -> Account:
    """Compare a checkpoint with the tensors that a model needs, by names, shapes and types only.

    Args:
        checkpoint: its tensors are not read.
        entries: the tensors that the model needs.
        reason: why a tensor that the model does not need is skipped; None: it is unexpected.
        left_out: tensors that were skipped when the weights were fetched, with reasons.
    """
    lines: dict[str, TensorStatus] = {}
    for entry in entries:
        for name, expected in zip(entry.sources, entry.source_shapes, strict=True):
            if name in lines:
                lines[name].targets.append(entry.target)
            elif name in checkpoint:
                shape, dtype = checkpoint.describe(name)
                status: Status = "mapped"
                if dtype not in FLOATS:
                    status = "wrong type"
                elif shape != expected:
                    status = "wrong shape"
                lines[name] = TensorStatus(name, status, [entry.target], list(shape), list(expected), dtype)
            else:
                lines[name] = TensorStatus(name, "missing", [entry.target], None, list(expected))
    for name in checkpoint:
        if name not in lines:
            shape, dtype = checkpoint.describe(name)
            why = reason(name)
            lines[name] = TensorStatus(
                name, "skipped" if why else "unexpected", shape=list(shape), dtype=dtype, reason=why
            )
    for name, why in left_out.items():
        lines.setdefault(name, TensorStatus(name, "skipped", reason=why))
    return Account({name: lines[name] for name in sorted(lines)})
