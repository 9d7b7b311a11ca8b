"""Mutations of sound JSON files: other types, missing, additional and repeated keys, other orders."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

Rng = random.Random
STRANGE = (
    *(None, True, False, 0, 1, -1, 2, 7, 2.5, 1e3, -0.0, 1e300, 2**31, 2**53, 2**70, 10**30),
    *(
        float("nan"),
        float("inf"),
        float("-inf"),
        "",
        "x",
        "1",
        "1.0",
        "0",
        "ä日🙂",
        "..",
        [],
        {},
        [1],
        {"a": []},
    ),
)
AGAIN = "@again"  # ends the name of a key that is written a second time
NAMES = ("missing.png", "0.png", "1.png", "2.png", "./0.png", "ä日.png", "", ".", "gt.json")


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to everything inside a JSON value."""
    if path:
        yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in inside:
        yield from places(entry, (*path, key))


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def mutated(rng: Rng, sound: Any, special: Any = None) -> str:
    """The text of a JSON value after one to three mutations.

    Args:
        special: a mutation of this kind of file, a function of the generator and the value.
    """
    value = copy.deepcopy(sound)
    for _ in range(rng.choice((1, 1, 1, 1, 2, 3))):
        choice = rng.choice(
            (in_place, in_place, in_place, in_lists, in_lists, everywhere, special or in_place)
        )
        value = choice(rng, value)
    text = json.dumps(value, ensure_ascii=rng.random() < 0.5).replace(f'{AGAIN}":', '":')
    if rng.random() < 0.01:
        return rng.choice((text[: rng.randrange(len(text))], text + "]", "\ufeff" + text, ""))
    return text


def another_form(rng: Rng, value: Any) -> Any:
    """The same number or text as a value of another type, or a number close to it."""
    forms: list[Any] = [str(value), [value]]
    if isinstance(value, (int, float)) and abs(value) < 2**53:
        forms += [
            float(value),
            float(value),
            float(value),
            -value,
            value + 1,
            value + 0.5,
            bool(value),
            value * 1000,
        ]
    if isinstance(value, list):
        forms += [
            value[1:],
            value * 2,
            dict(enumerate(value)),
            [float(v) if isinstance(v, int) else v for v in value],
        ]
    return rng.choice(forms)


def in_place(rng: Rng, value: Any) -> Any:
    """Replace, remove, add or repeat one value."""
    found = list(places(value))
    if not found:
        return rng.choice(STRANGE)
    path = rng.choice(found)
    parent, key = at(value, path[:-1]), path[-1]
    match rng.randrange(7):
        case 0 | 1:
            parent[key] = rng.choice(STRANGE)
        case 2 | 3:
            parent[key] = another_form(rng, parent[key])
        case 4:
            same = [at(value, other) for other in found if other[-1] == key and len(other) == len(path)]
            parent[key] = copy.deepcopy(rng.choice(same))
        case 5:
            del parent[key]
        case 6 if isinstance(parent, dict):
            parent[f"{key}{AGAIN}"] = rng.choice((copy.deepcopy(parent[key]), rng.choice(STRANGE)))
            parent[rng.choice(("extra", "ä日", "score", "area", "isthing", "ignore"))] = rng.choice(STRANGE)
    return value


def in_lists(rng: Rng, value: Any) -> Any:
    """Empty, shuffle, shorten or lengthen one list; repeated entries may differ in one value."""
    lists = [path for path in places(value) if isinstance(at(value, path), list) and at(value, path)]
    if isinstance(value, list) and value:
        lists.append(())
    if not lists:
        return in_place(rng, value)
    listed = at(value, rng.choice(lists))
    match rng.randrange(5):
        case 0:
            rng.shuffle(listed)
        case 1:
            del listed[rng.randrange(len(listed))]
        case 2 | 3:
            entry = copy.deepcopy(rng.choice(listed))
            listed.insert(
                rng.randrange(len(listed) + 1), in_place(rng, entry) if rng.random() < 0.6 else entry
            )
        case 4 if rng.random() < 0.3:
            listed.clear()
    return value


