import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from kmax.evaluation.pairs import count_pairs

IDS = st.sampled_from([0, 1, 2, 255, 256, 2**24 - 1])
SHAPES = st.tuples(st.integers(0, 7), st.integers(1, 9))
MAPS = SHAPES.flatmap(
    lambda shape: st.tuples(*(arrays.arrays(np.int32, shape, elements=IDS) for _ in range(2)))
)


@settings(max_examples=100, deadline=None)
@given(MAPS)
def test_pairs_are_those_of_a_plain_count(maps: tuple[np.ndarray, np.ndarray]) -> None:
    truth, predicted = maps
    plain: dict[tuple[int, int], int] = {}
    for key in zip(truth.ravel().tolist(), predicted.ravel().tolist(), strict=True):
        plain[key] = plain.get(key, 0) + 1
    pairs = count_pairs(truth, predicted)
    keys = zip(pairs.truth.tolist(), pairs.predicted.tolist(), strict=True)
    assert list(zip(keys, pairs.pixels.tolist(), strict=True)) == sorted(plain.items())
