"""A page about a training run that opens in any browser: one file, nothing to download."""

import base64
import html
import io

import numpy as np

from cnnpy import functional as F
from cnnpy import train
from cnnpy.io import atomic_write
from cnnpy.plot._axes import new_figure
from cnnpy.plot.curves import confusion_matrix, training_curves
from cnnpy.plot.images import filters

__all__ = ["report"]

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1f2430; background: #fff; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.lead { color: #5a6270; margin-top: .2rem; }
.figures { display: flex; flex-wrap: wrap; gap: 1rem; } .figures img { max-width: 100%; }
.numbers { display: flex; flex-wrap: wrap; gap: 2rem; margin: 1.2rem 0; }
.numbers b { display: block; font-size: 1.5rem; } .numbers span { color: #5a6270; font-size: .9rem; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; } td, th { padding: .15rem .7rem; text-align: right; }
th { border-bottom: 1px solid #c8cdd5; } th:first-child, td:first-child { text-align: left; } .wide { overflow-x: auto; }
.mistakes { display: grid; grid-template-columns: repeat(auto-fill, minmax(7.5rem, 1fr)); gap: 1rem; }
.mistakes figure { margin: 0; } .mistakes img { width: 6rem; height: 6rem; object-fit: contain; image-rendering: pixelated; background: #eef0f3; }
figcaption { font-size: .8rem; line-height: 1.3; } .wrong { color: #b3361e; }
"""


def _png(figure):
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=110)
    return base64.b64encode(target.getvalue()).decode()


def _picture(image):
    """(C, H, W) uint8 or reals to a PNG of its own size."""
    from matplotlib import image as images

    pixels = np.asarray(image, np.float64)
    pixels = np.broadcast_to(pixels if len(pixels) in (1, 3) else pixels.mean(axis=0, keepdims=True), (3, *pixels.shape[1:]))
    low, high = (0.0, 255.0) if np.asarray(image).dtype == np.uint8 else (pixels.min(), pixels.max())
    target = io.BytesIO()
    images.imsave(target, np.clip((pixels.transpose(1, 2, 0) - low) / max(high - low, 1e-12), 0, 1), format="png")
    return base64.b64encode(target.getvalue()).decode()


def _curves(history):
    metrics = [m for m in ("loss", "accuracy", "top5", "mae") if m in history.columns()]
    figure, ax = new_figure("report", (4.6 * len(metrics), 3.2), 1, len(metrics))
    for a, metric in zip(ax[0], metrics, strict=True):
        training_curves(history, metric, ax=a)
    return _png(figure)


def _first_filters(model):
    for parameter in model.parameters():
        if parameter._data.ndim == 4:
            figure, ax = new_figure("report", (4.6, 3.2))
            filters(parameter._data, ax=ax[0, 0])
            return _png(figure), parameter.shape
    return None, ()


def _mistakes(scores, test, classes, count):
    """Where the network was surest of a wrong class, worst first."""
    probabilities = F.softmax(scores)
    taken = np.argmax(scores, axis=1)
    own = probabilities[np.arange(len(test)), test.y]
    wrong = np.flatnonzero(taken != test.y)
    lines = []
    for i in wrong[np.argsort(own[wrong], kind="stable")][:count]:
        picture, right = test[int(i)]
        lines.append(
            f'<figure><img alt="" src="data:image/png;base64,{_picture(picture)}"><figcaption>{html.escape(classes[right])}, taken for '
            f'<span class="wrong">{html.escape(classes[taken[i]])}</span> with {probabilities[i, taken[i]]:.3f}</figcaption></figure>'
        )
    return lines, len(wrong)


def report(run, model, test, *, mistakes=24):
    """Writes ``report.html`` into a run folder: curves, numbers, confusion matrix, worst mistakes, first filters.

    Parameters
    ----------
    run : cnnpy.train.Run
    model : cnnpy.nn.Module
        With the weights that the report is about.
    test : ArrayDataset
        Images and classes to judge it by.
    mistakes : int
        How many wrong answers to show.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    ImportError
        Without matplotlib; the sentence names the extra.
    """
    new_figure("report", (1, 1))  # refuses before anything is computed
    history, classes = run.history(), [str(c) for c in run.config["classes"]]
    scores = train.predict(model, test.x, transform=run.transform)
    matrix = np.zeros((len(classes),) * 2, np.int64)
    np.add.at(matrix, (test.y, np.argmax(scores, axis=1)), 1)
    figure, ax = new_figure("report", (max(5.0, 0.5 * len(classes) + 1.5),) * 2)
    confusion_matrix(matrix, classes, ax=ax[0, 0])
    worst, wrong = _mistakes(scores, test, classes, mistakes)
    kernels, kernel_shape = _first_filters(model)
    right = np.trace(matrix) / max(1, len(test))
    seconds = sum(v for v in history["seconds"] if v is not None)
    parameters = sum(p._data.size for p in model.parameters())
    numbers = [(f"{right:.4f}", "test accuracy"), (f"{len(history)}", "epochs"), (f"{seconds:,.0f} s", "of training")]
    numbers += [(f"{parameters:,}", "parameters"), (f"{wrong:,} of {len(test):,}", "wrong in the test part")]
    settings = "".join(
        f"<tr><td>{html.escape(k)}</td><td>{html.escape(str(v))}</td></tr>"
        for k, v in run.config.items()
        if k not in ("classes", "normalize")
    )
    parts = [
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(run.config['model'])} on {html.escape(str(run.config['data']))}</title><style>{_STYLE}</style>",
        f'<h1>{html.escape(run.config["model"])}</h1><p class="lead">trained on {html.escape(str(run.config["data"]))}</p>',
        '<div class="numbers">' + "".join(f"<div><b>{n}</b><span>{t}</span></div>" for n, t in numbers) + "</div>",
        f'<h2>Training</h2><div class="figures"><img alt="curves of loss and accuracy" src="data:image/png;base64,{_curves(history)}"></div>',
        f'<h2>Confusion matrix</h2><div class="figures"><img alt="confusion matrix" src="data:image/png;base64,{_png(figure)}"></div>',
    ]
    if worst:
        parts.append(f'<h2>Worst mistakes</h2><p>Where the right class got the least.</p><div class="mistakes">{"".join(worst)}</div>')
    if kernels:
        parts.append(
            f"<h2>First filters</h2><p>{' x '.join(map(str, kernel_shape))}, each scaled to its own range; middle grey is zero.</p>"
            f'<div class="figures"><img alt="first filters" src="data:image/png;base64,{kernels}"></div>'
        )
    parts.append(f'<h2>History</h2><div class="wide">{history._repr_html_()}</div><h2>Settings</h2><table>{settings}</table></html>')
    path = run.folder / "report.html"
    atomic_write(path, ["\n".join(parts).encode()])
    return path
