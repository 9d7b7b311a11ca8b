"""The criterion on unusual batches, and what its gradients reach."""

import math
from dataclasses import replace

import pytest
import torch

from kmax.losses import Criterion, NonFiniteLossError

CLASSES = 4
TERMS = ["class", "dice", "mask_id", "instance_discrimination"]
FLAVOURS = ["tf", "torch"]


def leaves(output):
    for part in (output, *output.auxiliary):
        yield from (part.class_logits, part.mask_logits, part.pixel_features)
    yield output.semantic_logits


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_terms_of_final_and_auxiliary_outputs_are_finite_scalars(
    flavour, losses, make_batch, make_output
) -> None:
    terms = Criterion(losses, CLASSES, flavour)(make_output(2), make_batch([0, 1, 1], [3]))
    auxiliary = [f"aux{index}/{term}" for index in range(2) for term in TERMS]
    assert list(terms) == [*TERMS, "semantic", *auxiliary]
    assert all(value.shape == () and value > 0 for value in terms.values())


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("labels", [[[0, 1], []], [[], []]])
def test_image_without_segment_has_only_a_class_loss(
    flavour, labels, losses, make_batch, make_output
) -> None:
    output = make_output(2)
    terms = Criterion(losses, CLASSES, flavour).per_image(output, make_batch(*labels))
    for name, values in terms.items():
        assert (values[1] == 0) == (not name.endswith("class")), name
    sum(values.sum() for values in terms.values()).backward()
    assert all(torch.isfinite(leaf.grad).all() for leaf in leaves(output))


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_more_segments_than_clusters(flavour, losses, make_batch, make_output) -> None:
    output = make_output(1, clusters=2)
    terms = Criterion(losses, CLASSES, flavour)(output, make_batch([0, 1, 2, 3]))
    # TensorFlow keeps the pixels of segments without cluster, at a cost of 1e5 each; PyTorch drops them.
    assert (terms["mask_id"] > 1e3) == (flavour == "tf")
    sum(terms.values()).backward()
    assert all(torch.isfinite(leaf.grad).all() for leaf in leaves(output))


def test_crowd_is_labelled_for_tf_and_void_for_torch(losses, make_batch, make_output) -> None:
    output, plain, crowd = make_output(1), make_batch([0, 1]), make_batch([0, 1], crowd=True)
    differs = {}
    for flavour in FLAVOURS:
        for batch in (plain, crowd):
            torch.manual_seed(0)
            differs[flavour, batch is crowd] = Criterion(losses, CLASSES, flavour)(output, batch)
    for term in ("class", "semantic", "instance_discrimination"):
        assert differs["tf", True][term] != differs["tf", False][term]
        assert differs["torch", True][term] == differs["torch", False][term]
    for term in ("dice", "mask_id"):
        assert differs["tf", True][term] == differs["tf", False][term]


@pytest.mark.parametrize("native", [False, True])
def test_segment_that_a_coarse_layer_cannot_see_is_not_its_fault(
    native, losses, make_batch, make_output
) -> None:
    batch = make_batch([0, 1])
    batch.segments[0, 4:8, 8:12] = 2  # one pixel at stride 4, none at stride 32
    batch = replace(batch, classes=[torch.tensor([0, 1, 2])])
    terms = Criterion(losses.model_copy(update={"native_auxiliary": native}), CLASSES)(make_output(1), batch)
    assert all(torch.isfinite(value) for value in terms.values())


def test_matching_weights_carry_no_gradient(losses, make_batch, make_output) -> None:
    output = make_output(2)
    terms = Criterion(losses, CLASSES)(output, make_batch([0, 1], [2]))
    reached = {
        name: [
            torch.autograd.grad(terms[name], leaf, retain_graph=True, allow_unused=True)[0] is not None
            for leaf in (output.class_logits, output.mask_logits, output.pixel_features)
        ]
        for name in ("class", "dice", "mask_id", "aux0/class", "aux0/dice")
    }
    assert reached == {
        "class": [True, False, False],
        "dice": [False, True, False],
        "mask_id": [False, True, False],
        "aux0/class": [False, False, False],
        "aux0/dice": [False, False, False],
    }


def test_taking_all_pixels_draws_no_random_numbers(losses, make_batch, make_output) -> None:
    def forbidden(logits: torch.Tensor, k: int) -> torch.Tensor:
        raise AssertionError("nothing to draw")

    losses = losses.model_copy(update={"sample_k": 10**6})
    Criterion(losses, CLASSES, sampler=forbidden)(make_output(1), make_batch([0, 1]))


def test_same_seed_same_losses(losses, make_batch, make_output) -> None:
    output, batch, criterion = make_output(2), make_batch([0, 1], [2]), Criterion(losses, CLASSES)
    torch.manual_seed(3)
    first = criterion(output, batch)
    torch.manual_seed(3)
    assert criterion(output, batch) == first
    assert criterion(output, batch) != first


def test_semantic_term_is_absent_without_semantic_logits(losses, make_batch, make_output) -> None:
    output = replace(make_output(1), semantic_logits=None)
    assert "semantic" not in Criterion(losses, CLASSES)(output, make_batch([0]))


def test_half_precision_predictions_are_compared_in_float32(losses, make_batch, make_output) -> None:
    output = make_output(1)
    half = replace(
        output,
        mask_logits=output.mask_logits.bfloat16(),
        class_logits=output.class_logits.bfloat16(),
        pixel_features=output.pixel_features.bfloat16(),
    )
    with torch.autocast("cpu", torch.bfloat16):
        terms = Criterion(losses, CLASSES)(half, make_batch([0, 1]))
    assert all(value.dtype == torch.float32 for value in terms.values())


@pytest.mark.parametrize(
    ("part", "culprit"),
    [
        ("mask_logits", "mask similarity of the matching"),
        ("class_logits", "class probability of the matching"),
    ],
)
def test_cost_that_is_not_finite_names_what_and_which_image(
    part, culprit, losses, make_batch, make_output
) -> None:
    output = make_output(2)
    with torch.no_grad():
        getattr(output, part)[1, 0] = math.nan
    with pytest.raises(NonFiniteLossError, match=f"{culprit} is not finite for image image1:"):
        Criterion(losses, CLASSES)(output, make_batch([0], [1]))


def test_term_that_is_not_finite_names_itself_and_the_image(losses, make_batch, make_output) -> None:
    output = make_output(2)
    with torch.no_grad():
        output.auxiliary[1].class_logits[0, 0] = math.inf
    with pytest.raises(NonFiniteLossError, match="loss term 'aux1/class' is not finite for image image0:"):
        Criterion(losses, CLASSES)(output, make_batch([0], [1]))


def test_wrong_number_of_classes_is_refused(losses, make_batch, make_output) -> None:
    with pytest.raises(ValueError, match="5 class logits, expected 7 classes and void"):
        Criterion(losses, 7)(make_output(1), make_batch([0]))
