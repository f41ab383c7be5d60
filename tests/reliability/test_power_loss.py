"""A power failure at any moment of a save: what a disk may hold then is loaded, and is the old or the new state.

The calls of one save are recorded. The disk is modelled as POSIX leaves it: a write is durable after an fsync of its file, an entry of a folder
after an fsync of the folder; of what is not, any part may be there: a write missing, zeros in its place, cut short, or whole, a rename done or not.
"""

import itertools
import os

import numpy as np
import pytest

from cnnpy import io
from cnnpy.io import atomic


class Recorder:
    """The functions of `os` that a save calls, with a list of what they did."""

    def __init__(self):
        self.log, self.files = [], {}

    def __getattr__(self, name):
        return getattr(os, name)

    def open(self, path, flags, *mode):
        descriptor = os.open(path, flags, *mode)
        self.files[descriptor] = str(path)
        if flags & os.O_CREAT:
            self.log.append(("create", str(path)))
        return descriptor

    def write(self, descriptor, data):
        count = os.write(descriptor, data)
        self.log.append(("write", self.files[descriptor], bytes(data[:count])))
        return count

    def fsync(self, descriptor):
        os.fsync(descriptor)
        self.log.append(("sync", self.files[descriptor]))

    def rename(self, source, target):
        os.rename(source, target)
        self.log.append(("rename", str(source), str(target)))

    def unlink(self, path):
        os.unlink(path)
        self.log.append(("unlink", str(path)))


def states(log, folder, old, cuts):
    """Every content of the folder after a prefix of the log: {name: bytes}; a write that is cut is cut at each of `cuts` lengths."""
    for end in range(len(log) + 1):
        durable, pending = {}, {}  # writes of an inode; an inode is named by the path it was created with
        done, waiting = [], []  # operations on the folder
        for kind, *what in log[:end]:
            if kind == "write":
                pending.setdefault(what[0], []).append(what[1])
            elif kind == "sync" and what[0] == folder:
                done, waiting = done + waiting, []
            elif kind == "sync":
                durable.setdefault(what[0], []).extend(pending.pop(what[0], []))
            else:
                waiting.append((kind, *what))
        forms = [
            [(name, form) for form in ("missing", "zeros", *range(1, cuts + 1), "whole")] for name in pending for _ in pending[name][-1:]
        ]
        for kept in itertools.product((False, True), repeat=len(waiting)):
            for chosen in itertools.product(*forms):
                inodes = {name: b"".join(parts) for name, parts in durable.items()}
                for name, form in chosen:
                    data = b"".join(pending[name])
                    whole = {"missing": b"", "zeros": bytes(len(data)), "whole": data}
                    tail = whole[form] if form in whole else data[: len(data) * form // (cuts + 1)]
                    inodes[name] = inodes.get(name, b"") + tail
                entries = dict(old)
                for operation in [*done, *(w for w, k in zip(waiting, kept, strict=True) if k)]:
                    if operation[0] == "create":
                        entries[operation[1]] = inodes.get(operation[1], b"")
                    elif operation[0] == "rename":
                        entries.pop(operation[1], None)
                        entries[operation[2]] = inodes.get(operation[1], b"")
                    else:
                        entries.pop(operation[1], None)
                yield end, entries


def broken(tmp_path, monkeypatch, arrays, cuts=1):
    """(states tried, those that hold neither the old nor the new arrays, or after the return not the new ones)."""
    folder = tmp_path / "run"
    folder.mkdir()
    path = folder / "model.safetensors"
    io.save(arrays[0], path)
    old = {str(path): path.read_bytes()}
    recorder = Recorder()
    monkeypatch.setattr(atomic, "os", recorder)
    io.save(arrays[1], path)
    monkeypatch.setattr(atomic, "os", os)
    assert sum(kind == "write" for kind, *_ in recorder.log) >= 2 and ("sync", str(folder)) in recorder.log
    tried, wrong, seen = 0, [], set()
    for end, entries in states(recorder.log, str(folder), old, cuts):
        key = (end == len(recorder.log), hash(tuple(sorted(entries.items()))))
        tried += 1
        if key in seen:
            continue
        seen.add(key)
        after = tmp_path / "after.safetensors"
        after.write_bytes(entries.get(str(path), b""))
        try:
            found = float(io.load(after)["w"][0])
        except (ValueError, OSError) as error:
            wrong.append((end, str(error)))
            continue
        if found not in ((2.0,) if end == len(recorder.log) else (1.0, 2.0)):
            wrong.append((end, found))
    return tried, wrong


@pytest.fixture
def arrays():
    return [{"w": np.full(70000, v, np.float32), "b": np.full(3, v)} for v in (1.0, 2.0)]


def test_every_state_holds_the_old_or_the_new(tmp_path, monkeypatch, arrays, capsys, budget):
    tried, wrong = broken(tmp_path, monkeypatch, arrays, budget(1, 250, 2500))
    assert wrong == [] and tried >= budget(30, 2000, 20_000)
    with capsys.disabled():
        print(f"power loss: {tried} states", flush=True)


def test_a_rename_without_fsync_is_found(tmp_path, monkeypatch, arrays):
    monkeypatch.setattr(atomic, "_sync", lambda descriptor: None)
    assert broken(tmp_path, monkeypatch, arrays)[1]


def test_a_folder_without_fsync_is_found(tmp_path, monkeypatch, arrays):
    sync = atomic._sync_folder

    def planted(folder):
        sync(folder)
        atomic.os.log.pop()
        atomic.os.log.insert(0, ("sync", folder))

    monkeypatch.setattr(atomic, "_sync_folder", lambda f: planted(f) if isinstance(atomic.os, Recorder) else sync(f))
    assert broken(tmp_path, monkeypatch, arrays)[1]
