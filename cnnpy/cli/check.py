"""check: does this installation compute what it should, on this machine?"""

import numpy as np

__all__ = ["check"]


def _ramp():
    from cnnpy import functional as F

    x, w, dy = np.arange(1.0, 26).reshape(1, 1, 5, 5), np.array([[1.0, 0, -1]] * 3).reshape(1, 1, 3, 3), np.ones((1, 1, 3, 3))
    right = np.array([[63.0, 72, 81], [108, 117, 126], [153, 162, 171]])
    return np.array_equal(F.conv2d(x, w)[0, 0], np.full((3, 3), -6.0)) and np.array_equal(F.conv2d_backward(dy, x, w).weight[0, 0], right)


def _naive(x, w):
    """A convolution with NumPy alone, whole numbers, padding 1."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, w.shape[2:], axis=(2, 3))
    return (windows[:, None] * w[None, :, :, None, None]).sum(axis=(2, 5, 6))


def _variants(rng):
    """Names of the instruction sets whose convolution of whole numbers is not exact."""
    import cnnpy
    from cnnpy import functional as F
    from cnnpy.functional.runtime import config, instruction_set

    x, w = rng.integers(-4, 5, (2, 9, 11, 13)), rng.integers(-4, 5, (10, 9, 3, 3))
    right = _naive(x, w)
    precision, wrong = cnnpy.precision(), []
    try:
        cnnpy.set_precision("strict")
        for isa in config()["supported"]:
            with instruction_set(isa):
                for dtype in (np.float32, np.float64):
                    if not np.array_equal(F.conv2d(x.astype(dtype), w.astype(dtype), padding=1), right):
                        wrong.append(f"{isa} {np.dtype(dtype).name}")
    finally:
        cnnpy.set_precision(precision)
    return wrong


def _threads(rng):
    import cnnpy
    from cnnpy import functional as F

    x, w = rng.normal(size=(4, 32, 24, 24)).astype(np.float32), rng.normal(size=(32, 32, 3, 3)).astype(np.float32)
    results = []
    for count in (1, 2, 3):
        with cnnpy.threads(count):
            results.append(F.conv2d(x, w, padding=1).tobytes())
    return len(set(results)) == 1


def _gradients(rng):
    from cnnpy import functional as F
    from cnnpy.tools import gradcheck

    x, w = rng.normal(size=(2, 3, 6, 7)), rng.normal(size=(4, 3, 3, 3))
    return max(
        gradcheck(lambda a, b: F.conv2d(a, b, padding=1, stride=2), x, w),
        gradcheck(lambda a: F.softmax(F.tanh(a), axis=1), x),
        gradcheck(lambda a: F.avg_pool2d(a, 2), x),
    )


def _step(rng):
    """Whether a compiled step has the loss of the eager one."""
    import cnnpy
    from cnnpy import functional as F

    x, y = rng.normal(size=(8, 1, 28, 28)).astype(np.float32), np.arange(8)
    losses = []
    for compiled in (False, True):
        model = cnnpy.models.lenet5(rng=0)
        optimizer = cnnpy.optim.SGD(model.parameters(), lr=0.01)
        step = cnnpy.compile_step(model, F.cross_entropy, optimizer)
        for _ in range(4):
            if compiled:
                loss = float(step(x, y))
            else:
                optimizer.zero_grad()
                result = F.cross_entropy(model(cnnpy.Tensor(x)), y)
                loss = float(result.detach().numpy())
                result.backward()
                optimizer.step()
        losses.append(loss)
    return abs(losses[0] - losses[1]) <= 1e-4 * abs(losses[0])


def check(args):
    """Prints a line a check and the table of rounding errors; the exit status is 1 if one failed."""
    from cnnpy.functional.runtime import show_config
    from cnnpy.tools import accuracy_report

    rng = np.random.default_rng(0)
    show_config()
    failed = 0

    def line(name, good, what=""):
        nonlocal failed
        failed += not good
        print(f"{'ok    ' if good else 'FAILED'}  {name}{f': {what}' if what else ''}", flush=True)

    line("the worked example of the ramp, forward and backward", _ramp())
    wrong = _variants(rng)
    line("whole numbers are exact with every instruction set", not wrong, ", ".join(wrong))
    line("1, 2 and 3 threads give the same bits", _threads(rng))
    largest = _gradients(rng)
    line("gradients equal central differences", largest < 1e-7, f"{largest:.1e}, allowed 1e-7")
    line("a compiled training step equals the eager one", _step(rng))
    report = accuracy_report(channels=(16,), sizes=(6, 16))
    worst = report.worst("winograd")
    line("Winograd's error is at most four times the direct one", worst <= 4, f"{worst:.2f}")
    print(f"\n{report}")
    return 1 if failed else 0
