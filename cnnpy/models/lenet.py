"""LeNet-5."""

from cnnpy import nn
from cnnpy.io import load_weights
from cnnpy.nn.init import generator

__all__ = ["lenet5"]


def lenet5(num_classes=10, *, in_channels=1, activation="tanh", pooling="average", weights=None, rng=None, dtype="float32"):
    """LeNet-5 for 28x28 images: 61,706 parameters with one channel and ten classes.

    Two blocks of convolution, activation and pooling, then three dense layers, as in the paper, but every filter of the second
    convolution sees all six maps and the output layer is dense.

    Parameters
    ----------
    num_classes, in_channels : int
    activation : {'tanh', 'relu'}
    pooling : {'average', 'max'}
    weights : path, optional
        A ``.safetensors`` file to start from.
    rng : int or numpy.random.Generator, optional
        For the initial weights.

    References
    ----------
    Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Gradient-based learning applied to document recognition, 1998.
    """
    activations, pools = {"tanh": nn.Tanh, "relu": nn.ReLU}, {"average": nn.AvgPool2d, "max": nn.MaxPool2d}
    if activation not in activations:
        raise ValueError(f"lenet5: activation is {activation!r}, expected 'tanh' or 'relu'")
    if pooling not in pools:
        raise ValueError(f"lenet5: pooling is {pooling!r}, expected 'average' or 'max'")
    act, pool = activations[activation], pools[pooling]
    options = {"rng": generator(rng), "dtype": dtype}
    model = nn.Sequential(
        nn.Conv2d(in_channels, 6, 5, padding=2, **options),
        act(),
        pool(2),
        nn.Conv2d(6, 16, 5, **options),
        act(),
        pool(2),
        nn.Flatten(),
        nn.Linear(400, 120, **options),
        act(),
        nn.Linear(120, 84, **options),
        act(),
        nn.Linear(84, num_classes, **options),
    )
    if weights is not None:
        load_weights(model, weights)
    return model
