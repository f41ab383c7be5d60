import numpy as np
import pytest

from cnnpy import data


def test_text(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("hello wörld", encoding="utf-8")
    found = data.text(path)
    assert len(found) == 11 and found.decode(found.ids) == "hello wörld" and found.characters == sorted(set("hello wörld"))
    assert found.encode("low").tolist() == [found.characters.index(c) for c in "low"] and "11 characters" in repr(found)
    with pytest.raises(ValueError, match="'z' is not a character"):
        found.encode("z")
    path.write_bytes(b"ab\xff")
    with pytest.raises(ValueError, match="is not UTF-8: invalid start byte at byte 2"):
        data.text(path)
    path.write_bytes(b"")
    for bad, text in ((path, "is empty"), (tmp_path, "is not a file")):
        with pytest.raises(ValueError, match=text):
            data.text(bad)
    path.write_text("abc")
    with pytest.raises(ValueError, match="more than the 2 allowed"):
        data.text(path, max_bytes=2)


def test_series(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("month,value\n1,2.5\n2,-1e3\n")
    np.testing.assert_array_equal(data.series(path), [2.5, -1000])
    np.testing.assert_array_equal(data.series(path, "month"), [1, 2])
    for content, text in [
        ("a\n", "has 1 lines"),
        ("a,b\n1,x\n", "no number in column -1 of line 2"),
        ("a\nnan\n", "holds nan in line 2"),
        ("a,b\n1,2\n", None),
    ]:
        path.write_text(content)
        with pytest.raises(ValueError, match=text or "has columns a, b, expected 'c'"):
            data.series(path, "c" if text is None else -1)


def test_windows():
    x, y = data.windows(np.arange(6.0), 3)
    np.testing.assert_array_equal(x, [[0, 1, 2], [1, 2, 3], [2, 3, 4]])
    np.testing.assert_array_equal(y, [3, 4, 5])
    x, y = data.windows(np.arange(6.0), 3, ahead=2)
    np.testing.assert_array_equal(y, [4, 5])
    with pytest.raises(ValueError, match="expected at least 7 values"):
        data.windows(np.arange(6.0), 6)


@pytest.mark.shared
def test_the_real_files(shared):
    assert len(data.series(shared / "series" / "airline-passengers.csv")) == 144
    assert len(data.series(shared / "series" / "daily-min-temperatures.csv")) == 3650
    assert len(data.text(shared / "text" / "tinyshakespeare.txt").characters) == 65


def test_forecasting_scales_by_the_training_part_alone():
    """What comes later changes nothing: neither the scale nor the training windows."""
    values = np.arange(100.0) % 7 + 5
    later = values.copy()
    later[70:] *= 1000
    a, b = data.Forecasting(values, 6), data.Forecasting(later, 6)
    assert (a.mean, a.deviation) == (b.mean, b.deviation) == (values[:70].mean(), values[:70].std())
    assert np.array_equal(a.train.x, b.train.x) and not np.array_equal(a.test.x, b.test.x)
    assert [len(p) for p in (a.train, a.validation, a.test)] == [64, 10, 20] and a.train.x.shape == (64, 6, 1)
    np.testing.assert_allclose(a.unscale(a.train.x[3, :, 0]), values[3:9], rtol=1e-6)
    np.testing.assert_allclose(a.unscale(a.test.y[:, 0]), values[80:], rtol=1e-6)
    assert a.error(a.test.y) < 1e-5 and a.seasonal_error(7) == 0 and a.seasonal_error(1) > 1
    grows = data.Forecasting(np.exp(np.arange(60) / 10), 5)
    assert grows.logarithm and not a.logarithm
    np.testing.assert_allclose(grows.unscale(grows.scale(np.array([2.0, 9.0]))), [2, 9], rtol=1e-5)
    for call, why in (
        (lambda: data.Forecasting(values, 90), "too few for windows of 90"),
        (lambda: data.Forecasting(values, 5, train=0.9, validation=0.2), "leave a test part"),
        (lambda: a.seasonal_error(90), "season is 90"),
    ):
        with pytest.raises(ValueError, match=why):
            call()


def test_seasons_longer_than_what_is_known():
    found = data.Forecasting(np.sin(np.arange(60.0)), 5)
    first = 60 - len(found.test)
    assert found.seasonal_error(first) >= 0
    with pytest.raises(ValueError, match=f"season is {first + 1}, expected at most {first}"):
        found.seasonal_error(first + 1)
