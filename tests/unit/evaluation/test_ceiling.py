import numpy as np

from kmax.evaluation.panoptic.ceiling import through_grid


def test_large_regions_survive_the_grid() -> None:
    ids = np.zeros((128, 96), np.int32)
    ids[:64, :48], ids[64:, :48], ids[:, 48:] = 7, 300, 2**24 - 1
    back = through_grid(ids, (129, 129))
    assert set(np.unique(back)) == {7, 300, 2**24 - 1}
    assert (back == ids).mean() > 0.98


def test_details_finer_than_the_grid_are_lost() -> None:
    ids = np.full((129, 129), 1, np.int32)
    ids[:, 65:67] = 2
    assert set(np.unique(through_grid(ids, (129, 129)))) == {1}


def test_padding_is_cropped_for_any_aspect() -> None:
    ids = np.full((31, 120), 5, np.int32)
    back = through_grid(ids, (129, 65))
    assert back.shape == ids.shape
    assert (back == 5).mean() > 0.9
