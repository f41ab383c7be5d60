import numpy as np
import pytest

from cnnpy import plot, train

pytest.importorskip("matplotlib", reason="it comes with the plot extra")


@pytest.fixture
def ax():
    from matplotlib.figure import Figure

    return Figure().subplots()


def test_training_curves(ax):
    history = train.History([{"epoch": 1, "loss": 0.5, "val_loss": 0.6}, {"epoch": 2, "loss": 0.25, "val_loss": None}])
    assert plot.training_curves(history, ax=ax) is ax
    training, validation = ax.get_lines()
    assert training.get_xydata().tolist() == [[1, 0.5], [2, 0.25]] and validation.get_xydata().tolist() == [[1, 0.6]]
    assert ax.get_xlabel() == "epoch" and ax.get_ylabel() == "loss"
    with pytest.raises(ValueError, match="metric is 'nothing', expected one of epoch, loss, val_loss"):
        plot.training_curves(history, "nothing", ax=ax)


def test_confusion_matrix(ax):
    matrix = np.array([[8, 2], [0, 5]])
    plot.confusion_matrix(matrix, ["a", "b"], ax=ax)
    np.testing.assert_allclose(ax.get_images()[0].get_array(), [[0.8, 0.2], [0, 1]])
    assert sorted(t.get_text() for t in ax.texts) == ["2", "5", "8"] and [t.get_text() for t in ax.get_yticklabels()] == ["a", "b"]
    for bad, names, text in ((np.zeros((2, 3)), None, "shape"), (matrix, ["a"], "classes has 1 names, expected 2")):
        with pytest.raises(ValueError, match=text):
            plot.confusion_matrix(bad, names, ax=ax)


def test_filters_are_scaled_each_to_its_own_range(ax):
    weight = np.zeros((2, 1, 2, 2))
    weight[0, 0, 0, 0], weight[1, 0, 1, 1] = 4, -0.5
    plot.filters(weight, columns=2, ax=ax)
    sheet = np.asarray(ax.get_images()[0].get_array())
    assert sheet.shape == (2, 5, 3) and sheet[0, 0, 0] == 1 and sheet[1, 4, 0] == 0 and sheet[1, 0, 0] == 0.5
    with pytest.raises(ValueError, match="weight has shape"):
        plot.filters(weight[0], ax=ax)


def test_image_grid(ax):
    plot.image_grid(np.full((3, 1, 2, 2), 255, np.uint8), columns=2, ax=ax)
    sheet = np.asarray(ax.get_images()[0].get_array())
    assert sheet.shape == (5, 5, 3) and (sheet == 1).all()
    with pytest.raises(ValueError, match="images has shape"):
        plot.image_grid(np.zeros((2, 2)), ax=ax)


def test_a_new_figure_is_made():
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    ax = plot.image_grid(np.zeros((1, 3, 4, 4)))
    assert ax.figure in [plt.figure(n) for n in plt.get_fignums()]
    plt.close("all")
