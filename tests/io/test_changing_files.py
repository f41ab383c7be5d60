"""Files that change while they are read, file systems that lose bytes, and more than a format holds."""

import os
import types

import numpy as np
import pytest

from cnnpy import data, io
from cnnpy.io import atomic, tensors


class Shrinking:
    """`os`, for which a file has one byte less the second time."""

    def __init__(self):
        self.calls = 0

    def __getattr__(self, name):
        return getattr(os, name)

    def fstat(self, descriptor):
        self.calls += 1
        size = os.fstat(descriptor).st_size - (self.calls > 1)
        return types.SimpleNamespace(st_size=size, st_mode=os.fstat(descriptor).st_mode)


def test_a_file_that_changes_while_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    io.save({"w": np.ones(5)}, path)
    monkeypatch.setattr(tensors, "os", Shrinking())
    with pytest.raises(ValueError, match=r"load: .*w\.safetensors changed while it was read"):
        io.load(path)


def test_a_file_system_that_loses_bytes(tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    io.save({"w": np.ones(5)}, path)
    lying = Shrinking()
    lying.calls = 1
    monkeypatch.setattr(atomic, "os", lying)
    with pytest.raises(OSError, match=r"\d+ bytes were written, expected \d+: .*w\.safetensors"):
        io.save({"w": np.zeros(5)}, path)
    monkeypatch.undo()
    assert (io.load(path)["w"] == 1).all() and os.listdir(tmp_path) == [path.name]


def test_more_arrays_than_a_reader_accepts(tmp_path, monkeypatch):
    monkeypatch.setattr(tensors, "_MOST_TENSORS", 1)
    with pytest.raises(ValueError, match=r"save: 2 arrays with \d+ bytes of names are more than the format's readers accept"):
        io.save({"a": np.ones(1), "b": np.ones(1)}, tmp_path / "w.safetensors")
    assert not os.listdir(tmp_path)


def test_write_idx_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        data.write_idx(tmp_path / "x", np.arange(3, dtype=np.uint8))
    assert not os.listdir(tmp_path)
