"""What the benches measure: that both sides of a row compute the same, that turns are taken, that tables are printed. No test looks at a time."""

import importlib.util
import os

import numpy as np
import pytest

import cnnpy
from cnnpy.bench import families, networks, report, sequences, small, training
from cnnpy.bench import workloads as W
from cnnpy.bench.harness import Side, measure

TORCH = importlib.util.find_spec("torch") is not None
SMALL_NETWORKS = [r for r in networks.ROWS if r[1] in ("lenet5", "resnet20", "lstm")]
WORKLOADS = (
    [("conv", row, which) for row in W.CONV[6::2] for which in W.PASSES]
    + [("family", row, which) for row in families.ROWS for which in (W.PASSES if row[3] else W.PASSES[:2])]
    + [("family", row, which) for row in small.ROWS for which in (W.PASSES if row[3] else W.PASSES[:2])]
    + [("training", row) for row in training.ROWS]
    + [("sequence", row, which) for row in sequences.ROWS for which in sequences.PASSES]
    + [("network", row) for row in SMALL_NETWORKS]
    + [("lenet", 1)]
)
if os.environ.get("CNNPY_TIER", "quick") == "quick":  # one of every operation, its pass in turn
    FIRST = {
        (w[0], w[1][1] if isinstance(w[1], tuple) else w[1], w[2] if w[0] == "sequence" else i % 3 if w[0] in ("conv", "family") else 0): w
        for i, w in reversed(list(enumerate(WORKLOADS)))
    }
    WORKLOADS = list(FIRST.values())


def name_of(workload):
    return "-".join(str(part[0] if isinstance(part, tuple) and isinstance(part[0], str) else part) for part in workload)


@pytest.fixture(autouse=True)
def threads():
    before = cnnpy.num_threads()
    yield
    cnnpy.set_num_threads(before)


def values_of(side, workload):
    """What the second call returns."""
    call = W.make(side, workload, 2)
    call()
    return np.asarray(call(), np.float32)


@pytest.mark.parametrize("workload", WORKLOADS, ids=name_of)
def test_sides_agree(workload):
    values = {}
    for side in (*W.OURS, *(W.SIDES["torch"] if TORCH else ())):
        try:
            values[side] = values_of(side, workload)
        except NotImplementedError:
            assert side not in W.OURS, f"{side} must have every workload"
    ours = values["cnnpy nhwc"]
    assert ours.size and np.isfinite(ours).all() and np.abs(ours).max() > 0
    if workload[0] == "training" and workload[1][1] == "dropout":  # the libraries draw other masks
        assert all(abs(np.mean(v == 0) - 0.5) < 0.01 for v in values.values())
        return
    report._agree({"cnnpy nhwc": ours, **values}, 1e-2 if workload[0] == "network" else 2e-3)


@pytest.mark.parametrize(
    ("side", "workload"),
    [("onnxruntime", ("conv", W.CONV[7], "forward"))]
    + [(side, ("network", r)) for side in ("onnxruntime", "openvino") for r in networks.ROWS if r[1] == "lenet5" and r[3] == "inference"],
    ids=str,
)
def test_runtimes_agree(side, workload):
    pytest.importorskip(side, reason=f"{side} is not installed: it comes with the bench extra")
    pytest.importorskip("onnx", reason="onnx is not installed: it comes with the bench extra")
    ours, theirs = (values_of(s, workload) for s in ("cnnpy nchw", side))
    np.testing.assert_allclose(theirs, ours, rtol=2e-3, atol=2e-3 * np.abs(ours).max())


def test_what_a_side_lacks():
    for side, workload in (
        ("onnxruntime", ("conv", W.CONV[7], "dx")),
        ("onnxruntime", ("lenet", 1)),
        ("openvino", ("conv", W.CONV[7], "forward")),
        ("onnxruntime", ("network", next(r for r in networks.ROWS if r[3] == "training"))),
    ):
        pytest.importorskip(side, reason=f"{side} is not installed: it comes with the bench extra")
        with pytest.raises(NotImplementedError):
            W.make(side, workload, 1)


