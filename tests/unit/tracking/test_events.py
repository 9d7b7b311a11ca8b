import json
import math
import multiprocessing
from pathlib import Path

from kmax.tracking import events


def appended(path: Path, writer: int) -> None:
    for number in range(200):
        events.append(path, {"kind": "metrics", "writer": writer, "number": number, "padding": "x" * 300})


def test_writers_at_once_lose_and_tear_nothing(tmp_path):
    path = tmp_path / "events.jsonl"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=appended, args=(path, writer)) for writer in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    read = [event for event, _ in events.read(path)]
    assert sorted((e["writer"], e["number"]) for e in read) == [(w, n) for w in range(4) for n in range(200)]
    assert len({event["id"] for event in read}) == 800


def test_a_line_torn_by_a_crash_spoils_itself_alone(tmp_path):
    path = tmp_path / "events.jsonl"
    events.append(path, {"kind": "start"})
    with open(path, "ab") as stream:
        stream.write(b'{"kind":"metr')
    assert [event["kind"] for event, _ in events.read(path)] == ["start"]
    events.append(path, {"kind": "end"})
    assert [event["kind"] for event, _ in events.read(path)] == ["start", "end"]


def test_reading_continues_at_an_offset(tmp_path):
    path = tmp_path / "events.jsonl"
    events.append(path, {"kind": "start"})
    ((_, offset),) = events.read(path)
    assert list(events.read(path, offset)) == []
    events.append(path, {"kind": "end"})
    ((event, _),) = events.read(path, offset)
    assert event["kind"] == "end"


def test_numbers_that_json_does_not_know_survive():
    for value in (math.nan, math.inf, -math.inf, 0.1):
        again = float(json.loads(json.dumps(events.encode_number(value), allow_nan=False)))
        assert again == value or (math.isnan(again) and math.isnan(value))


def test_flattening_keeps_numbers_and_texts_and_leaves_out_nulls_and_long_lists():
    value = {
        "pq": {"all": {"pq": 0.5, "n": 3}, "things": {"pq": None}, "evaluator": "e"},
        "interval": [0.4, 0.6],
        "many": [1.0] * 9,
        "ok": True,
    }
    numbers = {"pq/all/pq": 0.5, "pq/all/n": 3.0, "interval/0": 0.4, "interval/1": 0.6}
    assert events.flatten(value) == (numbers, {"pq/evaluator": "e", "ok": "true"})
