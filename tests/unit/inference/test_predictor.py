"""The predict stage: resumed, sharded, published atomically; and single images."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from kmax import paths
from kmax.config import Predict
from kmax.data.formats import json_stream
from kmax.data.formats.coco_panoptic import read_map
from kmax.errors import InputError
from kmax.inference import prediction_peers, prediction_stage
from kmax.inference.predict_images import predict_images
from kmax.inference.prediction_stage import predict_run
from kmax.model.io import load_model, save_model
from kmax.runs.families import load_run

STATE = Path("runs/small/0123")
DAMAGED = ("shard.json", "semantic/*.png")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_predictions_agree_with_their_json(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = load_run("small")
    run = run.model_copy(update={"predict": run.predict.model_copy(update={"pictures": 2})})
    parsed: list[str] = []
    entries = json_stream.entries
    monkeypatch.setattr(
        json_stream, "entries", lambda path, *rest: parsed.append(path.name) or entries(path, *rest)
    )
    folder = predict_run(run, STATE, {})
    assert parsed == ["panoptic_val.json"]
    content = json.loads((folder / "panoptic.json").read_text())
    known = {category["id"] for category in content["categories"]}
    assert [a["image_id"] for a in content["annotations"]] == [i["id"] for i in content["images"]]
    assert len(content["images"]) == 5
    segments = 0
    for annotation in content["annotations"]:
        ids = read_map(folder / "panoptic" / annotation["file_name"])
        assert ids.shape == (48, 64)
        listed = {s["id"] for s in annotation["segments_info"]}
        assert set(np.unique(ids).tolist()) - {0} == listed
        assert {s["category_id"] for s in annotation["segments_info"]} <= known
        segments += len(listed)
    assert segments > 0
    drawn = sorted((folder / "pictures").iterdir())
    assert len(drawn) == 2
    names = {"image.png", "ground_truth.png", "prediction.png"} | {f"clusters_{i}.png" for i in range(1, 7)}
    assert all({p.name for p in pictures.iterdir()} == names for pictures in drawn)


def test_interrupted_prediction_goes_on_where_it_was(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predicted: list[int] = []
    whole = prediction_stage.segment_images

    def counted(model, images, *rest):
        if len(predicted) == 2:
            raise KeyboardInterrupt
        predicted.append(len(images))
        return whole(model, images, *rest)

    run = load_run("small")
    uninterrupted = contents(predict_run(run, Path("runs/small/other"), {}))
    shutil.rmtree(paths.predictions("small"))
    monkeypatch.setattr(prediction_stage, "segment_images", counted)
    with pytest.raises(KeyboardInterrupt):
        predict_run(run, STATE, {})
    assert predicted == [2, 2]
    assert not paths.predictions("small").exists()
    monkeypatch.setattr(
        prediction_stage, "segment_images", lambda *a: predicted.append(len(a[1])) or whole(*a)
    )
    assert contents(predict_run(run, STATE, {})) == uninterrupted
    assert predicted == [2, 2, 1]
    assert len(contents(paths.predictions("small") / "panoptic")) == 5


def test_complete_predictions_are_published_again_without_the_network(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = load_run("small")
    before = contents(predict_run(run, STATE, {}))
    (paths.predictions("small") / "panoptic.json").unlink()
    monkeypatch.setattr(prediction_stage, "load_model", lambda path: pytest.fail("the network was loaded"))
    assert contents(predict_run(run, STATE, {})) == before


def test_corrupt_outputs_are_replaced_by_predicting_again(project: Path) -> None:
    folder = predict_run(load_run("small"), STATE, {})
    before = contents(folder)
    published = next((folder / "panoptic").iterdir())
    published.write_bytes(published.read_bytes()[:40])
    record, part = (next(STATE.glob(f"predictions-*/00000{i}/{name}")) for i, name in enumerate(DAMAGED))
    record.write_text("{")
    part.write_bytes(part.read_bytes()[:40])
    assert contents(predict_run(load_run("small"), STATE, {})) == before


def test_other_parameters_do_not_reuse_predictions(project: Path) -> None:
    run = load_run("small")
    predict_run(run, STATE, {})
    predict_run(
        run.model_copy(
            update={"predict": run.predict.model_copy(update={"pictures": 0, "class_threshold_thing": 0.1})}
        ),
        STATE,
        {},
    )
    assert len(list(STATE.glob("predictions-*"))) == 2


def test_a_process_killed_while_it_writes_leaves_nothing_behind(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = load_run("small")
    uninterrupted = contents(predict_run(run, STATE, {}))
    (work,) = STATE.glob("predictions-*")
    shutil.rmtree(work / "000001")
    (work / ".000001.abc.tmp/panoptic").mkdir(parents=True)
    (work / ".000001.abc.tmp/panoptic/x.png").write_text("half")
    assert contents(predict_run(run, STATE, {})) == uninterrupted
    assert {path.name for path in work.iterdir()} == {".lock", "000000", "000001", "000002"}


def test_a_rank_without_the_others_is_an_error_and_the_last_one_publishes(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = contents(predict_run(load_run("small"), Path("runs/small/alone"), {}))
    shutil.rmtree(paths.predictions("small"))
    monkeypatch.setattr(prediction_peers, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(prediction_peers, "POLL_SECONDS", 0.01)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(InputError, match=r"1 of 3 shards are there.*none of them is running.*WORLD_SIZE"):
        predict_run(load_run("small"), STATE, {})
    assert not paths.predictions("small").exists()
    monkeypatch.setenv("RANK", "0")
    predict_run(load_run("small"), STATE, {})
    assert contents(paths.predictions("small")) == alone


def test_ranks_that_run_together_wait_for_each_other(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As torchrun and srun start them: each of them ends with the path of complete predictions."""
    alone = contents(predict_run(load_run("small"), Path("runs/small/alone"), {}))
    shutil.rmtree(paths.predictions("small"))
    code = (
        "import sys, time; from pathlib import Path; from kmax.inference import prediction_stage as stage; "
        "from kmax.runs.families import load_run; predict = stage.segment_images; "
        "stage.segment_images = lambda *a: time.sleep(float(sys.argv[1])) or predict(*a); "
        f"folder = stage.predict_run(load_run('small'), Path({str(STATE)!r}), {{}}); "
        "assert (folder / 'panoptic.json').exists()"
    )
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    ranks = []
    for rank, delay in (("0", "0"), ("1", "2")):
        monkeypatch.setenv("RANK", rank)
        ranks.append(subprocess.Popen([sys.executable, "-c", code, delay], stderr=subprocess.PIPE, text=True))
    errors = [rank.communicate(timeout=300)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], errors
    assert contents(paths.predictions("small")) == alone


