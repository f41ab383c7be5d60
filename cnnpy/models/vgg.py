"""VGG11 to VGG19."""

from cnnpy import nn
from cnnpy.io import load_weights
from cnnpy.nn import init
from cnnpy.nn.init import generator

__all__ = ["vgg11", "vgg13", "vgg16", "vgg19"]

# filters of the 3x3 convolutions; 0: a 2x2 pool
_LAYERS = {
    "vgg11": (64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0),
    "vgg13": (64, 64, 0, 128, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0),
    "vgg16": (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0),
    "vgg19": (64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 512, 512, 0, 512, 512, 512, 512, 0),
}


class VGG(nn.Module):
    """3x3 convolutions and pools, then dense layers; names as in torchvision."""

    def __init__(self, features, avgpool, classifier):
        super().__init__()
        self.features, self.avgpool, self.flatten, self.classifier = features, avgpool, nn.Flatten(), classifier

    def structure(self):
        return ["features", "avgpool", "flatten", "classifier"]

    def forward(self, x):
        return self.classifier(self.flatten(self.avgpool(self.features(x))))


def _features(layers, in_channels, batch_norm, o):
    found: list = []
    for filters in layers:
        if filters == 0:
            found.append(nn.MaxPool2d(2))
            continue
        conv = nn.Conv2d(in_channels, filters, 3, padding=1, **o)
        init.kaiming_normal_(conv.weight, mode="fan_out", rng=o["rng"])
        init.zeros_(conv.bias)
        found += [conv, *([nn.BatchNorm2d(filters, dtype=o["dtype"])] if batch_norm else []), nn.ReLU()]
        in_channels = filters
    return nn.Sequential(*found)


_DOC = """{title} for 224x224 images, or with ``small_input=True`` for 32x32 ones.

Parameters
----------
num_classes, in_channels : int
batch_norm : bool
    Batch norm behind every convolution.
small_input : bool
    One dense layer of 512 features instead of three behind a 7x7 map.
dropout : float
    Behind the dense layers.
weights : path, optional
    A ``.safetensors``, ``.pth`` or ``.npz`` file to start from; a head for other classes is left out with a warning.
rng : int or numpy.random.Generator, optional

References
----------
K. Simonyan, A. Zisserman, Very deep convolutional networks for large-scale image recognition, 2015.
"""


def _define(name):
    def build(
        num_classes=1000, *, in_channels=3, batch_norm=False, small_input=False, dropout=0.5, weights=None, rng=None, dtype="float32"
    ):
        o = {"rng": generator(rng), "dtype": dtype}
        features = _features(_LAYERS[name], in_channels, batch_norm, o)
        if small_input:
            model = VGG(features, nn.AdaptiveAvgPool2d(1), nn.Sequential(nn.Linear(512, num_classes, **o)))
        else:
            dense = [nn.Linear(512 * 49, 4096, **o), nn.Linear(4096, 4096, **o), nn.Linear(4096, num_classes, **o)]
            for layer in dense:
                init.normal_(layer.weight, 0.0, 0.01, rng=o["rng"])
                init.zeros_(layer.bias)
            drop = [nn.Dropout(dropout, rng=o["rng"]) for _ in range(2)]
            classifier = nn.Sequential(dense[0], nn.ReLU(), drop[0], dense[1], nn.ReLU(), drop[1], dense[2])
            model = VGG(features, nn.AdaptiveAvgPool2d(7), classifier)
        if weights is not None:
            load_weights(model, weights)
        return model

    build.__name__ = build.__qualname__ = name
    build.__doc__ = _DOC.format(title=name.upper())
    return build


vgg11, vgg13, vgg16, vgg19 = (_define(name) for name in _LAYERS)
