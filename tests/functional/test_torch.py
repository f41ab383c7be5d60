"""A third opinion from PyTorch, values and gradients, where it is installed (the bench extra)."""

import numpy as np
import pytest

from cnnpy.autograd import OPERATIONS
from tests.reliability.cases import CASES, axes

torch = pytest.importorskip("torch", reason="PyTorch is not installed: it comes with the bench extra")
T = torch.nn.functional

pytestmark = pytest.mark.usefixtures("strict")


def pairs_to_torch(pads):
    return [v for pair in reversed(pads) for v in pair]


def conv(d):
    def call(arrays, o):
        x, w, b = arrays
        window, dilation = w.shape[2:], axes(o["dilation"], d)
        extents = [(r - 1) * g + 1 for r, g in zip(window, dilation, strict=True)]
        padding = o["padding"]
        if o["flip"]:
            w = torch.flip(w, tuple(range(2, 2 + d)))
        if padding == "valid":
            pads = [(0, 0)] * d
        elif padding == "full":
            pads = [(e - 1, e - 1) for e in extents]
        elif padding == "same":
            totals = [max((-(-m // s) - 1) * s + e - m, 0) for m, s, e in zip(x.shape[2:], axes(o["stride"], d), extents, strict=True)]
            pads = [(t // 2, t - t // 2) for t in totals]
        else:
            pads = [p if isinstance(p, tuple) else (p, p) for p in axes(padding, d)]
        mode = o["padding_mode"]
        limit = {"zeros": None, "replicate": None, "reflect": -1, "circular": 0}.get(mode, "lacking")
        if limit == "lacking" or (limit is not None and any(max(p) > m + limit for p, m in zip(pads, x.shape[2:], strict=True))):
            return None  # symmetric padding, or wider than PyTorch takes
        x = T.pad(x, pairs_to_torch(pads), mode="constant" if mode == "zeros" else mode)
        return getattr(T, f"conv{d}d")(x, w, b, o["stride"], 0, o["dilation"], o["groups"])

    return call


def transposed(d):
    def call(arrays, o):
        x, w, b = arrays
        if any(e >= max(s, g) for e, s, g in zip(o["output_padding"], o["stride"], o["dilation"], strict=True)):
            return None
        y = getattr(T, f"conv_transpose{d}d")(x, w, b, o["stride"], 0, o["output_padding"], o["groups"], o["dilation"])
        return y[(..., *(slice(before, m - after) for (before, after), m in zip(o["padding"], y.shape[2:], strict=True)))]

    return call


def pool(d, kind):
    def call(arrays, o):
        pads = axes(o["padding"], d)
        pads = [p if isinstance(p, tuple) else (p, p) for p in pads]
        if any(a != b or a > k // 2 for (a, b), k in zip(pads, axes(o["kernel_size"], d), strict=True)):
            return None
        extra = {"count_include_pad": o["count_include_pad"]} if kind == "avg" else {"dilation": o["dilation"]}
        return getattr(T, f"{kind}_pool{d}d")(
            arrays[0], o["kernel_size"], o["stride"], [p for p, _ in pads], ceil_mode=o["ceil_mode"], **extra
        )

    return call


def padding(arrays, o):
    x, mode = arrays[0], o["mode"]
    limit = {"zeros": np.inf, "replicate": np.inf, "reflect": -1, "circular": 0}.get(mode)
    if limit is None or (mode != "zeros" and min(min(p) for p in o["pads"]) < 0):
        return None
    if any(max(p) > m + limit for p, m in zip(o["pads"], x.shape[2:], strict=True)):
        return None
    return T.pad(x, pairs_to_torch(o["pads"]), mode="constant" if mode == "zeros" else mode)


def interpolation(arrays, o):
    mode = o["mode"]
    if mode == "area":
        return None if "scale_factor" in o else T.interpolate(arrays[0], size=o["size"], mode="area")
    corners = {"align_corners": o["align_corners"]} if mode not in ("nearest", "nearest-exact") else {}
    size = {k: o[k] for k in ("size", "scale_factor") if k in o}
    return T.interpolate(arrays[0], mode=mode, **size, **corners)


PEERS = {f"conv{d}d": conv(d) for d in (1, 2, 3)} | {f"conv_transpose{d}d": transposed(d) for d in (1, 2, 3)}
PEERS |= {f"{kind}_pool{d}d": pool(d, kind) for kind in ("max", "avg") for d in (1, 2, 3)}
PEERS |= {
    f"adaptive_{kind}_pool{d}d": (lambda a, o, f=f"adaptive_{kind}_pool{d}d": getattr(T, f)(a[0], o["output_size"]))
    for kind in ("max", "avg")
    for d in (1, 2, 3)
}
PEERS |= {"pad": padding, "interpolate": interpolation}
PEERS["pixel_shuffle"] = lambda a, o: torch.pixel_shuffle(a[0], o["factor"]) if a[0].ndim == 4 else None
PEERS["unfold"] = lambda a, o: T.unfold(a[0], o["kernel_size"], o["dilation"], o["padding"], o["stride"]) if a[0].ndim == 4 else None
PEERS["fold"] = lambda a, o: (
    T.fold(a[0], o["output_size"], o["kernel_size"], o["dilation"], o["padding"], o["stride"]) if len(o["output_size"]) == 2 else None
)


@pytest.mark.parametrize("name", sorted(PEERS))
def test_values_and_gradients(name, rng):
    op, compared = OPERATIONS[name], 0
    for _ in range(60):
        arrays, options = CASES[name](rng, np.float64, integers=False)
        if arrays[0].shape[0] == 0:
            continue
        tensors = [None if a is None else torch.tensor(np.ascontiguousarray(a), requires_grad=True) for a in arrays]
        theirs = PEERS[name](tensors, options)
        if theirs is None:
            continue
        y = op.forward(*arrays, **options)
        np.testing.assert_allclose(y, theirs.detach().numpy(), rtol=1e-11, atol=1e-11, err_msg=str(options))
        dy = rng.normal(size=y.shape)
        theirs.backward(torch.from_numpy(dy))
        for ours, t in zip(op.backward(dy, *arrays, **options), tensors, strict=True):
            if t is not None:
                wanted = np.zeros(t.shape) if t.grad is None else t.grad.numpy()
                np.testing.assert_allclose(ours, wanted, rtol=1e-10, atol=1e-10, err_msg=str(options))
        compared += 1
    assert compared >= 5