def test_instances_and_labels_are_read_back_as_they_were(project: Path) -> None:
    run = load_run("small")
    folder = predict_run(run, STATE, {})
    content = json.loads((folder / "panoptic.json").read_text())
    results = json.loads((folder / "instances.json").read_text())
    assert results
    things = {category["id"] for category in content["categories"] if category["isthing"]}
    for annotation in content["annotations"]:
        ids = read_map(folder / "panoptic" / annotation["file_name"])
        # The TensorFlow original's instances are the thing segments, whose labels the maps tell.
        wanted = [s for s in annotation["segments_info"] if s["category_id"] in things]
        found = [r for r in results if r["image_id"] == annotation["image_id"]]
        assert [(r["category_id"], r["score"]) for r in found] == [
            (s["category_id"], s["score"]) for s in wanted
        ]
        for result, segment in zip(found, wanted, strict=True):
            assert (coco_mask.decode(result["segmentation"]) == (ids == segment["id"])).all()
        labels = np.asarray(Image.open(folder / "semantic" / annotation["file_name"]))
        assert labels.shape == ids.shape
        assert set(np.unique(labels).tolist()) <= {category["id"] for category in content["categories"]}


def test_frames_of_cityscapes_need_their_names(project: Path) -> None:
    run = load_run("small")
    predict = run.predict.model_copy(update={"instances": "cityscapes"})
    with pytest.raises(InputError, match=r"predict\.instances: cityscapes: image 000000\.png is not named"):
        predict_run(run.model_copy(update={"predict": predict}), STATE, {})


