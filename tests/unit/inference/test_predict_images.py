"""`kmax predict-images` on the files of users: nothing of theirs is replaced, and what is written agrees."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kmax import paths
from kmax.config import Predict
from kmax.data.formats import image_strips
from kmax.data.formats.coco_panoptic import read_map
from kmax.errors import InputError
from kmax.inference import large_images, upsampling
from kmax.inference import predict_images as module
from kmax.inference.predict_images import predict_images
from kmax.model.create import create_model
from kmax.model.io import load_model, save_model
from kmax.runs.families import load_run


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def write_image(path: Path, seed: int = 0, size: tuple[int, int] = (50, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture
def folder(project: Path) -> Path:
    return project / "user"


def segment(*images: Path, out: Path, **options: bool) -> list[str]:
    """The images in the JSON, whose maps agree with it."""
    predict_images(images, paths.model("small"), out, load_run("small").predict, **options)
    return described(out)


def described(out: Path) -> list[str]:
    content = json.loads((out / "panoptic.json").read_text())
    for annotation in content["annotations"]:
        ids = set(np.unique(read_map(out / annotation["file_name"])).tolist()) - {0}
        assert ids == {segment["id"] for segment in annotation["segments_info"]}
    return [image["file_name"] for image in content["images"]]


def test_an_overlay_and_a_map_of_one_name_are_refused(folder: Path) -> None:
    images = [write_image(folder / name) for name in ("cat_overlay.jpg", "cat.png")]
    for given in (images, images[::-1]):
        with pytest.raises(InputError) as caught:
            segment(*given, out=folder / "out")
        (line,) = caught.value.faults
        assert all(part in line for part in ("cat_overlay.jpg", "cat.png", "output cat_overlay.png"))
    assert not (folder / "out").exists()


def test_inputs_are_never_replaced(folder: Path) -> None:
    dog, cat = write_image(folder / "dog.png"), write_image(folder / "cat.jpg")
    (folder / "link").symlink_to(folder, target_is_directory=True)
    before = contents(folder)
    for out in (folder, folder / "link", folder / "missing" / ".."):
        for overwrite in (False, True):
            with pytest.raises(InputError, match=r"would overwrite the input .*dog\.png"):
                segment(dog, cat, out=out, overwrite=overwrite)
    weights = shutil.copy(paths.model("small"), folder / "cat_overlay.png")
    with pytest.raises(InputError, match="would overwrite the input"):
        predict_images([cat], Path(weights), folder, overwrite=True)
    Path(weights).unlink()
    assert contents(folder) == before


@pytest.mark.parametrize("name", ["cat.png", "cat_overlay.png", "panoptic.json"])
@pytest.mark.parametrize("kind", ["file", "link", "dangling link", "folder"])
def test_other_files_are_replaced_only_on_request(name: str, kind: str, folder: Path) -> None:
    cat, out, precious = write_image(folder / "cat.jpg"), folder / "out", folder / "precious"
    out.mkdir()
    precious.write_text("{}")
    if kind == "folder":
        (out / name).mkdir()
    elif kind == "file":
        (out / name).write_text("{}")
    else:
        (out / name).symlink_to(precious if kind == "link" else "nowhere")
    before = contents(folder)
    with pytest.raises(InputError, match=rf"out/{name}: "):
        segment(cat, out=out)
    assert contents(folder) == before
    if kind != "folder":
        assert segment(cat, out=out, overwrite=True) == ["cat.jpg"]
    assert precious.read_text() == "{}"


def test_the_same_command_replaces_its_own_outputs_but_not_edited_ones(folder: Path) -> None:
    cat, dog, out = write_image(folder / "cat.jpg"), write_image(folder / "dog.jpg", 1), folder / "out"
    segment(cat, out=out)
    first = contents(out)
    assert set(first) == {"cat.png", "cat_overlay.png", "panoptic.json"}
    segment(cat, out=out)
    assert contents(out) == first
    assert segment(dog, out=out) == ["dog.jpg"]
    assert segment(cat, out=out) == ["cat.jpg"]
    write_image(out / "cat_overlay.png", 5)  # retouched
    with pytest.raises(InputError, match=r"cat_overlay\.png: exists"):
        segment(cat, out=out)


def test_folders_are_searched_for_images(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.JPG", "deep/a.png", "deep/b.webp", ".hidden/c.png", "._a.jpg"):
        write_image(folder / name if not name.endswith("JPG") else folder / "a.jpg")
    (folder / "a.jpg").rename(folder / "a.JPG")
    (folder / "notes.txt").write_text("no image")
    out = folder / "masks"
    assert segment(folder, out=out) == ["a.JPG", "deep/a.png", "deep/b.webp"]
    assert "2 hidden" in capsys.readouterr().err
    assert (out / "deep/a.png").is_file()
    first = contents(out)
    segment(folder, out=out)  # its own outputs are no images
    assert contents(out) == first
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match="empty: contains no images"):
        segment(folder / "empty", out=out)


@pytest.mark.parametrize("error", [InputError("unreadable"), KeyboardInterrupt()])
def test_after_a_failure_the_json_describes_what_is_there(
    error: BaseException, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [write_image(folder / f"{name}.jpg", seed) for seed, name in enumerate("abc")]
    out = folder / "out"
    segment(*images, out=out)
    complete = contents(out)
    save_overlay = module.overlay

    def fail(rgb: np.ndarray, *rest: object) -> np.ndarray:
        if np.array_equal(rgb, np.asarray(Image.open(images[1]))):
            raise error
        return save_overlay(rgb, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(module, "overlay", fail)
        with pytest.raises(type(error)):
            segment(*images, out=out)
    assert described(out) == ["a.jpg"]
    assert not (out / "b.png").exists()
    assert not list(out.glob(".*"))
    segment(*images, out=out)
    assert contents(out) == complete


def test_a_killed_command_can_be_repeated(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, out = [write_image(folder / f"{name}.jpg") for name in "ab"], folder / "out"
    with monkeypatch.context() as patch:
        patch.setattr(module.OutputRecord, "finish", lambda self, content: None)
        predict_images(images, paths.model("small"), out, load_run("small").predict)
    journal = out / ".predict-images.jsonl"
    journal.write_bytes(journal.read_bytes() + b'["a.png", "incompl')
    assert segment(*images, out=out) == ["a.jpg", "b.jpg"]
    assert not list(out.glob(".*"))


@pytest.mark.parametrize(
    ("flavour", "mode"), [("tf", "maskwise"), ("tf", "pixelwise"), ("torch", "maskwise")]
)
def test_in_strips_the_outputs_are_the_same(
    flavour: str, mode: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_strips, "STRIP_BYTES", 30_000)
    monkeypatch.setattr(large_images, "BAND_PIXELS", 5000)
    images = [write_image(Path("a.png"), size=(701, 403)), write_image(Path("b.jpg"), 1, (90, 250))]
    _, metadata = load_model(paths.model("small"))
    arguments = {"num_classes": len(metadata.categories), "image_size": (65, 97), "num_clusters": 12}
    model = create_model("kmax_tiny", **arguments, flavour=flavour)
    save_model(
        model, Path("w.safetensors"), metadata.categories, data={"preprocessing": None, "native_size": False}
    )
    predict: Predict = load_run("small").predict
    predict = predict.model_copy(
        update={"mode": mode, "pixel_threshold": 0.35 if mode == "maskwise" else 0.1}
    )
    whole = contents(predict_images(images, Path("w.safetensors"), Path("whole"), predict))
    monkeypatch.setattr(module, "LARGE_PIXELS", 0)
    monkeypatch.setattr(upsampling, "WIDENED_ELEMENTS", 0)
    strips = contents(predict_images(images, Path("w.safetensors"), Path("strips"), predict))
    described = [json.loads(found.pop("panoptic.json")) for found in (whole, strips)]
    assert [content.pop("files").keys() for content in described] == [whole.keys()] * 2
    assert described[0] == described[1]
    assert strips.keys() == whole.keys()
    for name in ("a.png", "b.png"):
        np.testing.assert_array_equal(read_map(Path("strips") / name), read_map(Path("whole") / name))


def test_an_image_that_is_too_large_names_the_option(folder: Path) -> None:
    cat = write_image(folder / "cat.png")
    with pytest.raises(InputError, match=r"50x30 = 1500 pixels, the limit is 1000.*--max-pixels 1500"):
        segment(cat, out=folder / "out", max_pixels=1000)
    assert segment(cat, out=folder / "out", max_pixels=1500) == ["cat.png"]
