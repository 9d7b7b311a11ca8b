"""Weights of the wrong kind that are passed in Python give a one-line error."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_originals import ARGUMENTS, NAME, shrink, weights

from kmax.errors import InputError
from kmax.model.create import create_model
from kmax.model.kmax import KMaX
from kmax.porting import convert_tf, convert_torch_reference

CONVERT = {"tf": convert_tf, "torch": convert_torch_reference}


@pytest.fixture(scope="module")
def small():
    """(model, weights) per flavour."""
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        yield {
            flavour: (create_model(NAME, flavour=flavour, **ARGUMENTS), weights(flavour))
            for flavour in CONVERT
        }


def fault(flavour: str, source: object, model: KMaX) -> str:
    with pytest.raises(InputError) as caught:
        CONVERT[flavour](source, model)
    assert len(caught.value.faults) == 1
    return caught.value.faults[0]


@pytest.mark.parametrize(("flavour", "other"), [("tf", "torch"), ("torch", "tf")])
def test_weights_of_the_other_original_are_refused_naming_the_right_function(small, flavour, other):
    words = {"tf": "the TensorFlow original", "torch": "the PyTorch original"}[other]
    function = CONVERT[other].__name__
    for model, _ in small.values():
        line = fault(flavour, small[other][1], model)
        assert f"look like weights of {words}" in line
        assert function in line


@pytest.mark.parametrize("flavour", ["tf", "torch"])
def test_weights_of_this_project_need_no_conversion(small, flavour):
    model, _ = small[flavour]
    assert "weights of this project; load them with load_state_dict" in fault(
        flavour, model.state_dict(), model
    )


@pytest.mark.parametrize("flavour", ["tf", "torch"])
def test_a_model_of_the_other_flavour_is_refused(small, flavour):
    other = {"tf": "torch", "torch": "tf"}[flavour]
    line = fault(flavour, small[flavour][1], small[other][0])
    assert f"created with flavour '{other}'" in line
    assert f"create it with flavour='{flavour}'" in line


@pytest.mark.parametrize("flavour", ["tf", "torch"])
def test_another_model_is_refused(small, flavour):
    model, found = small[flavour]
    wrapped = torch.nn.DataParallel(model)
    line = fault(flavour, found, wrapped)
    assert "expected a model made by kmax.create_model, found DataParallel" in line


@pytest.mark.parametrize("flavour", ["tf", "torch"])
def test_wrapped_and_prefixed_weights_are_refused_naming_the_wrapper(small, flavour):
    model, found = small[flavour]
    assert "are under the key 'model'" in fault(flavour, {"model": found, "iteration": 3}, model)
    prefix = {"tf": "model/", "torch": "module."}[flavour]
    line = fault(flavour, {prefix + name: value for name, value in found.items()}, model)
    assert f"with the prefix '{prefix}' of a wrapper" in line


@pytest.mark.parametrize("flavour", ["tf", "torch"])
def test_input_that_is_not_a_mapping_of_names_is_refused(small, flavour):
    model, found = small[flavour]
    assert "expected a mapping from names to arrays, found list" in fault(flavour, list(found), model)
    assert "the key 3 is not a string" in fault(flavour, {3: 4}, model)
    assert "contains no tensors" in fault(flavour, {}, model)
    assert "'stem.weight') match neither" in fault(flavour, {"stem.weight": np.zeros(3)}, model)


@pytest.mark.parametrize("flavour", ["tf", "torch"])
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda array: array.tolist(), "expected an array or tensor, found list"),
        (lambda array: None, "expected an array or tensor, found NoneType"),
        (lambda array: array.astype(object), "type object, but the model needs a floating-point type"),
        (lambda array: array.astype("U8"), "type str256, but the model needs a floating-point type"),
        (lambda array: array.astype(int), "type int64, but the model needs a floating-point type"),
        (lambda array: array.astype(np.longdouble), "type float128, but the model needs at most 64 bits"),
        (lambda array: torch.from_numpy(array).int(), "type torch.int32, but the model needs"),
    ],
)
def test_values_that_are_not_numeric_arrays_are_named(small, flavour, make, words):
    model, found = small[flavour]
    name = sorted(found)[0]
    assert fault(flavour, found | {name: make(found[name])}, model).startswith(f"{name}: {words}")


def test_arrays_of_any_layout_are_taken(small):
    model, found = small["tf"]
    expected = convert_tf(found, model)
    foreign = {name: np.flip(np.flip(array.astype(">f8"))) for name, array in found.items()}
    for name, tensor in convert_tf(foreign, model).items():
        assert torch.equal(tensor, expected[name])
