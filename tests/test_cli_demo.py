"""cnnpy demo and cnnpy check: what they print is right, in a pipe and in a terminal."""

import importlib
import os
import pty
import re
import sys

import numpy as np
import pytest

from cnnpy import cli


def shown(capsys, *arguments):
    pytest.importorskip("rich", reason="it comes with the notebooks extra")
    assert cli.main(["demo", *arguments, "--width", "150"]) == 0
    return capsys.readouterr().out


def test_conv_shows_every_product(capsys):
    text = shown(capsys, "conv")
    equations = re.findall(r"output\((\d), (\d)\) = (.*) = (\S+)$", text, re.M)
    assert [(int(a), int(b)) for a, b, _, _ in equations] == list(np.ndindex(3, 3))
    for _, _, terms, total in equations:
        assert sum(np.prod([float(f.strip("() ")) for f in t.split("·")]) for t in terms.split(" + ")) == float(total) == -6


def test_options_of_conv(capsys):
    text = shown(capsys, "conv", "--padding", "same", "--stride", "2", "--flip")
    assert "padding same" in text and "kernel flipped" in text and text.count("output(") == 9
    text = shown(capsys, "conv", "--kind", "transposed", "--stride", "2")
    assert text.count("times the kernel is added") == 9


def test_pool_names_where_the_gradient_goes(capsys):
    text = shown(capsys, "pool")
    assert text.count("output(") == 6 and "output(1, 1) = max(1, 9, 4, 3) = 9, which stands at (2, 3)" in text
    assert "mean(1, 3, 4, 6) = 3.5" in shown(capsys, "pool", "--kind", "average")


def test_lstm_keeps_what_was_written(capsys):
    cells = [float(v) for v in re.findall(r"= ([+-]\d\.\d+): the", shown(capsys, "lstm"))]
    assert len(cells) == 11
    written = np.tanh(2 * np.array([0.8, -0.6, 0.4]))
    np.testing.assert_allclose([cells[1], cells[4], cells[5], cells[8], cells[9]], written[[0, 0, 1, 1, 2]], atol=0.03)


def test_in_a_terminal_frames_replace_each_other(capfd, monkeypatch):
    pytest.importorskip("rich", reason="it comes with the notebooks extra")
    written = []

    def read(fd):
        data = os.read(fd, 4096)
        written.append(data)
        return data

    program = "import sys; from cnnpy import cli; sys.exit(cli.main(['demo', 'pool', '--seconds', '0', '--width', '100']))"
    monkeypatch.setenv("TERM", "xterm")
    status = pty.spawn([sys.executable, "-P", "-c", program], read, lambda fd: b"")
    text = b"".join(written).decode()
    assert os.waitstatus_to_exitcode(status) == 0
    assert text.count("\x1b[2K") >= 5 and "\x1b[7m" in text  # lines are erased and written again; the window is reversed


def test_bad_arguments_and_missing_rich(capsys, monkeypatch):
    with pytest.raises(SystemExit) as stop:
        cli.main(["demo", "conv", "--padding", "-1"])
    assert stop.value.code == 2 and "not a number from 0 to 99" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["demo", "gru"])
    monkeypatch.setitem(sys.modules, "rich", None)
    capsys.readouterr()
    assert cli.main(["demo", "conv"]) == 1
    assert capsys.readouterr().err == "cnnpy demo: demo: needs rich; install it with: pip install 'cnnpy[notebooks]'\n"


def test_a_kind_of_another_operation_is_refused(capsys):
    pytest.importorskip("rich", reason="it comes with the notebooks extra")
    assert cli.main(["demo", "pool", "--kind", "transposed"]) == 1
    assert "--kind is 'transposed', expected 'max' or 'average'" in capsys.readouterr().err
    for name, option, owner in (("pool", "--padding=1", "conv"), ("lstm", "--stride=2", "conv and pool"), ("conv", "--size=3", "pool")):
        assert cli.main(["demo", name, option]) == 1
        assert f"demo {name}: {option.split('=')[0]} belongs to {owner}\n" in capsys.readouterr().err


def test_check_passes_and_finds_a_wrong_variant(capsys, monkeypatch):
    check = importlib.import_module("cnnpy.cli.check")
    assert cli.main(["check"]) == 0
    text = capsys.readouterr().out
    assert text.count("ok    ") == 6 and "FAILED" not in text and "max/direct" in text
    monkeypatch.setattr(check, "_naive", lambda x, w: np.zeros((2, 10, 11, 13)))
    assert cli.main(["check"]) == 1
    assert "FAILED  whole numbers are exact with every instruction set: base float32" in capsys.readouterr().out
