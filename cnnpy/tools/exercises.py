"""The exercises of the notebooks: what is right, and what wrong answers usually mean."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnpy import functional as F

__all__ = ["Checked", "check_exercise"]


class Checked:
    """Whether an answer is right, and a sentence about it; printed where it is the last value of a cell."""

    def __init__(self, right, text):
        self.right, self.text = right, text

    def __bool__(self):
        return self.right

    def __repr__(self):
        return f"{'right' if self.right else 'not yet'}: {self.text}"


RAMP = np.arange(1.0, 26).reshape(5, 5)
EDGE = np.array([[1.0, 0, -1]] * 3)


def _conv(x, w, **options):
    return F.conv2d(x[None, None], w[None, None], **options)[0, 0]


def _pool_gradient(where):
    x = np.array([[1.0, 3, 2, 2], [4, 2, 0, 5], [7, 1, 6, 6], [0, 2, 6, 1]])
    dy = np.array([[1.0, 2], [3, 4]])
    if where == "all":
        return np.kron(dy, np.full((2, 2), 0.25))
    found = np.zeros((4, 4))
    for i in range(2):
        for j in range(2):
            block = x[2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
            hits = np.argwhere(block == block.max())
            for r, c in hits[:1] if where == "first" else hits:
                found[2 * i + r, 2 * j + c] = dy[i, j]
    return found


def _lstm_step(forget):
    i, f, g, o = 1 / (1 + np.exp(-0.0)), 1 / (1 + np.exp(-2.0)), np.tanh(1.0), 1 / (1 + np.exp(-1.0))
    c = (f * 0.5 if forget else 0.0) + i * g
    return np.array([c, o * np.tanh(c)])


def _attention(scale):
    q, k, v = np.array([[1.0, 0]]), np.array([[1.0, 0], [0, 1]]), np.array([[2.0, 0], [0, 4]])
    s = q @ k.T / (np.sqrt(2) if scale else 1.0)
    p = np.exp(s) / np.exp(s).sum()
    return (p @ v)[0]


# number: (what is asked, the answer, [(a usual wrong answer, what it means)]); answers are made when they are asked for.
_EXERCISES: dict[str, tuple[str, Any, list]] = {
    "01": (
        "the true convolution of the ramp with the rows (1, 0, -1)",
        lambda: _conv(RAMP, EDGE, flip=True),
        [(lambda: _conv(RAMP, EDGE), "this is the cross-correlation; a convolution turns the kernel by 180 degrees first")],
    ),
    "02": (
        "height and width of the result for 32x48, kernel 5, stride 2, padding 1 on all sides",
        lambda: np.array([15, 23]),
        [
            (lambda: np.array([14.5, 22.5]), "round down: a window that hangs over the end does not count"),
            (lambda: np.array([14, 22]), "the padding counts on both sides"),
            (lambda: np.array([16, 24]), "the last + 1 is there already"),
        ],
    ),
    "03": (
        "how many parameters a layer of 64 filters of 3x3 on 32 channels has, with biases",
        lambda: 64 * 32 * 9 + 64,
        [
            (lambda: 64 * 32 * 9, "the biases are missing, one a filter"),
            (lambda: 64 * 9 + 64, "every filter has a slice of weights for each of the 32 channels"),
        ],
    ),
    "04": (
        "a 3x3 kernel that sharpens: the identity minus the Laplacian with four neighbours",
        lambda: np.array([[0.0, -1, 0], [-1, 5, -1], [0, -1, 0]]),
        [
            (lambda: np.array([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]]), "this is the Laplacian alone: it finds edges and loses the picture"),
            (lambda: np.array([[0.0, 1, 0], [1, -3, 1], [0, 1, 0]]), "the Laplacian is added here; that blurs: subtract it"),
        ],
    ),
    "05": (
        "max pooling 2x2 of [[1, 3, 2, 2], [4, 2, 0, 5], [7, 1, 6, 6], [0, 2, 6, 1]]",
        lambda: np.array([[4.0, 5], [7, 6]]),
        [(lambda: np.array([[2.5, 2.25], [2.5, 4.75]]), "these are the means")],
    ),
    "06": (
        "the gradient of max pooling 2x2 of that array for dy = [[1, 2], [3, 4]]",
        lambda: _pool_gradient("first"),
        [
            (lambda: _pool_gradient("ties"), "where two cells are equal, the first in scan order alone gets the gradient"),
            (lambda: _pool_gradient("all"), "these are the shares of average pooling"),
        ],
    ),
    "07": (
        "height of a transposed convolution's result for 7 cells, kernel 4, stride 2, padding 1",
        lambda: 14,
        [
            (lambda: 3, "this is the size of the convolution; the transposed one goes the other way"),
            (lambda: 16, "padding takes cells away here, on both sides"),
        ],
    ),
    "08": (
        "the receptive field of three 3x3 convolutions with strides 1, 2, 1",
        lambda: 9,
        [
            (lambda: 7, "behind a stride of 2 a step in the map is two steps in the input"),
            (lambda: 11, "the stride counts for the layers behind it only"),
        ],
    ),
    "09": (
        "the number of parameters of LeNet-5: convolutions 1->6 and 6->16 of 5x5, dense layers 400->120->84->10",
        lambda: 61706,
        [(lambda: 61470, "the biases are missing")],
    ),
    "10": (
        "what local response normalisation makes of the channel values (0, 2, 0) in the middle: size 3, alpha 3, beta 0.5, k 0",
        lambda: 1.0,
        [(lambda: 2 / np.sqrt(12), "alpha is divided by the size before it multiplies the sum of squares")],
    ),
    "11": (
        "weights of two 3x3 layers and of one 5x5 layer, C channels in and out, as multiples of C*C",
        lambda: np.array([18, 25]),
        [(lambda: np.array([9, 25]), "two layers have twice the weights of one")],
    ),
    "12": (
        "the result of a residual block with all weights zero and a ReLU at its end for x = (-2, 0, 3)",
        lambda: np.array([0.0, 0, 3]),
        [
            (
                lambda: np.array([-2.0, 0, 3]),
                "the ReLU behind the addition takes negative values away: the block is the identity for x >= 0 only",
            )
        ],
    ),
    "13": (
        "the hidden state of h = tanh(x + h/2) after the inputs 1, 0, from h = 0",
        lambda: np.tanh(np.tanh(1.0) / 2),
        [(lambda: np.tanh(1.0), "this is the state after the first input")],
    ),
    "14": (
        "c and h of an LSTM cell: gate sums i = 0, f = 2, g = 1, o = 1, old c = 0.5",
        lambda: _lstm_step(True),
        [(lambda: _lstm_step(False), "the old cell state is kept by the forget gate: c = f c + i g")],
    ),
    "15": (
        "the cross-entropy in nats of a uniform guess among 65 characters",
        lambda: np.log(65.0),
        [(lambda: np.log2(65.0), "these are bits; a nat uses the natural logarithm")],
    ),
    "16": (
        "scaled dot-product attention of q = (1, 0) to keys (1, 0), (0, 1) with values (2, 0), (0, 4)",
        lambda: _attention(True),
        [(lambda: _attention(False), "scores are divided by the root of the width, here 2")],
    ),
    "17": (
        "the class activation map of maps A1 = [[1, 0], [0, 2]], A2 = [[0, 3], [1, 0]] with mean gradients 1 and -1, before it is scaled",
        lambda: np.array([[1.0, 0], [0, 2]]),
        [(lambda: np.array([[1.0, -3], [-1, 2]]), "what speaks against the class does not count: take the positive part")],
    ),
    "18": (
        "nearest interpolation of [[1, 2], [3, 4]] to 4x4, which is no pooling",
        lambda: np.kron(np.array([[1.0, 2], [3, 4]]), np.ones((2, 2))),
        [],
    ),
    "19": (
        "multiplications a channel pair and 4x4 block of outputs: direct, and by Winograd's F(4x4, 3x3)",
        lambda: np.array([144, 36]),
        [(lambda: np.array([144, 16]), "16 are the outputs; the transformed tile has 6x6 points")],
    ),
    "20": (
        "the gradient over all samples of two ranks: 3 samples with mean gradient 2, and 1 with 6",
        lambda: 3.0,
        [(lambda: 4.0, "ranks count by their samples: (3*2 + 1*6) / 4")],
    ),
}


def check_exercise(number, answer):
    """Looks at an answer to a notebook's exercise.

    Parameters
    ----------
    number : str
        That of the notebook, '01' to '20'.
    answer : array_like

    Returns
    -------
    Checked
        True where right. Its text says what is wrong otherwise: the shape, a usual mistake, or the first cell that differs.

    Raises
    ------
    ValueError
        A number without an exercise.

    Examples
    --------
    >>> from cnnpy.tools import check_exercise
    >>> check_exercise("03", 64 * 32 * 9)
    not yet: the biases are missing, one a filter
    >>> check_exercise("03", 64 * 32 * 9 + 64)
    right: how many parameters a layer of 64 filters of 3x3 on 32 channels has, with biases
    """
    if number not in _EXERCISES:
        raise ValueError(f"check_exercise: number is {number!r}, expected one of {', '.join(_EXERCISES)}")
    asked, solve, mistakes = _EXERCISES[number]
    if answer is None:
        return Checked(False, f"no answer yet; asked is {asked}")
    try:
        given = np.asarray(answer, np.float64)
    except (TypeError, ValueError):
        return Checked(False, f"the answer is {type(answer).__name__}, expected numbers: {asked}")
    expected = np.asarray(solve(), np.float64)

    def same(other):
        other = np.asarray(other, np.float64)
        return given.shape == other.shape and np.allclose(given, other, rtol=1e-4, atol=1e-6)

    if same(expected):
        return Checked(True, asked)
    for wrong, meaning in mistakes:
        if same(wrong()):
            return Checked(False, meaning)
    if given.shape != expected.shape:
        return Checked(False, f"the answer has shape {given.shape}, expected {expected.shape}: {asked}")
    if not given.shape:
        return Checked(False, f"{float(given):g} is too {'large' if given > expected else 'small'}")
    cell = tuple(int(i) for i in np.argwhere(~np.isclose(given, expected, rtol=1e-4, atol=1e-6))[0])
    return Checked(False, f"the first cell that is wrong is {cell if len(cell) > 1 else cell[0]}")
