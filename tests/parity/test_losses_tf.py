"""Every loss term and the matching against values recorded from deeplab2 (TensorFlow)."""

from pathlib import Path

import pytest
import torch
from losses_golden import CARRIED, TF_CARRIED, TF_CASES, Case, tf_case

from kmax.losses import Criterion
from kmax.losses.loss_terms import log_probabilities
from kmax.losses.matching import match
from kmax.losses.sampling import sample_logits
from kmax.losses.targets import GroundTruth


@pytest.fixture(params=[f"carried-{name}" for name in TF_CARRIED] + [f"shared-{name}" for name in TF_CASES])
def case(request: pytest.FixtureRequest) -> Case:
    source, name = request.param.split("-")
    folder = (
        CARRIED / "tf" if source == "carried" else Path(request.getfixturevalue("golden")) / "tf_reference"
    )
    return tf_case(folder, name)


def test_terms_of_each_image_equal_the_recorded_ones(case: Case) -> None:
    terms = Criterion(case.losses, case.num_classes, "tf", sampler=case.sampler).per_image(
        case.output, case.batch
    )
    assert terms.keys() == case.expected.keys()
    for name, expected in case.expected.items():
        torch.testing.assert_close(
            terms[name], torch.tensor(expected), rtol=1e-5, atol=0, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_matching_is_the_recorded_one(case: Case) -> None:
    size = tuple(case.output.mask_logits.shape[2:])
    truth = GroundTruth(case.batch, "tf")
    probabilities = log_probabilities(case.output.mask_logits).exp()
    matching = match(case.output.class_logits, probabilities, truth, size, case.batch.image_ids)
    clusters = case.output.class_logits.shape[1]
    for image, row_slots in enumerate(case.arrays["matched_slot_of_gt"]):
        areas = case.arrays["gt_area_at_output"][image]
        for row, slot in enumerate(row_slots):
            if areas[row]:
                segment = case.segment_of_row[image][row]
                assert truth.at(size).areas[image, segment] == areas[row]
                expected = slot if slot >= 0 else clusters
                assert matching.cluster[image, segment] == expected
        assert (matching.cluster[image] >= 0).sum() == (areas > 0).sum()


def test_odds_of_drawing_a_pixel_are_the_recorded_ones(case: Case) -> None:
    targets = GroundTruth(case.batch, "tf").at(tuple(case.output.mask_logits.shape[2:]))
    logits = sample_logits(targets, case.losses.sample_temperature)
    torch.testing.assert_close(logits, case.sample_logits, rtol=1e-5, atol=1e-5)
