"""The command line: ``cnnpy`` or ``python -m cnnpy``."""

import argparse
import sys

from cnnpy.cli.check import check
from cnnpy.cli.demo import demo
from cnnpy.cli.networks import MODELS, SEQUENCES, convert, print_receptive_field, print_summary
from cnnpy.cli.notebooks import copy_notebooks
from cnnpy.cli.train import SCHEDULES, evaluate_run, predict_images, report_run, sample_text, train_model

__all__ = ["main"]


def _info(args):
    from cnnpy.functional.runtime import show_config

    show_config()


def _shape(text):
    try:
        shape = tuple(int(n) for n in text.replace("x", ",").split(","))
    except ValueError:
        shape = ()
    if len(shape) != 3 or min(shape) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a shape like 1,28,28")
    return shape


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


def _seconds(text):
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 60:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to 60")
    return value


def _padding(text):
    if text in ("valid", "same", "full"):
        return text
    if text.isdecimal() and len(text) < 3:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 99, 'valid', 'same' or 'full'")


def _share(text):
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return value


def _part(text):
    value = _share(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number between 0 and 1")
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
    add("check", check, "test this installation on this machine and print the table of rounding errors")
    train = add("train", train_model, "train a model and print its accuracy on the test part")
    train.add_argument("model", choices=(*MODELS, *SEQUENCES))
    train.add_argument(
        "--data",
        default="digits",
        help="'digits' (scikit-learn), 'shapes' (generated), a folder of MNIST's IDX files, or CIFAR-10: its batches, or a folder or zip "
        "file of train/CLASS/ and test/CLASS/ images; 'mnist', 'fashion-mnist', 'cifar10' are downloaded once; for char_lstm a text file, for "
        "forecaster a CSV file, for seq2seq_attention 'dates' or 'reversals' (default: digits)",
    )
    train.add_argument(
        "--epochs", type=_positive, default=10, help="passes over the training part in all, also with --resume (default: 10)"
    )
    train.add_argument("--batch-size", type=_positive, help="samples a step (default: 64, on small colour images 128)")
    train.add_argument(
        "--lr",
        type=_rate,
        help="learning rate at the start (default: 0.004, with sgd 0.05; on small colour images that of the network's recipe)",
    )
    train.add_argument(
        "--weight-decay", type=_share, help="times the weights, added to their gradients (default: 0, or that of the recipe)"
    )
    train.add_argument(
        "--schedule",
        choices=SCHEDULES,
        help="how the rate falls over the epochs: to a tenth after a half and again after three quarters, linearly to a tenth, along a "
        "cosine to 0, or not at all (default: linear, on small colour images steps)",
    )
    train.add_argument("--optimizer", choices=("adam", "adamw", "sgd"), help="default: adam, on small colour images sgd")
    train.add_argument(
        "--augment",
        choices=("none", "shift", "shift-flip", "shift-flip-cutout"),
        help="change training images at random: shift by up to 2 pixels, or by up to 4 and mirror, or also hide a square of a quarter of the "
        "height (default: none, on small colour images shift-flip)",
    )
    train.add_argument(
        "--label-smoothing",
        type=_share,
        metavar="SHARE",
        help="of images: this share of every target goes to all classes alike, while training and in the loss of validation (default: 0)",
    )
    train.add_argument(
        "--validation",
        type=_part,
        metavar="SHARE",
        help="of images: how many of the training part are kept to choose the best epoch by (default: 0.1)",
    )
    train.add_argument("--window", type=_positive, help="of sequences: characters of a text, values of a series (default: 128, 24)")
    train.add_argument("--season", type=_positive, help="of series: compare with the value so many steps ago")
    train.add_argument("--out", help="run folder (default: runs/MODEL-DATA, numbered where that is taken)")
    train.add_argument("--save-every", type=_positive, metavar="STEPS", help="save also within epochs (default: at their ends)")
    train.add_argument(
        "--distributed",
        action="store_true",
        help="one of the processes of: mpiexec -n R cnnpy train ... --distributed; a step takes R batches and equals one of the R-fold batch",
    )
    train.add_argument("--resume", action="store_true", help="go on from the newest checkpoint of the run folder")
    train.add_argument("--threads", type=_positive, help="threads to use (default: all allowed); changes no bit of the result")
    train.add_argument("--seed", type=int, default=0, help="of the initial weights and of the order of samples (default: 0)")
    train.add_argument("--eager", action="store_true", help="run every call by itself instead of compiled programs: slower, the same curve")
    train.add_argument("--quiet", action="store_true", help="no progress bar")
    for name, text in (
        ("validate", "evaluate a run's best checkpoint on its validation part"),
        ("test", "evaluate a run's best checkpoint on the test part"),
    ):
        add(name, evaluate_run, text).add_argument("run", help="run folder")
    add("report", report_run, "write a run's report.html: curves, confusion matrix, worst mistakes, first filters").add_argument(
        "run", help="run folder"
    )
    sample = add("sample", sample_text, "write a text with a run's character model")
    sample.add_argument("run", help="run folder")
    sample.add_argument("--prompt", default="\n", help="the text to go on from (default: a new line)")
    sample.add_argument("--length", type=_positive, default=500, help="characters to write (default: 500)")
    sample.add_argument("--temperature", type=_rate, default=0.8, help="below 1: likelier characters more often (default: 0.8)")
    sample.add_argument("--seed", type=int, default=0, help="of the choices (default: 0)")
    predict = add("predict", predict_images, "classify image files with a run's best checkpoint")
    predict.add_argument("run", help="run folder")
    predict.add_argument("images", nargs="+", help="image files")
    summary = add("summary", print_summary, "print the layers of a model with shapes, parameters and multiply-adds")
    summary.add_argument("model", choices=MODELS)
    summary.add_argument("--input", type=_shape, help="channels,height,width (default: what the network was made for)")
    field = add("rf", print_receptive_field, "print the receptive field of a model, layer by layer")
    field.add_argument("model", choices=MODELS)
    field.add_argument("--input", type=_shape, help="channels,height,width (default: what the network was made for)")
    add("notebooks", copy_notebooks, "copy the course's notebooks to a folder").add_argument("folder", help="made where it is not there")
    change = add("convert", convert, "rewrite weights in another form, or a network with its weights as an ONNX file")
    change.add_argument("source", metavar="IN", help="a run folder, or weights: .safetensors, .pth, .npz, .onnx")
    change.add_argument("target", metavar="OUT", help=".safetensors, .npz or .onnx")
    change.add_argument("--model", choices=MODELS, help="whose weights they are, for an .onnx file of anything but a run folder")
    change.add_argument("--input", type=_shape, help="channels,height,width (default: what the network was made for)")
    change.add_argument("--force", action="store_true", help="replace OUT if it exists")
    show = add("demo", demo, "show an operation step by step in the terminal")
    show.add_argument("name", choices=("conv", "pool", "lstm"))
    show.add_argument("--seconds", type=_seconds, default=0.8, help="how long a step stays (default: 0.8)")
    show.add_argument("--stride", type=_positive, help="of conv and pool (default: 1, of pool its size)")
    show.add_argument("--padding", type=_padding, help="of conv: a number, 'valid', 'same' or 'full' (default: 0)")
    show.add_argument("--dilation", type=_positive, help="of conv (default: 1)")
    show.add_argument("--flip", action="store_true", help="of conv: the convolution of mathematics")
    show.add_argument("--size", type=_positive, help="of pool (default: 2)")
    show.add_argument(
        "--kind",
        choices=("forward", "transposed", "backward", "max", "average"),
        help="of conv: forward, transposed, backward; of pool: max, average",
    )
    show.add_argument("--width", type=_positive, help="columns to write (default: those of the terminal)")
    bench = add("bench", _bench, "measure kernels and networks, beside other libraries if they are installed")
    bench.add_argument(
        "name",
        nargs="?",
        default="all",
        help="machine, conv, families, small, training, sequences, models, lenet, calls or all (default: all)",
    )
    bench.add_argument("--against", default="", help="comma-separated peers: torch, torch-compile, onnxruntime, openvino")
    bench.add_argument("--threads", type=_positive, nargs="*", help="thread counts (default: 1 and all)")
    return parser


def main(argv=None):
    """Runs a command; returns its exit status: 0, 1 after a failure, 2 for wrong usage."""
    given = list(sys.argv[1:] if argv is None else argv)
    args = _parser().parse_args(given)
    args.given = given
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
