"""A JSON file of long lists is read entry by entry, with the same values as when read at once."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kmax.data.formats import json_stream
from kmax.errors import InputError

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4)
LISTS = st.lists(LEAVES | st.dictionaries(st.text(max_size=3), LEAVES, max_size=3), max_size=6)


def read(path: Path, inside: set[str]) -> list[tuple[str, Any]]:
    return list(json_stream.entries(path, "list", inside))


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(wanted=LISTS, other=LISTS, single=LEAVES, block=st.integers(1, 9), indent=st.sampled_from([None, 1]))
def test_entries_are_those_of_the_whole(
    tmp_path: Path, wanted: list, other: list, single: Any, block: int, indent: int | None
) -> None:
    path = tmp_path / "list.json"
    path.write_text(json.dumps({"other": other, "wanted": wanted, "single": single}, indent=indent))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_BLOCK", block)
        found = read(path, {"wanted"})
    assert [entry for key, entry in found if key == "wanted"] == (wanted or [json_stream.EMPTY])
    assert ("single", single) in found


@pytest.mark.parametrize(
    "text", ["", "{", '{"a": [1, 2', '{"a": [1 2]}', '{"a": 1} x', '{"a": nope}', "[1]", "\x00"]
)
def test_what_is_no_json_object_of_lists_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "list.json"
    path.write_text(text)
    if text == "[1]":
        assert read(path, {"a"}) == [("", [1])]
        return
    with pytest.raises(InputError, match=r"list\.json: list cannot be read as JSON"):
        read(path, {"a"})


def test_memory_does_not_grow_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "_BLOCK", 2**14)
    path = tmp_path / "list.json"
    entry = json.dumps({"bbox": [1, 2, 3, 4], "name": "x" * 200})
    for key in ("wanted", "other"):
        path.write_text(f'{{"{key}": [{",".join([entry] * 3_000)}]}}')
        tracemalloc.start()
        for _ in json_stream.entries(path, "list", {"wanted"}):
            pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < path.stat().st_size / 4
