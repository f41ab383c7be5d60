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
