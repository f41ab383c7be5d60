"""The command line: ``cnnpy`` or ``python -m cnnpy``."""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

__all__ = ["main"]

MODELS = (
    *("lenet5", "alexnet", "vgg11", "vgg13", "vgg16", "vgg19", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    *("resnet20", "resnet32", "resnet44", "resnet56", "resnet110"),
)
CIFAR_RESNETS = ("resnet20", "resnet32", "resnet44", "resnet56", "resnet110")


def _build(name, **options):
    from cnnpy import models

    return getattr(models, name)(**options)


def _info(args):
    from cnnpy.functional.runtime import show_config

    show_config()


def _inputs(model, given):
    """(C, H, W) that a command describes: as given, else what the network was made for."""
    if given:
        return given
    return (1, 28, 28) if model == "lenet5" else (3, 32, 32) if model in CIFAR_RESNETS else (3, 224, 224)


def _options(name, shape, classes):
    """Arguments of a model for images of a shape: the large networks have a form for small ones."""
    options = {"num_classes": classes, "in_channels": shape[0]}
    if shape[1] < 64 and name.startswith(("vgg", "resnet")) and name not in CIFAR_RESNETS:
        options["small_input"] = True
    return options


def _optimizer(args, model):
    from cnnpy import optim

    if args.optimizer is None:
        args.optimizer = "sgd" if args.model in CIFAR_RESNETS else "adam"
    if args.optimizer == "sgd" and args.model in CIFAR_RESNETS:  # the recipe of He et al., section 4.2
        return optim.SGD(model.parameters(), lr=0.1 if args.lr is None else args.lr, momentum=0.9, weight_decay=1e-4)
    if args.optimizer == "sgd":
        return optim.SGD(model.parameters(), lr=0.05 if args.lr is None else args.lr, momentum=0.9)
    return {"adam": optim.Adam, "adamw": optim.AdamW}[args.optimizer](model.parameters(), lr=4e-3 if args.lr is None else args.lr)


class _Steps:
    """The rate falls to a tenth after a half and again after three quarters of the epochs, as in He et al."""

    def __init__(self, optimizer, epochs):
        self.optimizer, self.epochs, self.base = optimizer, epochs, optimizer.lr

    def on_epoch_begin(self, epoch):
        self.optimizer.lr = self.base * 0.1 ** ((epoch >= self.epochs / 2) + (epoch >= self.epochs * 0.75))


class _LinearDecay:
    """The rate falls linearly to a tenth over the epochs; a function of the epoch, so that resuming continues it."""

    def __init__(self, optimizer, epochs):
        self.optimizer, self.epochs, self.base = optimizer, epochs, optimizer.lr

    def on_epoch_begin(self, epoch):
        self.optimizer.lr = self.base * (1 - 0.9 * epoch / max(1, self.epochs - 1))


def _train(args):
    import cnnpy
    from cnnpy import train
    from cnnpy.train.run import Run, load_data
    from cnnpy.transforms import Compose, Normalize, PadAndCrop, RandomHorizontalFlip

    if args.threads:
        cnnpy.set_num_threads(args.threads)
    name = Path(args.data).name or "data"
    folder = Path(args.out or f"runs/{args.model}-{name}")
    whole = load_data(args.data, "train")
    channels, classes = whole.x.shape[1], whole.classes
    config = {"model": args.model, "num_classes": len(classes), "in_channels": channels, "data": args.data, "seed": args.seed}
    config |= {"classes": classes, "input": list(whole.x.shape[1:]), "normalize": Normalize.of(whole).state()}
    model = _build(args.model, **_options(args.model, whole.x.shape[1:], len(classes)), rng=args.seed)
    optimizer = _optimizer(args, model)
    config |= {"epochs": args.epochs, "batch_size": args.batch_size, "optimizer": args.optimizer, "cnnpy": cnnpy.__version__}
    run = Run(folder, config)
    if args.resume:
        saved = Run.open(folder)
        changed = [k for k in ("model", "data", "seed", "optimizer", "batch_size") if saved.config.get(k) != config[k]]
        if changed:
            raise ValueError(f"train: --resume with another {', '.join(changed)} than the run in {folder} began with")
        run.config["normalize"] = saved.config["normalize"]
    run.create()
    test = load_data(args.data, "test")
    train_part, validation = run.parts()
    recipe = args.model in CIFAR_RESNETS
    transform = Compose(PadAndCrop(4), RandomHorizontalFlip(), run.transform) if recipe else run.transform
    callbacks = [
        (_Steps if recipe else _LinearDecay)(optimizer, args.epochs),
        train.CSVLogger(folder / "history.csv"),
        train.Checkpoint(run.checkpoints),
    ]
    begin = time.perf_counter()
    try:
        history = train.fit(
            model,
            train_part,
            validation,
            optimizer=optimizer,
            epochs=args.epochs,
            batch_size=args.batch_size,
            callbacks=callbacks,
            resume=folder if args.resume else None,
            progress=not args.quiet,
            transform=transform,
            seed=args.seed,
            workers=1 if recipe else 0,
        )
    except KeyboardInterrupt:
        print(
            f"\nstopped; continue with: cnnpy train {args.model} --data {args.data} --epochs {args.epochs} --out {folder} --resume",
            file=sys.stderr,
        )
        return 1
    if len(history):
        run.load_best(model)
    result = train.evaluate(model, test, transform=run.transform)
    print(f"{len(train_part)} training samples, {time.perf_counter() - begin:.1f} s, run folder {folder}")
    print(f"test loss {result['loss']:.4f}, test accuracy {result['accuracy']:.4f} ({len(test)} samples)")
    return 0


def _open(folder):
    from cnnpy.train.run import Run

    run = Run.open(folder)
    if run.config["model"] not in MODELS:
        raise ValueError(f"{folder}: the model {run.config['model']!r} is not known")
    model = _build(run.config["model"], **_options(run.config["model"], run.config["input"], len(run.config["classes"])), rng=0)
    return run, model, run.load_best(model)


def _evaluate(args):
    from cnnpy import train
    from cnnpy.train.run import load_data

    run, model, path = _open(args.run)
    part = run.parts()[1] if args.command == "validate" else load_data(run.config["data"], "test")
    result = train.evaluate(model, part, transform=run.transform)
    print(f"{args.command} {path}: loss {result['loss']:.4f}, accuracy {result['accuracy']:.4f} ({len(part)} samples)")


def _predict(args):
    from cnnpy import functional as F
    from cnnpy import train
    from cnnpy.train.run import read_image

    run, model, _ = _open(args.run)
    images = [read_image(path, run.config["input"]) for path in args.images]
    probabilities = F.softmax(train.predict(model, np.concatenate(images), transform=run.transform))
    for path, p in zip(args.images, probabilities, strict=True):
        best = np.argsort(-p)[:3]
        print(f"{path}: {run.config['classes'][best[0]]}  (" + ", ".join(f"{run.config['classes'][i]} {p[i]:.3f}" for i in best) + ")")


def _shape(text):
    try:
        shape = tuple(int(n) for n in text.replace("x", ",").split(","))
    except ValueError:
        shape = ()
    if len(shape) != 3 or min(shape) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a shape like 1,28,28")
    return shape


def _summary(args):
    from cnnpy.tools import summary

    shape = _inputs(args.model, args.input)
    print(summary(_build(args.model, in_channels=shape[0], rng=0), shape))


def _receptive_field(args):
    from cnnpy.tools import receptive_field

    shape = _inputs(args.model, args.input)
    print(receptive_field(_build(args.model, in_channels=shape[0], rng=0), shape))


def _bench(args):
    from cnnpy import bench

    bench.run(args.name, against=[p for p in args.against.split(",") if p], thread_counts=args.threads)


def _positive(text):
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer of at least 1")
    return value


def _rate(text):
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e3:
        raise argparse.ArgumentTypeError(f"{text!r} is not a learning rate above 0")
    return value


def _parser():
    parser = argparse.ArgumentParser(prog="cnnpy", description="Convolutional networks for NumPy arrays: train, test and look into them.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name, function, text):
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        command.set_defaults(function=function)
        return command

    add("info", _info, "print version, instruction sets, threads and cache sizes")
    train = add("train", _train, "train a model and print its accuracy on the test part")
    train.add_argument("model", choices=MODELS)
    train.add_argument(
        "--data",
        default="digits",
        help="'digits' (scikit-learn), 'shapes' (generated), a folder of MNIST's IDX files, or CIFAR-10: its batches, or a folder or zip "
        "file of train/CLASS/ and test/CLASS/ images (default: digits)",
    )
    train.add_argument(
        "--epochs", type=_positive, default=10, help="passes over the training part in all, also with --resume (default: 10)"
    )
    train.add_argument("--batch-size", type=_positive, default=64, help="samples a step (default: 64)")
    train.add_argument(
        "--lr",
        type=_rate,
        help="learning rate at the start; falls linearly to a tenth, of the CIFAR ResNets in two steps (default: 0.004, sgd 0.05, of those 0.1)",
    )
    train.add_argument("--optimizer", choices=("adam", "adamw", "sgd"), help="default: adam, of the CIFAR ResNets sgd as in their paper")
    train.add_argument("--out", help="run folder (default: runs/MODEL-DATA)")
    train.add_argument("--resume", action="store_true", help="go on from the newest checkpoint of the run folder")
    train.add_argument("--threads", type=_positive, help="threads to use (default: all allowed); changes no bit of the result")
    train.add_argument("--seed", type=int, default=0, help="of the initial weights and of the order of samples (default: 0)")
    train.add_argument("--quiet", action="store_true", help="no progress bar")
    for name, text in (
        ("validate", "evaluate a run's best checkpoint on its validation part"),
        ("test", "evaluate a run's best checkpoint on the test part"),
    ):
        add(name, _evaluate, text).add_argument("run", help="run folder")
    predict = add("predict", _predict, "classify image files with a run's best checkpoint")
    predict.add_argument("run", help="run folder")
    predict.add_argument("images", nargs="+", help="image files")
    summary = add("summary", _summary, "print the layers of a model with shapes, parameters and multiply-adds")
    summary.add_argument("model", choices=MODELS)
    summary.add_argument("--input", type=_shape, help="channels,height,width (default: what the network was made for)")
    field = add("rf", _receptive_field, "print the receptive field of a model, layer by layer")
    field.add_argument("model", choices=MODELS)
    field.add_argument("--input", type=_shape, help="channels,height,width (default: what the network was made for)")
    bench = add("bench", _bench, "measure kernels and networks, beside other libraries if they are installed")
    bench.add_argument("name", nargs="?", default="all", help="machine, conv, families, lenet, calls or all (default: all)")
    bench.add_argument("--against", default="", help="comma-separated peers: torch, onnxruntime")
    bench.add_argument("--threads", type=_positive, nargs="*", help="thread counts (default: 1 and all)")
    return parser


def main(argv=None):
    """Runs a command; returns its exit status: 0, 1 after a failure, 2 for wrong usage."""
    args = _parser().parse_args(argv)
    try:
        return args.function(args) or 0
    except (ValueError, TypeError, OSError, ImportError, MemoryError, FloatingPointError) as error:
        print(f"cnnpy {args.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
