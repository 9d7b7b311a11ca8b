"""Parameter files of any content give values or a one-line error."""

from pathlib import Path

import pytest

from kmax.config import Run
from kmax.errors import InputError
from kmax.parameter_files import MAX_DEPTH, load, read_yaml

HOSTILE = {
    "lists in one line": ("[" * 2**20, "nested more than 100 deep"),
    "blocks in one line": ("- " * 2**18, "nested more than 100 deep"),
    "keys of keys": ("? " * 2**18, "nested more than 100 deep"),
    "a list as key": ("a: 1\n[b]: 2", "unhashable type: 'list' in \"<unicode string>\", line 2"),
    "the same key twice beside what is inherited": (
        "a: &a {x: 1}\nb: {<<: *a, y: 1, y: 2}",
        "duplicate key 'y'",
    ),
    "two merges": ("a: &a {x: 1}\nb: {<<: *a, <<: *a}", "duplicate key '<<'; write a list"),
    "a merge of text": ("a: {<<: b}", "'<<': expected a mapping, or a list of mappings"),
    "too much merged": (
        f"a: &a {{{', '.join(f'k{i}: 1' for i in range(1000))}}}\nb: {{<<: [{', '.join(['*a'] * 101)}]}}",
        "'<<' merges more than 100000 keys",
    ),
    "no date": ("a:\n - b: 2020-99-99", 'month must be in 1..12 in "<unicode string>", line 2'),
    "no number": ("a: !!int b", "invalid literal"),
    "no truth": ("a: !!bool b", "'b'"),
    "no list": ("!!map [1]", "not valid YAML"),
    "too many digits": ("a: " + "1" * 5000, "limit"),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.yaml"


@pytest.mark.parametrize("kind", HOSTILE)
def test_invalid_yaml_gives_a_one_line_error(kind, path):
    content, expected = HOSTILE[kind]
    path.write_text(content)
    with pytest.raises(InputError, match="not valid YAML") as caught:
        read_yaml(path)
    [line] = caught.value.lines()
    assert line.startswith(f"{path}: ")
    assert expected in line


def test_depth_is_that_of_lists_in_each_other_not_their_number(path):
    deepest = MAX_DEPTH - 1
    path.write_text("[" * deepest + "]" * deepest + "\n")
    assert isinstance(read_yaml(path), list)
    path.write_text("- [a]\n" * 3 * MAX_DEPTH)
    assert read_yaml(path) == [["a"]] * 3 * MAX_DEPTH


def test_keys_of_its_own_go_before_inherited_ones(path):
    path.write_text(
        "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {x: 3, <<: [*b, *a]}\nd: {<<: *a, y: {<<: *b}}\n"
    )
    content = read_yaml(path)
    assert content["c"] == {"x": 3, "y": 2, "z": 2}
    assert content["d"] == {"x": 1, "y": {"y": 2, "z": 2}}
    assert content["a"] == {"x": 1, "y": 1}


@pytest.mark.parametrize(
    "value",
    [
        "{a: &a [x, x], b: &b [*a, *a, *a, *a, *a, *a], c: &c [*b, *b, *b, *b, *b, *b], d: [*c, *c, *c]}",
        "0x" + "f" * 10**5,
        "[" + "a, " * 10**5 + "]",
    ],
    ids=["aliases", "number", "list"],
)
def test_faults_show_the_beginning_of_a_value(value, path):
    path.write_text(f"run: {value}")
    with pytest.raises(InputError) as caught:
        load(Run, path)
    assert max(map(len, caught.value.lines())) < len(str(path)) + 300