def test_a_missing_model_names_the_command_that_makes_it(project: Path) -> None:
    paths.model("small").unlink()
    with pytest.raises(InputError, match="kmax train small"):
        predict_run(load_run("small"), STATE, {})


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_corrupt_image_is_named_and_nothing_is_published(project: Path, damage: str) -> None:
    image = sorted(Path("data/prepared/shapes_small").glob("images_val/*"))[1]
    content = image.read_bytes()
    image.unlink()
    if damage == "truncated":
        image.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=image.name):
        predict_run(load_run("small"), STATE, {})
    assert not paths.predictions("small").exists()


def test_images_of_ones_own_need_the_weights_alone(project: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, size in (("a.jpg", (30, 50, 3)), ("b.png", (40, 21))):
        Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(tmp_path / name)
    out = predict_images(
        [tmp_path / "a.jpg", tmp_path / "b.png"],
        paths.model("small"),
        tmp_path / "out",
        load_run("small").predict,
    )
    content = json.loads((out / "panoptic.json").read_text())
    assert [i["file_name"] for i in content["images"]] == ["a.jpg", "b.png"]
    assert read_map(out / "b.png").shape == (40, 21)
    assert Image.open(out / "a_overlay.png").size == (500, 300)
    assert content["annotations"][0]["segments_info"]


def test_any_images_are_segmented_with_the_thresholds_in_the_file(project: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    image = tmp_path / "a.png"
    Image.fromarray(pixels).save(image)
    model, metadata = load_model(paths.model("small"))
    sure_of_anything = load_run("small").predict
    sure_of_nothing = sure_of_anything.model_copy(
        update={"class_threshold_thing": 1.0, "class_threshold_stuff": 1.0}
    )

    def segments(name: str, predict: Predict) -> list[dict[str, Any]]:
        weights = tmp_path / f"{name}.safetensors"
        save_model(model, weights, metadata.categories, predict=predict.model_dump())
        out = predict_images([image], weights, tmp_path / name)
        given = predict_images([image], paths.model("small"), tmp_path / f"{name}-given", predict)
        assert contents(out) == contents(given)
        return json.loads((out / "panoptic.json").read_text())["annotations"][0]["segments_info"]

    assert segments("anything", sure_of_anything)
    assert not segments("nothing", sure_of_nothing)


def test_corrupt_thresholds_in_the_file_are_refused(project: Path, tmp_path: Path) -> None:
    Image.new("RGB", (50, 30)).save(tmp_path / "a.png")
    model, metadata = load_model(paths.model("small"))
    save_model(model, tmp_path / "w.safetensors", metadata.categories, predict={"pixel_threshold": 0.4})
    with pytest.raises(InputError, match=r"w\.safetensors: mode: missing key"):
        predict_images([tmp_path / "a.png"], tmp_path / "w.safetensors", tmp_path / "out")


def test_all_bad_images_are_reported_before_any_work(project: Path, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    bad = ["none.png", "text.jpg", "other/none.png"]
    for name in ("good.png", "half.jpg", "part.png"):
        Image.fromarray(pixels).save(tmp_path / name)
    for name in ("half.jpg", "part.png"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2])
        bad.append(name)
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(tmp_path / "deep.png")
    images = [tmp_path / name for name in ("good.png", "deep.png", *bad)]
    with pytest.raises(InputError) as caught:
        predict_images(images, paths.model("small"), tmp_path / "out")
    messages = "\n".join(caught.value.faults)
    assert all(part in messages for part in ("not found", "not an image", "duplicate stem 'none'"))
    assert all(f"{name}: image cannot be read" in messages for name in ("half.jpg", "part.png"))
    assert "deep.png: expected 8 bits per channel" in messages
    assert "good.png" not in messages
    assert not (tmp_path / "out").exists()