def test_work_is_positive():
    assert all(W.conv_flops(*row) > 0 for row in W.CONV)
    assert all(
        sequences.flops(row, "both") == pytest.approx(sequences.flops(row, "forward") * (3.5 if row[1] == "attention" else 3))
        for row in sequences.ROWS
    )
    for row in families.ROWS:
        assert families.traffic(row, row[2]) > 0
        assert (families.flops(row, row[2]) > 0) == row[1].startswith("conv")


def test_a_disagreement_is_an_error():
    with pytest.raises(RuntimeError, match="torch and cnnpy disagree"):
        report._agree({"cnnpy nhwc": np.ones(3, np.float32), "torch": np.ones(3, np.float32) * 1.1})


def test_turns():
    """One process a side; a side that lacks a workload is left out, an error of a side is raised here."""
    sides = [Side("cnnpy nhwc"), Side("cnnpy nchw")]
    try:
        memory = {}
        times, values = measure(sides, ("family", families.ROWS[10], "forward"), 1, turns=2, memory=memory)
        assert set(times) == set(memory) == {"cnnpy nhwc", "cnnpy nchw"} and all(t > 0 for t in times.values())
        np.testing.assert_array_equal(*values.values())
        with pytest.raises(RuntimeError, match="KeyError"):
            sides[0].ask("make", "cnnpy nhwc", ("no such workload",), 1)
        times, values = measure(sides[:1], ("call", W.CALLS[0]), 1, turns=1)
        assert times["cnnpy nhwc"] > 0 and values == {}
    finally:
        for side in sides:
            side.close()


@pytest.mark.parametrize("table", ["lenet", "calls"])
def test_tables(table, capsys):
    report.run(table, (), [1])
    text = capsys.readouterr().out
    assert "multiply-add ceiling" in text
    assert ("LeNet-5 training step" in text) if table == "lenet" else ("import cnnpy after numpy" in text and "installed size" in text)


FIRST_ROWS = {
    "_conv": (W, "CONV", 9),
    "_families": (families, "ROWS", 10),
    "_small": (small, "ROWS", 6),
    "_training": (training, "ROWS", 2),
    "_sequences": (sequences, "ROWS", 6),
    "_models": (networks, "ROWS", 0),
}


@pytest.mark.parametrize("table", FIRST_ROWS)
def test_rows_of_tables(table, capsys, monkeypatch):
    """One row of every table, without peers."""
    module, attribute, row = FIRST_ROWS[table]
    monkeypatch.setattr(module, attribute, getattr(module, attribute)[row : row + 1])
    sides = [Side(s) for s in W.OURS]
    try:
        getattr(report, table)(sides, 1, (100e9, 10e9))
    finally:
        for side in sides:
            side.close()
    lines = [line for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert len(lines) >= 2 and any(c.isdigit() for c in lines[-1])


def test_bad_names():
    with pytest.raises(ValueError, match="bench: 'convs' is not known, expected all or one of"):
        report.run("convs")
    with pytest.raises(ValueError, match="bench: peer 'tensorflow' is not known"):
        report.run("conv", ("tensorflow",))


def test_a_peer_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(report.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"bench: needs openvino; install it with: pip install 'cnnpy\[bench\]'"):
        report.run("conv", ("openvino",))


@pytest.mark.skipif(not TORCH, reason="needs the bench extra")
def test_large_peers_have_as_many_parameters_as_their_papers():
    """VGG16 and AlexNet of one column, counted without memory for them."""
    import torch

    with torch.device("meta"):
        for make, count in ((networks._torch_vgg, 138_357_544), (networks._torch_alexnet, 61_100_840)):
            assert sum(p.numel() for p in make(torch.nn).parameters()) == count


@pytest.mark.skipif(not TORCH, reason="needs the bench extra")
def test_padding_modes_of_the_peer():
    """A mirrored border is padded before a convolution without padding."""
    import torch

    row = next(r for r in families.ROWS if "reflect" in r[0] and r[1] == "conv2d")
    small = (row[0], row[1], (1, 64, 9, 9), *row[3:])
    x, w, _ = families._arrays(small)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="reflect")
    expected = torch.conv2d(torch.from_numpy(padded), torch.from_numpy(w))
    np.testing.assert_allclose(families.make_torch(small, "forward", True)(), expected, rtol=0, atol=1e-4)
