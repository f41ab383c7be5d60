"""Ctrl-C: noticed inside a long call and between steps of training, never inside an update."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np


def run(code, after, *arguments):
    """Starts Python on `code`, sends SIGINT `after` seconds past its first line of output, returns (seconds it took to end, output)."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", textwrap.dedent(code), *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    process.stdout.readline()
    time.sleep(after)
    process.send_signal(signal.SIGINT)
    begin = time.perf_counter()
    output = process.communicate(timeout=60)[0]
    return time.perf_counter() - begin, output


def test_inside_a_long_call():
    """A convolution of several seconds stops within half a second; the next call is right."""
    seconds, output = run(
        """
        import time, numpy as np, cnnpy
        x, w = np.ones((8, 512, 112, 112), np.float32), np.ones((512, 512, 3, 3), np.float32)
        print("go", flush=True)
        try:
            for _ in range(100):
                cnnpy.conv2d(x, w, padding=1)
        except KeyboardInterrupt:
            stopped = time.perf_counter()
            y = cnnpy.conv2d(x[:1, :, :8, :8], w)
            print("right after" if (y == 512 * 9).all() else "wrong after", flush=True)
        """,
        0.6,
    )
    assert "right after" in output, output
    assert seconds < 3, seconds  # with the second call and the interpreter's exit; the stop itself is tens of milliseconds


def test_in_training(tmp_path):
    """The command line stops, keeps whole checkpoints, and goes on with --resume to the bits of an unbroken run."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}

    def command(folder, *extra):
        return [
            sys.executable,
            "-P",
            "-m",
            "cnnpy",
            "train",
            "lenet5",
            "--data",
            "shapes",
            "--epochs",
            "3",
            "--quiet",
            "--out",
            str(folder),
            *extra,
        ]

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    subprocess.run(command(whole), check=True, capture_output=True, env=environment)
    process = subprocess.Popen(command(broken), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    deadline = time.time() + 60
    while not list(broken.glob("checkpoints/step-*.safetensors")):
        assert time.time() < deadline and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    begin = time.perf_counter()
    _, errors = process.communicate(timeout=30)
    assert time.perf_counter() - begin < 2
    assert process.returncode == 1 and "--resume" in errors and "Traceback" not in errors
    assert not list(broken.glob("checkpoints/.*"))
    subprocess.run(command(broken, "--resume"), check=True, capture_output=True, env=environment)
    from cnnpy import io

    names = [sorted(p.name for p in f.glob("checkpoints/step-*")) for f in (whole, broken)]
    assert names[0][-1] == names[1][-1]
    a, b = (io.load(f / "checkpoints" / names[0][-1]) for f in (whole, broken))
    assert set(a) == set(b) and all(np.array_equal(a[n], b[n]) for n in a)