def everywhere(rng: Rng, value: Any) -> Any:
    """Change all values of one key: to floats, to text, to one value; or remove the key."""
    paths = [path for path in places(value) if isinstance(path[-1], str)]
    if not paths:
        return in_place(rng, value)
    key, action, strange = rng.choice(paths)[-1], rng.choice("ffsr1"), rng.choice(STRANGE)
    for path in [path for path in paths if path[-1] == key]:
        try:
            parent = at(value, path[:-1])
        except (KeyError, TypeError):
            continue  # inside a value that was replaced
        old = parent[key]
        if action == "r":
            del parent[key]
        elif action == "1":
            parent[key] = strange
        elif action == "s":
            parent[key] = str(old)
        elif isinstance(old, int) and abs(old) < 2**53:
            parent[key] = float(old)
    return value


def panoptic(rng: Rng, value: Any) -> Any:
    """Wrong file names, segments without pixels, pixels without segments, crowds, unknown categories."""
    annotations = value.get("annotations") if isinstance(value, dict) else None
    entry = rng.choice(annotations) if isinstance(annotations, list) and annotations else None
    if not isinstance(entry, dict):
        return in_place(rng, value)
    listed = entry.get("segments_info")
    segment = rng.choice(listed) if isinstance(listed, list) and listed else None
    action = rng.randrange(6)
    if action == 0 or not isinstance(segment, dict):
        entry["file_name"] = rng.choice(NAMES)
    elif action == 1:
        listed.append({**segment, "id": rng.choice((0, 5, 2**24 - 1, 2**24))})
    elif action == 2:
        listed.remove(segment)
    elif action == 3:
        segment["iscrowd"] = rng.choice((0, 1, 1.0, True, "1", None, 2))
    elif action == 4:
        segment["category_id"] = rng.choice((1, 2.0, 3, 7, 9.0, 77, True, None, "1", 1.5))
    else:
        segment["area"] = rng.choice(
            (0, -5, 1, 30.5, 1e9, float("nan"), None, True, "5", [5], 10**400, float("inf"))
        )
    return value


def instances(rng: Rng, value: Any) -> Any:
    """Masks, boxes and scores in other forms, valid or not, of ground truth or of detections."""
    listed = value.get("annotations") if isinstance(value, dict) else value
    entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    if not entries:
        return in_place(rng, value)
    entry = rng.choice(entries)
    action = rng.randrange(8)
    if action == 0:
        entry["segmentation"] = rng.choice(REGIONS)
    elif action == 1 and isinstance(region := entry.get("segmentation"), dict):
        region["counts"] = rng.choice(
            ([1, 2], [560.0, 0], [560], "b'1'", "", "zz", [-1, 561], [0, 560], [280.5, 279.5])
        )
    elif action == 2:
        entry["bbox"] = rng.choice(
            ([], [1, 2, 3], [1, 2, 3, 4, 5], [1.5, 2, 3, -4], ["1", 2, 3, 4], [1e9, 0, 1e9, 5], None)
        )
    elif action == 3:
        for one in entries:
            one["bbox"] = [2, 3.0, 10, rng.randrange(1, 9)]
    elif action == 4:
        for one in entries:
            one.pop(rng.choice(("bbox", "segmentation")), None)
    elif action == 5:
        entry["score"] = rng.choice(("0.5", 1, True, None, -1, 1e300, 2**60, float("nan"), float("inf")))
    elif action == 6:
        for one in entries:
            one["segmentation"] = rng.choice(REGIONS[:3])
    else:
        entry["iscrowd"] = rng.choice((1, 1.0, True, "1", "0", 2, None, 0.5))
    return value


REGIONS: tuple[Any, ...] = (
    [[2, 2, 15, 2, 15, 12, 2, 12]],
    [[2, 2.5, 15, 2, 15, 12], [16, 3, 20, 3, 20.5, 9, 17, 9]],
    {"size": [20, 28], "counts": [45, 10, 10, 10, 485]},
    {"size": [20.0, 28], "counts": [45.0, 10, 10, 10, 485]},
    *(
        [],
        [[]],
        [[1, 2]],
        [[1, 2, 9, 8]],
        [[2, 2, 15, 2, 15, 12], [1, 2, 3]],
        [[2, 2, 15, 2, 15]],
        [2, 2, 15, 2, 15, 12],
    ),
    *(
        [["2", "2", "15", "2", "15", "12"]],
        [[2, 2, 15, 2, None, 12]],
        [[-900, 0, 2000, 0, 0, 900]],
        {"size": [28, 20]},
    ),
    *({"size": [20, 28], "counts": "1"}, {"size": [28, 20], "counts": [560]}, "abc", 5, None, {}, True),
)
