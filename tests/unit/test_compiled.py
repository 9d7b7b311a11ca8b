"""Cached machine code belongs to the current sources."""

import importlib
import sys
from pathlib import Path

import pytest

CALLED = "from kmax.compiled import compiled\n{constant}\n\n@compiled\ndef step(x):\n    return x + {step}\n"
CALLER = """
from kmax.compiled import compiled
from called_of_test import OFFSET, step

@compiled
def stepped(x):
    return step(x) + OFFSET
"""


def test_a_change_of_a_function_in_another_file_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "caller_of_test.py").write_text(CALLER)
    for step, offset in ((1, 0), (2, 0), (2, 40), (1, 0)):
        source = CALLED.format(constant=f"OFFSET = {offset}", step=step)
        (tmp_path / "called_of_test.py").write_text(source)
        for name in ("caller_of_test", "called_of_test"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        importlib.invalidate_caches()
        assert importlib.import_module("caller_of_test").stepped(5) == 5 + step + offset
    # The first version was restored, and is still cached.
    assert len(list((tmp_path / "__pycache__").glob("caller_of_test.stepped*.nbi"))) == 3
