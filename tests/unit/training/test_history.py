import copy

from kmax.training.training_log import History


def test_a_row_is_the_mean_since_the_row_before_and_the_last_step_makes_one() -> None:
    history = History(every=2, steps=3)
    assert history.step(1, 0.5, {"class": 1.0, "dice": 2.0}, 0.25) is None
    row = history.step(2, 0.25, {"class": 3.0, "dice": 4.0}, 0.25)
    assert row == {
        "step": 2,
        "learning_rate": 0.25,
        "loss/total": 5.0,
        "loss/class": 2.0,
        "loss/dice": 3.0,
        "seconds": 0.5,
    }
    assert history.step(3, 0.125, {"class": 5.0, "dice": 6.0}, 0.25) is not None
    assert history.csv() == (
        "step,learning_rate,loss/total,loss/class,loss/dice,seconds\n2,0.25,5,2,3,0.5\n3,0.125,11,5,6,0.75\n"
    )


def test_it_goes_on_between_rows_as_if_never_interrupted() -> None:
    straight, first, second = (History(every=3, steps=6) for _ in range(3))
    for step in range(1, 7):
        straight.step(step, 0.1, {"class": 1 / step}, 1.0)
        (first if step <= 2 else second).step(step, 0.1, {"class": 1 / step}, 1.0)
        if step == 2:
            second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert second.csv() == straight.csv()
