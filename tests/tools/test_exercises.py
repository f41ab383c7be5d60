"""Every exercise of the notebooks accepts the right answer and says what is wrong with others."""

import numpy as np
import pytest

from cnnpy.tools import check_exercise
from cnnpy.tools.exercises import _EXERCISES


@pytest.mark.parametrize("number", _EXERCISES)
def test_right_and_usual_wrong_answers(number):
    asked, solve, mistakes = _EXERCISES[number]
    right = np.asarray(solve(), np.float64)
    assert check_exercise(number, right) and check_exercise(number, right.tolist()).text == asked
    for wrong, meaning in mistakes:
        found = check_exercise(number, wrong())
        assert not found and found.text == meaning
    other = right.copy()
    other.flat[-1] += 100
    text = check_exercise(number, other).text
    assert "is too large" in text if not right.shape else "the first cell that is wrong" in text
    assert "has shape (3, 3, 3)" in check_exercise(number, np.zeros((3, 3, 3))).text
    assert "no answer yet" in check_exercise(number, None).text
    assert "expected numbers" in check_exercise(number, "seven").text


def test_there_is_one_for_each_notebook():
    assert list(_EXERCISES) == [f"{i:02d}" for i in range(1, 21)]
    with pytest.raises(ValueError, match="number is '21'"):
        check_exercise("21", 0)


def test_answers_that_have_functions_are_what_these_compute():
    import cnnpy
    from cnnpy import functional as F
    from cnnpy import models, nn, tools

    expected = {n: np.asarray(e[1](), np.float64) for n, e in _EXERCISES.items()}
    x = np.array([[1.0, 3, 2, 2], [4, 2, 0, 5], [7, 1, 6, 6], [0, 2, 6, 1]])[None, None]
    dy = np.array([[1.0, 2], [3, 4]])[None, None]
    small = np.array([[1.0, 2], [3, 4]])[None, None]
    found = {
        "02": tools.output_shape((32, 48), 5, stride=2, padding=1),
        "03": sum(p.size for p in nn.Conv2d(32, 64, 3).parameters()),
        "05": F.max_pool2d(x, 2)[0, 0],
        "06": F.max_pool2d_backward(dy, x, 2).x[0, 0],
        "07": tools.output_shape(7, 4, stride=2, padding=1, transposed=True),
        "08": tools.receptive_field(nn.Sequential(nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 3, 2), nn.Conv2d(1, 1, 3)), (1, 32, 32)).size[0],
        "09": sum(p.size for p in models.lenet5().parameters()),
        "10": F.local_response_norm(np.array([0.0, 2, 0]).reshape(1, 3, 1, 1), 3, alpha=3.0, beta=0.5, k=0.0)[0, 1, 0, 0],
        "16": F.scaled_dot_product_attention(np.array([[[[1.0, 0]]]]), np.eye(2)[None, None], np.diag([2.0, 4])[None, None])[0, 0, 0],
        "18": F.interpolate(small, scale_factor=2, mode="nearest")[0, 0],
    }
    for number, value in found.items():
        np.testing.assert_allclose(np.asarray(value, np.float64), expected[number], rtol=1e-9, err_msg=number)
    block = nn.Residual(nn.Conv2d(1, 1, 1, rng=0), activation=nn.ReLU())
    block.body.weight.data = block.body.weight.data * 0
    block.body.bias.data = block.body.bias.data * 0
    values = np.array([-2.0, 0, 3], np.float32).reshape(1, 1, 1, 3)
    np.testing.assert_allclose(block(cnnpy.Tensor(values))._data.ravel(), expected["12"])


def test_the_lstm_step_by_hand():
    """c = f c + i g and h = o tanh(c), with the numbers of the exercise: i of 0, f of 2, g of 1, o of 1, c of 0.5."""
    from cnnpy.tools import exercises

    i, f, g, o = 0.5, 0.8807970779778823, 0.7615941559557649, 0.7310585786300049
    c = f * 0.5 + i * g
    np.testing.assert_allclose(exercises._lstm_step(True), [c, o * np.tanh(c)], rtol=1e-12)
    np.testing.assert_allclose(exercises._lstm_step(False), [i * g, o * np.tanh(i * g)], rtol=1e-12)


@pytest.mark.parametrize(
    ("number", "right", "wrong"),
    [
        ("01", np.full((3, 3), 6.0), [np.full((3, 3), -6.0)]),
        ("03", 18496, [18432, 640]),
        ("06", [[0, 0, 0, 0], [1, 0, 0, 2], [3, 0, 4, 0], [0, 0, 0, 0]], [[[0, 0, 0, 0], [1, 0, 0, 2], [3, 0, 4, 4], [0, 0, 4, 0]], np.kron([[1, 2], [3, 4]], np.full((2, 2), 0.25))]),
        ("10", 1, [1 / 3**0.5]),
        ("11", [18, 25], [[9, 25]]),
        ("13", 0.36339948438905245, [0.7615941559557649]),
        ("15", 4.174387269895637, [6.022367813028454]),
        ("16", [1.3395230986533138, 1.3209538026933725], [[1.4621171572600098, 1.0757656854799804]]),
        ("19", [144, 36], [[144, 16]]),
        ("20", 3, [4]),
    ],
)  # fmt: skip
def test_numbers_worked_out_by_hand(number, right, wrong):
    _, solve, mistakes = _EXERCISES[number]
    np.testing.assert_allclose(solve(), right, rtol=1e-12)
    assert len(mistakes) == len(wrong)
    for (make, _), value in zip(mistakes, wrong, strict=True):
        np.testing.assert_allclose(make(), value, rtol=1e-12)
