"""Every loss term, its gradient and the matching against values recorded from bytedance/kmax-deeplab."""

from pathlib import Path

import numpy as np
import pytest
import torch
from losses_golden import CARRIED, TORCH_CARRIED, TORCH_CASES, TORCH_TERMS, Case, torch_case, torch_term

from kmax.losses import Criterion
from kmax.losses.loss_terms import log_probabilities
from kmax.losses.matching import mask_similarity, match
from kmax.losses.sampling import sample_logits
from kmax.losses.targets import GroundTruth
from kmax.model.output import Output


@pytest.fixture(
    params=[f"carried-{name}" for name in TORCH_CARRIED] + [f"shared-{name}" for name in TORCH_CASES]
)
def case(request: pytest.FixtureRequest) -> Case:
    source, name = request.param.split("-")
    folder = (
        CARRIED / "torch"
        if source == "carried"
        else Path(request.getfixturevalue("golden")) / "torch_reference"
    )
    return torch_case(folder, name)


def terms_of(case: Case) -> dict[str, torch.Tensor]:
    criterion = Criterion(case.losses, case.num_classes, "torch", sampler=case.sampler)
    if case.record["share_final_matching"]:
        return criterion(case.output, case.batch)
    # Recorded with a matching of its own for each layer: the same as taking each layer for a final output.
    terms = criterion(Output(**{**vars(case.output), "auxiliary": []}), case.batch)
    for index, layer in enumerate(case.output.auxiliary):
        alone = Output(layer.class_logits, layer.mask_logits, layer.pixel_features, None, [])
        terms |= {f"aux{index}/{name}": value for name, value in criterion(alone, case.batch).items()}
    return terms


def test_terms_equal_the_recorded_ones(case: Case) -> None:
    terms = terms_of(case)
    assert terms.keys() == case.expected.keys()
    for name, expected in case.expected.items():
        assert terms[name].item() == pytest.approx(expected, rel=1e-5), name


def test_gradients_equal_the_recorded_ones(case: Case) -> None:
    terms = terms_of(case)
    inputs = {torch_term(key): leaves for key, leaves in case.record["grads"].items()}
    names = {ours: theirs for theirs, ours in TORCH_TERMS.items()}
    for term, leaves in inputs.items():
        prefix, _, base = term.rpartition("/")
        for leaf, norms in leaves.items():
            tensor = case.leaves[f"{prefix}/" if prefix else "", leaf]
            (gradient,) = torch.autograd.grad(terms[term], tensor, retain_graph=True)
            gradient = gradient.double()
            assert gradient.norm().item() == pytest.approx(norms["l2"], rel=1e-5), term
            assert gradient.abs().sum().item() == pytest.approx(norms["sum_abs"], rel=1e-5), term
            if not prefix:
                recorded = case.arrays[f"grad/{names[base]}/{leaf}"]
                scale = float(np.abs(recorded).max())
                np.testing.assert_allclose(
                    gradient.flatten()[::37].numpy(), recorded, rtol=1e-4, atol=1e-5 * scale
                )


def test_matching_is_the_recorded_one(case: Case) -> None:
    size = tuple(case.output.mask_logits.shape[2:])
    truth = GroundTruth(case.batch, "torch")
    probabilities = log_probabilities(case.output.mask_logits.detach()).exp()
    similarity = mask_similarity(probabilities, truth.at(size))
    matching = match(case.output.class_logits.detach(), probabilities, truth, size, case.batch.image_ids)
    recorded = case.record["matching"][0]
    for image in range(case.record["batch"]):
        expected = dict(zip(recorded["gt"][image], recorded["pred"][image], strict=True))
        found = {m: int(n) for m, n in enumerate(matching.cluster[image]) if n >= 0}
        assert found == expected
        theirs = case.arrays[f"matcher{image}/mask_similarity"].T
        np.testing.assert_allclose(similarity[image, : len(theirs)].numpy(), theirs, rtol=1e-5, atol=1e-7)


def test_class_weights_equal_the_recorded_ones(case: Case) -> None:
    size = tuple(case.output.mask_logits.shape[2:])
    truth = GroundTruth(case.batch, "torch")
    probabilities = log_probabilities(case.output.mask_logits.detach()).exp()
    matching = match(case.output.class_logits.detach(), probabilities, truth, size, case.batch.image_ids)
    labels = torch.from_numpy(case.arrays["processed/labels"]).long()
    assert torch.equal(matching.class_target.argmax(2), labels)
    share = torch.where(labels == case.num_classes, 0.25, 0.75)
    weight = torch.from_numpy(case.arrays["processed/pq_loss_class_weight"])
    torch.testing.assert_close(matching.class_weight / share, weight, rtol=1e-5, atol=1e-8)
    targets = truth.at(size)
    void = torch.from_numpy(case.arrays["processed/pixel_gt_void_mask"]).flatten(1)
    assert torch.equal(targets.void, void)
    odds = torch.from_numpy(case.arrays["processed/inverse_gt_mask_area"]).flatten(1)
    torch.testing.assert_close(sample_logits(targets, 1.0)[~void].exp(), odds[~void], rtol=1e-5, atol=0)
