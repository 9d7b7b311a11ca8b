import pytest
import torch

from kmax.config import Predict
from kmax.errors import InputError
from kmax.inference.segment_batch import segment_images
from kmax.model.create import create_model

PREDICT = Predict(
    mode="pixelwise",
    pixel_threshold=0.0,
    class_threshold_thing=0.0,
    class_threshold_stuff=0.0,
    overlap_threshold=0.0,
    reorder_class_weight=1.0,
    reorder_mask_weight=1.0,
    thing_area_limit=0,
    stuff_area_limit=0,
    batch_size=2,
    pictures=0,
)


@pytest.fixture
def model() -> torch.nn.Module:
    torch.manual_seed(0)
    return create_model("kmax_tiny", num_classes=2, image_size=(33, 33), num_clusters=4).eval()


def segment(model: torch.nn.Module, images: torch.Tensor) -> list:
    sizes = [(33, 33)] * len(images)
    isthing = torch.tensor([True, False])
    return list(segment_images(model, images, sizes, sizes, isthing, PREDICT, ["left", "right"]))


def test_pixelwise_mode_gives_a_map_of_every_image(model: torch.nn.Module) -> None:
    results = segment(model, torch.rand(2, 3, 33, 33))
    for result in results:
        panoptic = result.panoptic
        assert panoptic.ids.shape == (33, 33)
        assert {s.id for s in panoptic.segments} == set(panoptic.ids.ravel().tolist()) - {0}
        assert len(result.assignments) == 6


@pytest.mark.parametrize(("head", "what"), [("class", "class logits"), ("mask", "mask logits")])
def test_output_that_is_not_finite_names_itself_and_the_image(
    model: torch.nn.Module, head: str, what: str
) -> None:
    def spoil(module: torch.nn.Module, inputs: object, output: object) -> None:
        getattr(output, f"{head}_logits")[1].fill_(float("nan"))

    model.register_forward_hook(spoil)
    with pytest.raises(InputError, match=f"image right: the network's {what} are not finite"):
        segment(model, torch.rand(2, 3, 33, 33))


@pytest.mark.parametrize("flavour", ["tf", "torch"])
def test_instances_and_classes_come_where_they_are_asked_for(flavour: str) -> None:
    torch.manual_seed(0)
    model = create_model(
        "kmax_tiny", num_classes=2, image_size=(33, 33), num_clusters=4, flavour=flavour
    ).eval()
    wanted = PREDICT.model_copy(update={"mode": "maskwise", "instances": "coco", "semantic": True})
    images, sizes, isthing = torch.rand(1, 3, 33, 33), [(33, 33)], torch.tensor([True, True])
    for predict in (PREDICT.model_copy(update={"mode": "maskwise"}), wanted):
        (result,) = segment_images(model, images, sizes, [(20, 30)], isthing, predict, ["a"])
        assert (result.semantic is not None) == bool(result.instances) == predict.semantic
    assert result.semantic is not None
    assert result.semantic.shape == result.instances[0].mask.shape == (20, 30)
    # deeplab2 takes the segments of the map; bytedance every pair of cluster and class.
    assert len(result.instances) == (len(result.panoptic.segments) if flavour == "tf" else 4 * 2)
