"""train, validate, test, predict, sample, report: work in a run folder."""

import functools
import math
import shlex
import sys
import time
from pathlib import Path

import numpy as np

from cnnpy.cli.networks import CIFAR_RESNETS, MODELS, SEQUENCES, build, options_for

__all__ = ["SCHEDULES", "evaluate_run", "predict_images", "report_run", "sample_text", "train_model"]

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


def recipe_for(args, task):
    """The recipe of a network for its data, changed by what the command line says."""
    if args.model in SEQUENCES:
        recipe = {**task.recipe, "augment": "none"}
    else:
        channels, height, _ = task.config["input"]
        recipe = dict(_SMALL_COLOUR.get(args.model, _ELSE) if channels == 3 and height <= 64 else _ELSE)
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


def _command_to_go_on(given, folder):
    """The same command line with its run folder and --resume."""
    words = [word for word in given if word != "--resume"]
    if not any(word == "--out" or word.startswith("--out=") for word in words):
        words += ["--out", str(folder)]
    return shlex.join(["cnnpy", *words, "--resume"])


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


def _augmented(name, task):
    """The transform of training images: moved as they come, then made to the network's numbers, then hidden where these are 0, the mean."""
    from cnnpy.transforms import Compose, Cutout, PadAndCrop, RandomHorizontalFlip

    if name == "none":
        return task.transform
    moves = (PadAndCrop(2),) if name == "shift" else (PadAndCrop(4), RandomHorizontalFlip())
    hides = (Cutout(max(1, task.config["input"][1] // 4)),) if name == "shift-flip-cutout" else ()
    return Compose(*moves, task.transform, *hides)


def _train(args, reducer):
    import cnnpy
    from cnnpy import train
    from cnnpy.train.run import Run
    from cnnpy.train.tasks import task_of

    _threads(args, reducer)
    if args.model in SEQUENCES:
        for option, given in (("augment", args.augment), ("label-smoothing", args.label_smoothing), ("validation", args.validation)):
            if given not in (None, "none"):
                raise ValueError(f"train: --{option} {given} is for images, {args.model} has none")
    first = reducer is None or reducer.rank == 0
    # Rank 0 alone looks for a folder and fills it; where the others looked late, they would find its run and refuse it.
    folder = _folder(args) if first or args.resume else Path(args.out or ".")
    config = {"model": args.model, "data": args.data, "seed": args.seed}
    config |= {k: v for k in ("window", "season", "validation", "label_smoothing") if (v := getattr(args, k)) is not None}
    task = task_of(config)
    model = _model(task, args.seed)
    recipe = recipe_for(args, task)
    optimizer = _optimizer(recipe, model)
    config |= {"epochs": args.epochs, **{k: recipe[k] for k in ("batch_size", "optimizer", "schedule", "augment", "weight_decay")}}
    config |= {"lr": optimizer.lr, "ranks": 1 if reducer is None else reducer.size, "cnnpy": cnnpy.__version__}
    run = Run(folder, config)
    if args.resume:
        saved = Run.open(folder)
        same = {"ranks": 1, "augment": config["augment"], "window": config.get("window")}  # where an older run does not say
        kept = ("model", "data", "seed", "optimizer", "batch_size", "augment", "ranks", "window", "validation", "label_smoothing")
        changed = [k for k in kept if saved.config.get(k, same.get(k)) != config.get(k)]
        if changed:
            raise ValueError(f"train: --resume with another {', '.join(changed)} than the run in {folder} began with")
        run.config["normalize"] = saved.config["normalize"]
    test = task.test()
    if first:
        run.create()
    train_part, validation = task.parts()
    transform = _augmented(recipe["augment"], task)
    loss = functools.partial(task.loss, label_smoothing=args.label_smoothing) if args.label_smoothing else task.loss
    callbacks = [
        _Schedule(optimizer, args.epochs, SCHEDULES[recipe["schedule"]]),
        train.CSVLogger(folder / "history.csv"),
        train.Checkpoint(run.checkpoints, every=args.save_every, best="val_loss" if args.model in SEQUENCES else "val_accuracy"),
    ]
    begin = time.perf_counter()
    try:
        history = train.fit(
            model,
            train_part,
            validation,
            optimizer=optimizer,
            loss=loss,
            metrics=task.metrics,
            epochs=args.epochs,
            batch_size=recipe["batch_size"],
            callbacks=callbacks,
            resume=folder if args.resume else None,
            progress=not args.quiet,
            transform=transform,
            seed=args.seed,
            workers=0 if transform is task.transform else 1,
            reducer=reducer,
            compile=not args.eager,
        )
    except KeyboardInterrupt:
        print(f"\nstopped; continue with: {_command_to_go_on(args.given, folder)}", file=sys.stderr)
        return 1
    finally:
        run.close()
    if not first:
        return 0
    if len(history):
        run.load_best(model)
    result = train.evaluate(model, test, transform=task.transform, loss=task.loss, metrics=task.metrics)
    print(f"{len(train_part)} training samples, {time.perf_counter() - begin:.1f} s, run folder {folder}")
    if args.model in SEQUENCES:
        print(f"test {task.say(result, len(test))}", *task.finish(model), sep="\n")
        return 0
    print(f"test loss {result['loss']:.4f}, test accuracy {result['accuracy']:.4f} ({len(test)} samples)")
    _report(run, model, test, optional=True)
    return 0


def _model(task, seed):
    config = task.config
    if config["model"] in SEQUENCES:
        return build(config["model"], **task.options(), rng=seed)
    return build(config["model"], **options_for(config["model"], config["input"], len(config["classes"])), rng=seed)


def _open(folder):
    from cnnpy.train.run import Run
    from cnnpy.train.tasks import task_of

    run = Run.open(folder)
    if run.config["model"] not in (*MODELS, *SEQUENCES):
        raise ValueError(f"{folder}: the model {run.config['model']!r} is not known")
    task = task_of(run.config)
    model = _model(task, 0)
    return run, task, model, run.load_best(model)


def _open_images(folder, command):
    run, task, model, _ = _open(folder)
    if run.config["model"] in SEQUENCES:
        raise ValueError(f"{command}: {folder} holds a {run.config['model']}, expected a network for images")
    return run, task, model


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
    run, task, model = _open_images(args.run, "report")
    _report(run, model, task.test())


def evaluate_run(args):
    from cnnpy import train

    _, task, model, path = _open(args.run)
    part = task.parts()[1] if args.command == "validate" else task.test()
    result = train.evaluate(model, part, transform=task.transform, loss=task.loss, metrics=task.metrics)
    print(f"{args.command} {path}: {task.say(result, len(part))}")
    for line in task.finish(model) if args.command == "test" else ():
        print(line)


def sample_text(args):
    """Writes on from a prompt with a run's character model."""
    from cnnpy.tools import sample_characters

    run, task, model, _ = _open(args.run)
    if run.config["model"] != "char_lstm":
        raise ValueError(f"sample: {args.run} holds a {run.config['model']}, expected a char_lstm")
    ids = task.text.encode(args.prompt)
    print(args.prompt + task.text.decode(sample_characters(model, ids, args.length, temperature=args.temperature, rng=args.seed)))


def predict_images(args):
    from cnnpy import functional as F
    from cnnpy import train
    from cnnpy.train.run import read_image

    run, _, model = _open_images(args.run, "predict")
    images = [read_image(path, run.config["input"]) for path in args.images]
    probabilities = F.softmax(train.predict(model, np.concatenate(images), transform=run.transform))
    for path, p in zip(args.images, probabilities, strict=True):
        best = np.argsort(-p)[:3]
        print(f"{path}: {run.config['classes'][best[0]]}  (" + ", ".join(f"{run.config['classes'][i]} {p[i]:.3f}" for i in best) + ")")
