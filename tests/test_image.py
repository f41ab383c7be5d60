import numpy as np
import pytest

from cnnpy import image

X = np.arange(1.0, 26).reshape(5, 5)


@pytest.mark.parametrize(
    ("name", "across", "down", "magnitude"),
    [("sobel", 8, 40, 40.792156109), ("scharr", 32, 160, 163.168624435), ("prewitt", 6, 30, 30.594117082)],
)
def test_m26_gradients(name, across, down, magnitude):
    function = getattr(image, name)
    assert function(X, axis=1)[2, 2] == across and function(X, axis=0)[2, 2] == down
    assert function(X)[2, 2] == pytest.approx(magnitude, abs=1e-9)
    with pytest.raises(ValueError, match=f"{name}: axis is 2"):
        function(X, axis=2)


def test_laplacian_sharpen_box():
    assert image.laplacian(X)[2, 2] == 0
    np.testing.assert_allclose(image.sharpen(X), X - image.laplacian(X), atol=1e-12)
    assert image.box(X)[2, 2] == pytest.approx(13)


def test_gaussian():
    dot = np.zeros((11, 11))
    dot[5, 5] = 1
    line = np.array([0.398943469, 0.241971446, 0.053991127, 0.004431862, 0.000133831])
    np.testing.assert_allclose(image.gaussian(dot)[5, 5:10] / 0.398943469, line, atol=1e-9)
    assert image.gaussian(np.full((9, 9), 3.0), sigma=2.0) == pytest.approx(np.full((9, 9), 3.0))
    with pytest.raises(ValueError, match="sigma is 0"):
        image.gaussian(X, 0)


def test_colours_are_alone_and_scipy_agrees(rng):
    picture = rng.normal(size=(12, 9, 3))
    for name in ("sobel", "laplacian", "box"):
        whole = getattr(image, name)(picture)
        assert whole.shape == picture.shape
        np.testing.assert_array_equal(whole[..., 1], getattr(image, name)(picture[..., 1]))
    from scipy import ndimage  # comes with scikit-learn, which the test extra has

    kernel = rng.normal(size=(3, 5))
    np.testing.assert_allclose(
        image.filter2d(picture[..., 0], kernel), ndimage.correlate(picture[..., 0], kernel, mode="mirror"), atol=1e-12
    )
    np.testing.assert_allclose(
        image.filter2d(picture[..., 0], kernel, flip=True, padding_mode="symmetric"),
        ndimage.convolve(picture[..., 0], kernel, mode="reflect"),
        atol=1e-12,
    )
    np.testing.assert_allclose(
        image.gaussian(picture[..., 2], 1.5, padding_mode="edge"), ndimage.gaussian_filter(picture[..., 2], 1.5, mode="nearest"), atol=1e-9
    )
    assert image.sobel((picture * 50).astype(np.uint8)).dtype == np.float32


def test_bad_pictures():
    for call, error, text in [
        (lambda: image.sobel(np.ones(3)), ValueError, "sobel: image has shape"),
        (lambda: image.filter2d(X, np.ones(3)), ValueError, "filter2d: kernel has shape"),
        (lambda: image.box(X, 0), ValueError, "box: size is 0"),
        (lambda: image.box(X, 1.5), TypeError, "box: size is float"),
        (lambda: image.laplacian(X.astype(complex)), TypeError, "laplacian: image has dtype"),
    ]:
        with pytest.raises(error, match=text):
            call()
