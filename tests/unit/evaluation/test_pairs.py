import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from kmax.compiled import compiled
from kmax.evaluation.panoptic.pairs import Pairs, count_pairs

IDS = st.sampled_from([0, 1, 2, 255, 256, 2**24 - 1])
SHAPES = st.tuples(st.integers(0, 7), st.integers(1, 9))
MAPS = SHAPES.flatmap(
    lambda shape: st.tuples(*(arrays.arrays(np.int32, shape, elements=IDS) for _ in range(2)))
)


@pytest.fixture(scope="module", autouse=True)
def _machine_code() -> None:
    """Generated outside of Hypothesis, which would be slow."""
    for shape in ((1, 1), (1, 1, 3)):
        count_pairs(np.zeros(shape, np.uint8), np.zeros(shape, np.uint8))


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


@settings(max_examples=50, deadline=None)
@given(MAPS, st.integers(1, 20))
def test_colours_are_counted_as_their_ids(maps: tuple[np.ndarray, np.ndarray], width: int) -> None:
    wide = [np.repeat(ids, width, axis=1) for ids in maps]
    colours = [ids.astype("<u4").view(np.uint8).reshape(*ids.shape, 4)[..., :3] for ids in wide]
    assert_same(count_pairs(*colours), count_pairs(*wide))


def test_maps_of_noise_have_more_pairs_than_a_small_table() -> None:
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (2, 60, 70, 3), np.uint8)
    maps = colours.astype(np.int64) @ [1, 256, 65536]
    keys, pixels = np.unique(maps[0] << 24 | maps[1], return_counts=True)
    for pairs in (count_pairs(*colours), count_pairs(*maps)):
        assert_same(pairs, Pairs(keys >> 24, keys & 0xFFFFFF, pixels))


def test_maps_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="shapes"):
        count_pairs(np.zeros((4, 4), np.int32), np.zeros((4, 3), np.int32))


def test_without_a_cache_folder_code_is_compiled_again() -> None:
    nowhere: dict[str, object] = {}
    exec("def successor(x): return x + 1", nowhere)  # noqa: S102 - a function of no file, for which no folder is found
    assert compiled(nowhere["successor"])(2) == 3  # type: ignore[type-var, operator]


def assert_same(pairs: Pairs, expected: Pairs) -> None:
    for ours, theirs in zip(vars(pairs).values(), vars(expected).values(), strict=True):
        assert ours.dtype == np.int64
        np.testing.assert_array_equal(ours, theirs)
