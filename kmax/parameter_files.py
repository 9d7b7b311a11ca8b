"""Reading YAML into typed models: safely, with errors that name the file, the key and the allowed keys."""

from __future__ import annotations

import reprlib
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from kmax.errors import InputError, unknown_name

M = TypeVar("M", bound=BaseModel)
MAX_YAML_BYTES = 4 * 2**20
MAX_DEPTH = 100  # of nested lists and mappings
MAX_MERGED_KEYS = 100_000  # aliases can expand a small file to any size
MERGE = "tag:yaml.org,2002:merge"
# Python's errors that PyYAML lets through: an unhashable key, an invalid date or number.
VALUE_ERRORS = (ValueError, TypeError, KeyError, AttributeError)


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Safe YAML without duplicate keys; ten times faster if PyYAML has its C library."""

    _depth = 0
    merged_keys = 0

    def descend_resolver(self, current_node: yaml.Node | None, current_index: Any) -> None:
        """Called when a node begins. Limits the depth, because the C library crashes on a stack overflow."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            mark = current_node.start_mark if current_node else None
            raise yaml.composer.ComposerError(None, None, f"nested more than {MAX_DEPTH} deep", mark)
        super().descend_resolver(current_node, current_index)

    def ascend_resolver(self) -> None:
        """Called when a node ends."""
        self._depth -= 1
        super().ascend_resolver()


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    """Construct a mapping. Its own keys take precedence over those from merge keys (`<<: *anchor`)."""
    own: dict[Any, Any] = {}
    inherited: dict[Any, Any] = {}
    merges = 0
    for key_node, value_node in node.value:
        try:
            if key_node.tag == MERGE:
                merges += 1
                inherited = _inherited(loader, value_node)
                continue
            key = loader.construct_object(key_node, deep=True)
            if key in own:
                raise _fault_at(key_node, f"duplicate key '{key}'")
            own[key] = loader.construct_object(value_node, deep=True)
        except VALUE_ERRORS as error:
            raise _fault_at(key_node, str(error)) from error
    if merges > 1:
        raise _fault_at(node, "duplicate key '<<'; write a list: <<: [*one, *other]")
    return inherited | own


def _inherited(loader: _Loader, node: yaml.Node) -> dict[Any, Any]:
    """The keys of one mapping, or of a list of mappings; earlier mappings take precedence."""
    nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
    result: dict[Any, Any] = {}
    for one in nodes:
        value = loader.construct_object(one, deep=True)
        if not isinstance(value, dict):
            raise _fault_at(one, "'<<': expected a mapping, or a list of mappings")
        loader.merged_keys += len(value)
        if loader.merged_keys > MAX_MERGED_KEYS:
            raise _fault_at(one, f"'<<' merges more than {MAX_MERGED_KEYS} keys")
        result = value | result
    return result


def _fault_at(node: yaml.Node, what: str) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, what, node.start_mark)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_yaml(path: Path) -> Any:
    """Parse a YAML file safely.

    Raises:
        InputError: missing, too large (4 MiB), or not YAML.
    """
    try:
        if path.stat().st_size > MAX_YAML_BYTES:
            raise InputError(f"{path}: larger than {MAX_YAML_BYTES} bytes, the limit for parameter files")
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 - a SafeLoader
    except FileNotFoundError:
        raise InputError(f"{path}: parameter file not found") from None
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    except (yaml.YAMLError, *VALUE_ERRORS) as error:
        raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error


def load(model: type[M], path: Path) -> M:
    """Read `path` into `model`.

    Raises:
        InputError: one fault per wrong key: file, key, what is wrong; allowed keys where one is unknown.
    """
    return parse(model, read_yaml(path), path)


def names_in(folder: Path) -> list[str]:
    """The names of all parameter files in a folder."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def load_named(model: type[M], path: Path, kind: str) -> M:
    """Read the file of a run or a dataset (`kind`), which repeats its own name under the key `kind`.

    Raises:
        InputError: no such file (suggests the nearest name), wrong keys, or another name inside the file.
    """
    name, names = path.stem, names_in(path.parent)
    if name not in names:
        raise unknown_name(kind, name, names, str(path.parent))
    loaded = load(model, path)
    if (named := getattr(loaded, kind)) != name:
        raise InputError(f"{path}: {kind}: '{named}' does not match the file's name")
    return loaded


def parse(model: type[M], value: Any, where: Path | str) -> M:
    """Validate a parsed YAML value, or arguments; `where` names the file or function in faults."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise InputError([_fault(model, item, where) for item in error.errors()]) from error


def _fault(model: type[BaseModel], item: Any, where: Path | str) -> str:
    location = [str(part) for part in item["loc"] if part != "[key]"]  # a key is named, not its place
    key = ".".join(location) or "(file)"
    match item["type"]:
        case "extra_forbidden":
            allowed = _allowed_keys(model, location[:-1])
            return f"{where}: {key}: unknown key; allowed: {', '.join(allowed)}"
        case "missing":
            return f"{where}: {key}: missing key"
        case "float_type" | "int_type" if isinstance(item["input"], str):
            advice = " (write 1.0e-5, not 1e-5)" if "e" in item["input"].lower() else ""
            return f"{where}: {key}: expected a number, not the string '{item['input']}'{advice}"
        case _:
            message = item["msg"].removeprefix("Value error, ")
            return f"{where}: {key}: {message[0].lower()}{message[1:]} (got {_shown(item['input'])})"


def _shown(value: Any) -> str:
    """The beginning of a value, without formatting the rest: aliases blow up small files to any size."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = 80
    try:
        return short.repr(value)[:80]
    except ValueError:  # Python writes no integers of thousands of digits
        return f"a value of type {type(value).__name__}"


def _allowed_keys(model: type[BaseModel], location: list[str]) -> list[str]:
    """The keys of the (nested) model at `location`, for the advice on an unknown key."""
    models: list[type[BaseModel]] = [model]
    for part in location:
        inner: list[type[BaseModel]] = []
        for candidate in models:
            field = candidate.model_fields.get(part)
            inner += _models_in(field.annotation) if field else [candidate]
        models = inner or models
    return sorted({name for candidate in models for name in candidate.model_fields})


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [found for part in getattr(annotation, "__args__", ()) for found in _models_in(part)]
