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


RAMP, EDGE = np.arange(1.0, 26).reshape(5, 5), [[1, 0, -1]] * 3


def texts_of(figure):
    return [t.get_text() for ax in figure.axes for t in ax.texts] + [t.get_text() for t in figure.texts]


def test_kernel_slide_shows_window_products_sum_and_output():
    slide = plot.kernel_slide(RAMP, EDGE)
    assert len(slide) == 9 and (slide.output == -6).all()
    first = slide.steps[0]
    assert first["window"] == [(r, c) for r in range(3) for c in range(3)] and first["cell"] == (0, 0)
    assert first["products"][:3] == [(1, 1), (2, 0), (3, -1)] and sum(a * k for a, k in first["products"]) == first["total"] == -6
    figure = slide.figure(4)
    shown = texts_of(figure)
    assert shown.count("-6") == 5  # the outputs so far
    assert "step 5 of 9" in shown and any("output(1, 1) = 7·1" in t and t.endswith("= -6") for t in shown)


@pytest.mark.parametrize(
    "options",
    [{"stride": 2, "padding": 1}, {"padding": "same"}, {"padding": "full"}, {"dilation": 2}, {"flip": True, "padding": ((1, 0), (0, 2))}],
)
def test_kernel_slide_computes_what_conv2d_does(options):
    import cnnpy

    slide = plot.kernel_slide(RAMP, [[1, 2], [3, -4]], **options)
    expected = cnnpy.conv2d(RAMP[None, None], np.array([[1.0, 2], [3, -4]])[None, None], **options)[0, 0]
    sums = np.array([sum(a * k for a, k in step["products"]) for step in slide.steps]).reshape(expected.shape)
    np.testing.assert_allclose(sums, expected)
    np.testing.assert_allclose(slide.output, expected)


def test_kernel_slide_scatters():
    import cnnpy

    x, kernel = np.array([[1.0, 2], [3, 4]]), np.array([[1.0, 2, 0], [0, 1, 0], [3, 0, 1]])
    for options in ({"stride": 2, "padding": 1}, {"stride": (1, 2)}, {"dilation": 2}):
        slide = plot.kernel_slide(x, kernel, kind="transposed", **options)
        np.testing.assert_allclose(slide.output, cnnpy.conv_transpose2d(x[None, None], kernel[None, None], **options)[0, 0])
    back = plot.kernel_slide(np.ones((3, 3)), EDGE, kind="backward")
    expected = cnnpy.conv2d_backward(np.ones((1, 1, 3, 3)), RAMP[None, None], np.array(EDGE, float)[None, None]).x[0, 0]
    np.testing.assert_allclose(back.output, expected)
    assert "1 times the kernel is added to the window of (0, 0)" in texts_of(back.figure(0))


def test_kernel_slide_files(tmp_path):
    slide = plot.kernel_slide(RAMP[:3, :3], [[1.0, 1], [1, 1]])
    page = slide._repr_html_()
    assert "<script" in page and "http" not in page and "fa fa-" not in page  # nothing to download
    assert slide.save(tmp_path / "a.html").read_text().startswith("<!doctype html>")
    pytest.importorskip("PIL", reason="it comes with the train extra")
    from PIL import Image

    with Image.open(slide.save(tmp_path / "a.gif")) as picture:
        assert picture.n_frames == 4
    with pytest.raises(ValueError, match=r"path ends in '.bmp'"):
        slide.save(tmp_path / "a.bmp")
    for bad, text in (({"kind": "sideways"}, "kind is 'sideways'"), ({"kind": "backward", "padding": "same"}, "padding is 'same'")):
        with pytest.raises(ValueError, match=text):
            plot.kernel_slide(RAMP, EDGE, **bad)
    with pytest.raises(ValueError, match="x has shape"):
        plot.kernel_slide(np.ones((2, 2, 2)), EDGE)


@pytest.fixture
def network():
    from cnnpy import models

    return models.lenet5(rng=0)


def image():
    return np.random.default_rng(0).standard_normal((1, 28, 28)).astype(np.float32)


def test_feature_maps(ax, network):
    import cnnpy

    plot.feature_maps(network, image(), "0", columns=3, ax=ax)
    sheet = np.asarray(ax.get_images()[0].get_array())
    assert sheet.shape == (2 * 29 - 1, 3 * 29 - 1, 3) and "6 of 6 maps, 28x28" in ax.get_title()
    expected = network[0](cnnpy.Tensor(image()[None]))._data[0, 0]
    np.testing.assert_allclose(sheet[:28, :28, 0], (expected - expected.min()) / np.ptp(expected), atol=1e-6)
    with pytest.raises(ValueError, match=r"layer '11' gives shape \(1, 10\)"):
        plot.feature_maps(network, image(), "11", ax=ax)
    with pytest.raises(ValueError, match="expected one image"):
        plot.feature_maps(network, np.zeros((2, 1, 28, 28)), "0", ax=ax)


