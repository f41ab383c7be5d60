import json
import os
import resource
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from cnnpy import io


def test_round_trip(tmp_path, rng):
    arrays = {
        "a": rng.normal(size=(3, 4)).astype(np.float32),
        "transposed": rng.normal(size=(3, 4)).T,
        "strided": np.arange(10)[::2],
        "big-endian": np.arange(3, dtype=">i4"),
        "scalar": np.array(2.5),
        "empty": np.zeros((0, 3)),
        "bool": np.array([True, False]),
        "名": np.arange(2, dtype=np.uint8),
    }
    io.save(arrays, tmp_path / "x.safetensors", {"note": "é"})
    back = io.load(tmp_path / "x.safetensors")
    assert list(back) == list(arrays)
    for name, array in arrays.items():
        assert np.array_equal(back[name], array) and back[name].shape == array.shape and back[name].dtype == array.dtype.newbyteorder("=")
    assert io.load_metadata(tmp_path / "x.safetensors") == {"note": "é"}


def test_the_library_reads_it(tmp_path):
    from safetensors.numpy import load_file, save_file

    io.save({"w": np.arange(6.0).reshape(2, 3)}, tmp_path / "x")
    assert np.array_equal(load_file(tmp_path / "x")["w"], np.arange(6.0).reshape(2, 3))
    save_file({"v": np.ones(3, np.float32)}, tmp_path / "y")
    assert np.array_equal(io.load(tmp_path / "y")["v"], np.ones(3))


def file(header, body=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
BAD = {
    "empty": b"",
    "seven bytes": b"1234567",
    "long header": (1 << 60).to_bytes(8, "little") + b"{}",
    "no json": file(b"{nothing"),
    "not utf-8": file(b"\xff\xfe{}"),
    "a list": file([1, 2]),
    "nested": file(b"[" * 100_000),
    "unknown dtype": file({"a": {**ENTRY, "dtype": "F31"}}, bytes(8)),
    "extra field": file({"a": {**ENTRY, "x": 1}}, bytes(8)),
    "negative": file({"a": {**ENTRY, "shape": [-2]}}, bytes(8)),
    "huge": file({"a": {**ENTRY, "shape": [2**61, 2**61]}}, bytes(8)),
    "wrong size": file({"a": {**ENTRY, "shape": [3]}}, bytes(8)),
    "beyond the end": file({"a": {**ENTRY, "data_offsets": [0, 80]}}, bytes(8)),
    "overlap": file({"a": ENTRY, "b": ENTRY}, bytes(8)),
    "gap": file({"a": {**ENTRY, "data_offsets": [8, 16]}}, bytes(16)),
    "rest": file({"a": ENTRY}, bytes(9)),
    "twice": file(b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', bytes(8)),
    "metadata": file({"__metadata__": {"a": 1}, "a": ENTRY}, bytes(8)),
    "bool shape": file({"a": {**ENTRY, "shape": [True, 2]}}, bytes(8)),
    "hash": file({"__metadata__": {"cnnpy.sha256": "0" * 64}, "a": ENTRY}, bytes(8)),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_are_one_sentence(tmp_path, kind):
    (tmp_path / "bad").write_bytes(BAD[kind])
    with pytest.raises(ValueError, match=r"load: .*bad") as e:
        io.load(tmp_path / "bad")
    assert "\n" not in str(e.value) and len(str(e.value)) < 500


def test_random_damage(tmp_path, rng, budget):
    """Whatever is flipped or cut: the saved arrays, or one ValueError."""
    io.save({"w": np.arange(40.0), "v": np.arange(3)}, tmp_path / "good", {"k": "v"})
    good = (tmp_path / "good").read_bytes()
    count = budget(400, 20_000, 500_000)
    for i in range(count):
        broken = bytearray(good[: rng.integers(0, len(good))] if i % 4 == 0 else good)
        for _ in range(rng.integers(1, 4)):
            if broken:
                broken[rng.integers(len(broken))] ^= 1 << rng.integers(8)
        (tmp_path / "x").write_bytes(broken)
        try:
            for array in io.load(tmp_path / "x").values():
                assert array.nbytes <= 40 * 8
        except ValueError as error:
            assert "load:" in str(error)
    print(f"safetensors: {count} damaged files")


def test_a_failed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "x"
    io.save({"a": np.ones(3)}, path)
    before = path.read_bytes()
    with pytest.raises(TypeError, match="save: b has dtype complex128"):
        io.save({"b": np.ones(3, complex)}, path)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limit[1]))
    try:
        with pytest.raises(OSError) as e:
            io.save({"a": np.ones(10_000)}, path)
        assert "x" in str(e.value.filename)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["x"]
    with pytest.raises(OSError):
        io.save({"a": np.ones(3)}, tmp_path / "none" / "x")
    with pytest.raises(OSError):
        io.save({"a": np.ones(3)}, "/dev/full/x")


def test_symbolic_links_and_modes(tmp_path):
    real, link = tmp_path / "real", tmp_path / "link"
    io.save({"a": np.ones(1)}, real)
    real.chmod(0o600)
    link.symlink_to(real)
    io.save({"a": np.full(1, 2.0)}, link)
    assert link.is_symlink() and io.load(real)["a"] == 2 and real.stat().st_mode & 0o777 == 0o600


def test_kill_while_saving(tmp_path):
    """A killed writer leaves the newest acknowledged state or a later one, and no debris after the next start."""
    from cnnpy.io.atomic import sweep

    code = """
        import sys, numpy as np
        from cnnpy import io
        for i in range(10**6):
            io.save({"a": np.full(20_000, float(i))}, sys.argv[1])
            print(i, flush=True)
    """
    for round_ in range(8):
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", textwrap.dedent(code), str(tmp_path / "x")], stdout=subprocess.PIPE, text=True
        )
        for _ in range(3 + 5 * round_):
            process.stdout.readline()
        process.kill()
        acknowledged = [int(line) for line in process.communicate()[0].split()]
        value = io.load(tmp_path / "x")["a"]
        assert (value == value[0]).all() and value[0] >= (acknowledged[-1] if acknowledged else 0)
        sweep(tmp_path)
        assert os.listdir(tmp_path) == ["x"]
