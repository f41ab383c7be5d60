"""train, validate, test, predict, report: work in a run folder."""

import math
import sys
import time
from pathlib import Path

import numpy as np

from cnnpy.cli.networks import CIFAR_RESNETS, MODELS, build, options_for

__all__ = ["SCHEDULES", "evaluate_run", "predict_images", "report_run", "train_model"]

SCHEDULES = {  # the rate's factor as a function of the share of epochs done, so that resuming continues it
    "steps": lambda share, last: 0.1 ** ((share >= 0.5) + (share >= 0.75)),
    "linear": lambda share, last: 1 - 0.9 * share / max(last, 1e-9),
    "cosine": lambda share, last: 0.5 * (1 + math.cos(math.pi * share)),
    "constant": lambda share, last: 1.0,
}


class _Schedule:
    """Sets the rate at the begin of every epoch."""

    def __init__(self, optimizer, epochs, factor):
        self.optimizer, self.epochs, self.factor, self.base = optimizer, epochs, factor, optimizer.lr

    def on_epoch_begin(self, epoch):
        self.optimizer.lr = self.base * self.factor(epoch / self.epochs, 1 - 1 / self.epochs)


# how a network is trained on small colour images if nothing else is asked for; of the CIFAR ResNets as in He et al. (2015), section 4.2
_HE: dict = {"optimizer": "sgd", "lr": 0.1, "weight_decay": 1e-4, "schedule": "steps", "batch_size": 128, "augment": "shift-flip"}
_SMALL_COLOUR: dict = {
    **dict.fromkeys(CIFAR_RESNETS, _HE),
    **{name: {**_HE, "weight_decay": 5e-4} for name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")},
    **{name: {**_HE, "lr": 0.05, "weight_decay": 5e-4} for name in ("vgg11", "vgg13", "vgg16", "vgg19")},
    "alexnet": {**_HE, "lr": 0.02, "weight_decay": 5e-4},
}
_ELSE: dict = {"optimizer": "adam", "lr": 4e-3, "weight_decay": 0.0, "schedule": "linear", "batch_size": 64, "augment": "none"}


def recipe_for(args, shape):
    """The recipe of a network for images of a shape, changed by what the command line says."""
    recipe = dict(_SMALL_COLOUR.get(args.model, _ELSE) if shape[0] == 3 and shape[1] <= 64 else _ELSE)
    if args.optimizer and args.optimizer != recipe["optimizer"]:
        recipe |= {"optimizer": args.optimizer, "lr": 0.05 if args.optimizer == "sgd" else 4e-3}
    given = {"lr": args.lr, "schedule": args.schedule, "batch_size": args.batch_size, "augment": args.augment}
    given["weight_decay"] = args.weight_decay
    return recipe | {k: v for k, v in given.items() if v is not None}


def _optimizer(recipe, model):
    from cnnpy import optim

    options = {"lr": recipe["lr"], "weight_decay": recipe["weight_decay"]}
    if recipe["optimizer"] == "sgd":
        return optim.SGD(model.parameters(), momentum=0.9, **options)
    return {"adam": optim.Adam, "adamw": optim.AdamW}[recipe["optimizer"]](model.parameters(), **options)


def _folder(args):
    """The run folder: the one asked for, else runs/MODEL-DATA, numbered where that is taken already."""
    from cnnpy.train.run import Run

    if args.out:
        if not args.resume and Run.exists(args.out):
            raise ValueError(f"train: {args.out} holds a run already; give --resume to go on with it, or another --out")
        return Path(args.out)
    first = Path(f"runs/{args.model}-{Path(args.data).name or 'data'}")
    taken = [first] if Run.exists(first) else []
    while taken and Run.exists(following := Path(f"{first}-{len(taken) + 1}")):
        taken.append(following)
    if args.resume:
        return taken[-1] if taken else first
    return Path(f"{first}-{len(taken) + 1}") if taken else first


def train_model(args):
    if not args.distributed:
        return _train(args, None)
    from cnnpy.dist import MPIReducer

    reducer = MPIReducer(ordered=True)
    try:
        return _train(args, reducer)
    except BaseException as error:
        if reducer.size > 1:
            reducer.abort(error)
        raise


def _threads(args, reducer):
    import cnnpy

    if args.threads:
        cnnpy.set_num_threads(args.threads)
    elif reducer is not None:
        cnnpy.set_num_threads(max(1, cnnpy.num_threads() // reducer.local_size()))


def _train(args, reducer):
    import cnnpy
    from cnnpy import train
    from cnnpy.train.run import Run, load_data
    from cnnpy.transforms import Compose, Normalize, PadAndCrop, RandomHorizontalFlip

    _threads(args, reducer)
    first = reducer is None or reducer.rank == 0
    # Rank 0 alone looks for a folder and fills it; where the others looked late, they would find its run and refuse it.
    folder = _folder(args) if first or args.resume else Path(args.out or ".")
    whole = load_data(args.data, "train")
    channels, classes = whole.x.shape[1], whole.classes
    config = {"model": args.model, "num_classes": len(classes), "in_channels": channels, "data": args.data, "seed": args.seed}
    config |= {"classes": classes, "input": list(whole.x.shape[1:]), "normalize": Normalize.of(whole).state()}
    model = build(args.model, **options_for(args.model, whole.x.shape[1:], len(classes)), rng=args.seed)
    recipe = recipe_for(args, whole.x.shape[1:])
    optimizer = _optimizer(recipe, model)
    config |= {"epochs": args.epochs, **{k: recipe[k] for k in ("batch_size", "optimizer", "schedule", "augment", "weight_decay")}}
    config |= {"lr": optimizer.lr, "ranks": 1 if reducer is None else reducer.size, "cnnpy": cnnpy.__version__}
    run = Run(folder, config)
    if args.resume:
        saved = Run.open(folder)
        changed = [
            k
            for k in ("model", "data", "seed", "optimizer", "batch_size", "augment", "ranks")
            if saved.config.get(k, {"ranks": 1, "augment": config["augment"]}.get(k)) != config[k]
        ]
        if changed:
            raise ValueError(f"train: --resume with another {', '.join(changed)} than the run in {folder} began with")
        run.config["normalize"] = saved.config["normalize"]
    test = load_data(args.data, "test")
    if first:
        run.create()
    train_part, validation = run.parts()
    moves = {"none": (), "shift": (PadAndCrop(2),), "shift-flip": (PadAndCrop(4), RandomHorizontalFlip())}[recipe["augment"]]
    transform = Compose(*moves, run.transform) if moves else run.transform
    callbacks = [
        _Schedule(optimizer, args.epochs, SCHEDULES[recipe["schedule"]]),
        train.CSVLogger(folder / "history.csv"),
        train.Checkpoint(run.checkpoints, every=args.save_every),
    ]
    begin = time.perf_counter()
    try:
        history = train.fit(
            model,
            train_part,
            validation,
            optimizer=optimizer,
            epochs=args.epochs,
            batch_size=recipe["batch_size"],
            callbacks=callbacks,
            resume=folder if args.resume else None,
            progress=not args.quiet,
            transform=transform,
            seed=args.seed,
            workers=1 if moves else 0,
            reducer=reducer,
        )
    except KeyboardInterrupt:
        print(
            f"\nstopped; continue with: cnnpy train {args.model} --data {args.data} --epochs {args.epochs} --out {folder} --resume",
            file=sys.stderr,
        )
        return 1
    finally:
        run.close()
    if not first:
        return 0
    if len(history):
        run.load_best(model)
    result = train.evaluate(model, test, transform=run.transform)
    print(f"{len(train_part)} training samples, {time.perf_counter() - begin:.1f} s, run folder {folder}")
    print(f"test loss {result['loss']:.4f}, test accuracy {result['accuracy']:.4f} ({len(test)} samples)")
    _report(run, model, test, optional=True)
    return 0


def _open(folder):
    from cnnpy.train.run import Run

    run = Run.open(folder)
    if run.config["model"] not in MODELS:
        raise ValueError(f"{folder}: the model {run.config['model']!r} is not known")
    model = build(run.config["model"], **options_for(run.config["model"], run.config["input"], len(run.config["classes"])), rng=0)
    return run, model, run.load_best(model)


def _report(run, model, test, optional=False):
    from cnnpy import plot

    try:
        path = plot.report(run, model, test)
    except ImportError:
        if not optional:
            raise
    else:
        print(f"report {path}")


def report_run(args):
    from cnnpy.train.run import load_data

    run, model, _ = _open(args.run)
    _report(run, model, load_data(run.config["data"], "test"))


def evaluate_run(args):
    from cnnpy import train
    from cnnpy.train.run import load_data

    run, model, path = _open(args.run)
    part = run.parts()[1] if args.command == "validate" else load_data(run.config["data"], "test")
    result = train.evaluate(model, part, transform=run.transform)
    print(f"{args.command} {path}: loss {result['loss']:.4f}, accuracy {result['accuracy']:.4f} ({len(part)} samples)")


def predict_images(args):
    from cnnpy import functional as F
    from cnnpy import train
    from cnnpy.train.run import read_image

    run, model, _ = _open(args.run)
    images = [read_image(path, run.config["input"]) for path in args.images]
    probabilities = F.softmax(train.predict(model, np.concatenate(images), transform=run.transform))
    for path, p in zip(args.images, probabilities, strict=True):
        best = np.argsort(-p)[:3]
        print(f"{path}: {run.config['classes'][best[0]]}  (" + ", ".join(f"{run.config['classes'][i]} {p[i]:.3f}" for i in best) + ")")