def test_saliency_and_grad_cam(ax, network):
    from matplotlib.figure import Figure

    from cnnpy import tools

    x = image()
    heat = tools.saliency(network, x, 3)
    step = 1e-2  # against a difference quotient at one pixel
    moved = x.copy()
    moved[0, 10, 12] += step
    network.eval()
    slope = (network(moved[None])._data[0, 3] - network(x[None])._data[0, 3]) / step
    assert heat[10, 12] == pytest.approx(abs(slope), rel=0.05)
    network.train()
    plot.saliency(network, x, 3, ax=ax)
    np.testing.assert_array_equal(ax.get_images()[0].get_array(), heat)
    other = Figure().subplots()
    plot.grad_cam(network, x, "3", 3, ax=other)
    cam = np.asarray(other.get_images()[1].get_array())
    assert cam.shape == (28, 28) and cam.min() >= 0 and cam.max() == 1
    assert all(p.grad is None for p in network.parameters()) and network.training  # nothing is left behind
    with pytest.raises(ValueError, match="target is 10, expected a class from 0 to 9"):
        tools.saliency(network, x, 10)
    with pytest.raises(ValueError, match=r"layer '9' gives shape"):
        tools.grad_cam(network, x, "9")


def test_receptive_field(ax, network):
    plot.receptive_field(network, image(), (0, 0), ax=ax)
    frame = ax.patches[0]
    assert (frame.get_width(), frame.get_height()) == (16, 16) and (frame.get_x(), frame.get_y()) == (-2.5, -2.5)
    assert "seen by cell (0, 0): 16x16" in [t.get_text() for t in ax.get_legend().get_texts()]
    with pytest.raises(ValueError, match="cell is"):
        plot.receptive_field(network, image(), (99, 0), ax=ax)


def test_attention(ax):
    weights = np.array([[0.75, 0.25], [0, 1]])
    plot.attention(weights, ["a", "b"], ["x", "y"], ax=ax)
    np.testing.assert_array_equal(ax.get_images()[0].get_array(), weights)
    assert [t.get_text() for t in ax.get_xticklabels()] == ["a", "b"] and ax.get_ylabel() == "output step"
    with pytest.raises(ValueError, match="source has 1 names, expected 2"):
        plot.attention(weights, ["a"], ax=ax)


def test_lstm_gates_are_those_of_the_layer():
    from matplotlib.figure import Figure

    import cnnpy
    from cnnpy import nn

    layer, x = nn.LSTM(2, 4, rng=0, dtype="float64"), np.random.default_rng(0).standard_normal((7, 2))
    figure = plot.lstm_gates(layer, x, (1, 3), figure=Figure())
    y, (_, c) = layer(cnnpy.Tensor(x[None]))
    hidden = figure.axes[5].get_lines()
    np.testing.assert_allclose(hidden[0].get_ydata(), y._data[0, :, 1], rtol=1e-12)
    np.testing.assert_allclose(figure.axes[4].get_lines()[1].get_ydata()[-1], c._data[0, 0, 3], rtol=1e-12)
    assert [a.get_ylabel() for a in figure.axes] == ["input gate i", "forget gate f", "candidate g", "output gate o", "cell c", "hidden h"]
    with pytest.raises(ValueError, match="layer is no plain LSTM"):
        plot.lstm_gates(nn.GRU(2, 4), x)
    with pytest.raises(ValueError, match="units is"):
        plot.lstm_gates(layer, x, (9,))


def test_gradient_flow(ax, network):
    from matplotlib.figure import Figure

    with pytest.raises(ValueError, match="source has no gradients"):
        plot.gradient_flow(network, ax=ax)
    network(image()[None]).sum().backward()
    plot.gradient_flow(network, ax=ax)
    first = network[0].weight.grad
    assert ax.patches[0].get_height() == pytest.approx(np.sqrt((first.astype(np.float64) ** 2).sum()))
    assert ax.get_yscale() == "log" and len(ax.patches) == 10
    other = Figure().subplots()
    plot.gradient_flow({"RNN": [1.0, 0.1, 0.01], "LSTM": [1.0, 0.9, 0.8]}, ax=other)
    assert [line.get_label() for line in other.get_lines()] == ["RNN", "LSTM"] and other.get_xlabel() == "steps back"


def test_computation(ax, network):
    import cnnpy
    from cnnpy import optim

    step = cnnpy.compile_step(network, cnnpy.cross_entropy, optim.SGD(network.parameters(), lr=0.1))
    with pytest.raises(TypeError, match="has no program yet"):
        plot.computation(step, ax=ax)
    for _ in range(3):
        step(image()[None], np.array([3]))
    plot.computation(step, ax=ax)
    shown = [t.get_text() for t in ax.texts]
    assert shown.count("conv") == 5 and shown.count("conv '_weight") == 5 and "forward" in shown
    assert ax.get_title() == "then 10 updates of the model's state"
    with pytest.raises(TypeError, match="source is int"):
        plot.computation(3, ax=ax)
