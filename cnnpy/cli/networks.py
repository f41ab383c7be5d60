"""summary, rf, convert: networks by name."""

import sys

__all__ = ["CIFAR_RESNETS", "MODELS", "SEQUENCES", "build", "convert", "options_for", "print_receptive_field", "print_summary"]

MODELS = (
    *("lenet5", "alexnet", "vgg11", "vgg13", "vgg16", "vgg19", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    *("resnet20", "resnet32", "resnet44", "resnet56", "resnet110"),
)
SEQUENCES = ("char_lstm", "forecaster", "seq2seq_attention")
CIFAR_RESNETS = ("resnet20", "resnet32", "resnet44", "resnet56", "resnet110")


def build(name, **options):
    from cnnpy import models

    return getattr(models, name)(**options)


def _inputs(model, given):
    """(C, H, W) that a command describes: as given, else what the network was made for."""
    if given:
        return given
    return (1, 28, 28) if model == "lenet5" else (3, 32, 32) if model in CIFAR_RESNETS else (3, 224, 224)


def options_for(name, shape, classes):
    """Arguments of a model for images of a shape: the large networks have a form for small ones."""
    options = {"num_classes": classes, "in_channels": shape[0]}
    if shape[1] < 64 and name.startswith(("alexnet", "vgg", "resnet")) and name not in CIFAR_RESNETS:
        options["small_input"] = True
        if name.startswith("vgg"):
            options["batch_norm"] = True  # without it the deep ones do not begin to learn from random weights
    return options


def print_summary(args):
    from cnnpy.tools import summary

    shape = _inputs(args.model, args.input)
    print(summary(build(args.model, in_channels=shape[0], rng=0), shape).text(bold=sys.stdout.isatty()))


def print_receptive_field(args):
    from cnnpy.tools import receptive_field

    shape = _inputs(args.model, args.input)
    print(receptive_field(build(args.model, in_channels=shape[0], rng=0), shape))


def convert(args):
    """Weights from one form into another, or a network with weights into an ONNX file."""
    from pathlib import Path

    from cnnpy import io
    from cnnpy.train import Run

    source, target = Path(args.source), Path(args.target)
    if target.suffix not in (".safetensors", ".npz", ".onnx"):
        raise ValueError(f"convert: {target} has an unknown suffix, expected .safetensors, .npz or .onnx")
    if target.exists() and not args.force:
        raise ValueError(f"convert: {target} exists already; give --force to replace it")
    if Run.exists(source):
        run = Run.open(source)
        name, shape = run.config["model"], tuple(run.config["input"])
        model = build(name, **options_for(name, shape, len(run.config["classes"])), rng=0)
        run.load_best(model)
        tensors = model.state_dict()
    else:
        tensors, model = io.read_weights(source), None
        if target.suffix == ".onnx":
            if args.model is None:
                raise ValueError("convert: an .onnx file holds a network too; name it with --model")
            shape = _inputs(args.model, args.input)
            head = list(tensors.values())[-1]
            model = build(args.model, **options_for(args.model, shape, head.shape[0]), rng=0)
            io.load_torchvision(model, source)
    if target.suffix == ".onnx":
        io.export_onnx(model, target, (1, *shape))
    else:
        io.write_weights(tensors, target)
    print(f"{target}: {len(tensors)} tensors, {sum(a.size for a in tensors.values()):,} numbers, {target.stat().st_size:,} bytes")
