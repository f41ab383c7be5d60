"""The test vectors of the ONNX standard: a node, its inputs and what comes out. Each is computed right, or refused in a sentence."""

import warnings

import numpy as np
import pytest

import cnnpy
from cnnpy import io

onnx = pytest.importorskip("onnx", reason="it comes with the onnx extra")

from cnnpy.io.onnx_nodes import NODES  # noqa: E402

RANDOM = "test_training_dropout"  # what is dropped is drawn by another generator


@pytest.fixture(scope="module")
def vectors():
    """Cases of one node that we know, by its kind."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    found: dict = {}
    for case in cases:
        nodes = case.model.graph.node if case.model is not None else ()
        if len(nodes) == 1 and nodes[0].domain in ("", "ai.onnx") and nodes[0].op_type in NODES and not case.name.startswith(RANDOM):
            found.setdefault(nodes[0].op_type, []).append(case)
    return found


def arrays(values):
    return [onnx.numpy_helper.to_array(v) if isinstance(v, onnx.TensorProto) else v for v in values]


def compute(case, path):
    """The differences of a case, or the sentence that refuses it."""
    onnx.save(case.model, path)
    try:
        model = io.import_onnx(path).eval()
        for given, wanted in case.data_sets:
            with cnnpy.no_grad():
                results = model(*arrays(given))
            results = results if isinstance(results, tuple) else (results,)
            assert len(results) == len(wanted), case.name
            for result, want in zip(results, arrays(wanted), strict=True):
                result = result.numpy() if isinstance(result, cnnpy.Tensor) else np.asarray(result)
                np.testing.assert_equal(result.shape, np.shape(want), err_msg=case.name)
                np.testing.assert_allclose(
                    result.astype(np.float64), np.asarray(want).astype(np.float64), rtol=1e-3, atol=1e-5, err_msg=case.name
                )
    except ValueError as error:
        return str(error)
    return ""


def test_every_vector_is_right_or_refused(vectors, tmp_path):
    right, refused = 0, {}
    for kind, cases in vectors.items():
        answers = [compute(case, tmp_path / "node.onnx") for case in cases]
        right += answers.count("")
        refused |= {case.name: answer for case, answer in zip(cases, answers, strict=True) if answer}
        if kind not in ("Cast", "Upsample", "GRU"):
            assert "" in answers, (kind, answers)
    for name, sentence in refused.items():
        assert ":" in sentence and "\n" not in sentence, (name, sentence)
    print(f"onnx vectors: {right} right, {len(refused)} refused")
    assert right >= 375 and right > 2 * len([n for n in refused if not n.startswith("test_cast")])


@pytest.mark.parametrize(
    "kind",
    ["Conv", "GlobalAveragePool", "Softmax", "Gemm", "Concat", "Slice", "Transpose", "InstanceNormalization"],
)
def test_all_vectors_of_a_kind(kind, vectors, tmp_path):
    assert vectors[kind]
    wrong = {case.name: answer for case in vectors[kind] if (answer := compute(case, tmp_path / "node.onnx"))}
    assert not wrong
