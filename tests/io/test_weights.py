import zipfile

import numpy as np
import pytest

from cnnpy import cli, io, models, train


def test_npz_round_trip(tmp_path, rng):
    arrays = {"a.b": rng.normal(size=(3, 4)), "scalar": np.array(2), "empty": np.zeros((0, 2), np.float32), "t": rng.normal(size=(2, 5)).T}
    for compress in (False, True):
        io.save_npz(arrays, tmp_path / "x.npz", compress=compress)
        back = io.load_npz(tmp_path / "x.npz")
        assert list(back) == list(arrays) and all(np.array_equal(back[n], a) and back[n].dtype == a.dtype for n, a in arrays.items())
    with np.load(tmp_path / "x.npz") as theirs:
        assert np.array_equal(theirs["a.b"], arrays["a.b"])
    np.savez(tmp_path / "y.npz", w=np.arange(3))
    assert io.load_npz(tmp_path / "y.npz")["w"].tolist() == [0, 1, 2]


def test_bad_npz(tmp_path, rng, budget):
    path = tmp_path / "x.npz"
    with pytest.raises(TypeError, match="save_npz: 'o' has dtype object"):
        io.save_npz({"o": np.array([{}])}, path)
    np.savez(path, o=np.array([{}], object))  # would need to execute what it holds
    with pytest.raises(ValueError, match=r"load_npz: .*x\.npz is not a valid archive of arrays"):
        io.load_npz(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.npy", bytes(200 << 20))
    with pytest.raises(ValueError, match="would unpack to more than"):
        io.load_npz(path)
    for content in (b"", b"PK\3\4nothing"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is not a valid archive"):
            io.load_npz(path)
    io.save_npz({"w": np.arange(40.0)}, path)
    good, refused, count = path.read_bytes(), 0, budget(200, 5000, 100_000)
    for i in range(count):
        broken = bytearray(good[: rng.integers(len(good))] if i % 3 == 0 else good)
        if broken:
            broken[rng.integers(len(broken))] ^= 1 << rng.integers(8)
        path.write_bytes(broken)
        try:
            io.load_npz(path)
        except ValueError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > count // 2
    print(f"npz: {count} damaged files")


def test_load_torchvision(tmp_path):
    torch = pytest.importorskip("torch", reason="it comes with the bench extra")
    source = models.resnet18(rng=1)
    state = {n: torch.from_numpy(np.array(a)) for n, a in source.state_dict().items()}
    torch.save(state, tmp_path / "r.pth")
    model = models.resnet18(rng=2)
    assert io.load_torchvision(model, tmp_path / "r.pth") == []
    assert all(np.array_equal(a, b) for a, b in zip(source.state_dict().values(), model.state_dict().values(), strict=True))


def test_load_torchvision_wants_every_tensor(tmp_path):
    source = models.resnet20(rng=1).state_dict()
    old = {n: a for n, a in source.items() if not n.endswith("num_batches_tracked")}
    io.save(old, tmp_path / "old.safetensors")
    assert io.load_torchvision(models.resnet20(rng=2), tmp_path / "old.safetensors") == []
    other = models.resnet20(num_classes=3, rng=2)
    before = other.fc.weight.data.copy()
    with pytest.warns(UserWarning, match="does not set fc.bias, fc.weight"):
        assert io.load_torchvision(other, tmp_path / "old.safetensors") == ["fc.bias", "fc.weight"]
    assert np.array_equal(other.fc.weight.data, before) and np.array_equal(other.conv1.weight.data, old["conv1.weight"])
    bad = {**old, "conv1.weight": old["conv1.weight"][:, :2], "extra": np.ones(1)}
    del bad["bn1.weight"]
    io.save(bad, tmp_path / "bad.safetensors")
    model = models.resnet20(rng=2)
    untouched = {n: a.copy() for n, a in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"conv1.weight has shape \(16, 2, 3, 3\).*missing: bn1.weight; unexpected: extra"):
        io.load_torchvision(model, tmp_path / "bad.safetensors")
    assert all(np.array_equal(a, untouched[n]) for n, a in model.state_dict().items())


def test_convert(tmp_path, capsys):
    weights = models.lenet5(rng=3).state_dict()
    io.save(weights, tmp_path / "w.safetensors")
    assert cli.main(["convert", str(tmp_path / "w.safetensors"), str(tmp_path / "w.npz")]) == 0
    assert "10 tensors, 61,706 numbers" in capsys.readouterr().out
    assert cli.main(["convert", str(tmp_path / "w.npz"), str(tmp_path / "back.safetensors")]) == 0
    back = io.load(tmp_path / "back.safetensors")
    assert all(np.array_equal(back[n], a) for n, a in weights.items())
    capsys.readouterr()
    for arguments, text in (
        (["w.npz", "w.npz"], "exists already; give --force"),
        (["w.npz", "w.txt"], "unknown suffix"),
        (["none.npz", "y.npz"], "is not a file"),
        (["w.npz", "w.onnx"], "name it with --model"),
    ):
        assert cli.main(["convert", *(str(tmp_path / a) for a in arguments)]) == 1
        assert text in capsys.readouterr().err
    assert cli.main(["convert", str(tmp_path / "w.npz"), str(tmp_path / "w.npz"), "--force"]) == 0


def test_convert_to_onnx(tmp_path, capsys):
    onnxruntime = pytest.importorskip("onnxruntime", reason="it comes with the onnx extra")
    pytest.importorskip("onnx", reason="it comes with the onnx extra")
    run = tmp_path / "run"
    assert cli.main(["train", "lenet5", "--data", "shapes", "--epochs", "1", "--quiet", "--out", str(run)]) == 0
    assert cli.main(["convert", str(run), str(tmp_path / "m.onnx")]) == 0
    assert cli.main(["convert", str(tmp_path / "m.onnx"), str(tmp_path / "w.npz")]) == 0
    assert cli.main(["convert", str(tmp_path / "w.npz"), str(tmp_path / "n.onnx"), "--model", "lenet5"]) == 0
    x = np.ones((2, 1, 28, 28), np.float32)
    model = models.lenet5(num_classes=4, rng=0)
    train.Run.open(run).load_best(model)
    for name in ("m.onnx", "n.onnx"):
        found = onnxruntime.InferenceSession(str(tmp_path / name), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
        np.testing.assert_allclose(found, np.asarray(model.eval()(x).detach()), rtol=1e-4, atol=1e-5)
