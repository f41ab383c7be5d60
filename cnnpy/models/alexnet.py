"""AlexNet."""

from cnnpy import nn
from cnnpy.io import load_weights
from cnnpy.nn.init import generator

__all__ = ["alexnet"]


class AlexNet(nn.Module):
    """Five convolutions, three dense layers; names as in torchvision."""

    def __init__(self, features, classifier, pool):
        super().__init__()
        self.features, self.classifier = features, classifier
        self.avgpool = nn.AdaptiveAvgPool2d(pool) if pool else None
        self.flatten = nn.Flatten()

    def structure(self):
        return ["features", *(["avgpool"] if self.avgpool is not None else []), "flatten", "classifier"]

    def forward(self, x):
        x = self.features(x)
        if self.avgpool is not None:
            x = self.avgpool(x)
        return self.classifier(self.flatten(x))


def alexnet(
    num_classes=1000, *, in_channels=3, variant="one tower", small_input=False, dropout=0.5, weights=None, rng=None, dtype="float32"
):
    """AlexNet for 224x224 images (227x227 in the paper's form).

    Parameters
    ----------
    num_classes, in_channels : int
    variant : {'one tower', 'paper'}
        'one tower' has 61,100,840 parameters and torchvision's names; 'paper' has two groups and local response normalisation, 60,965,224.
    small_input : bool
        For 32x32 images: a first window of 5 with stride 1 instead of 11 with stride 4, and 1,024 units in the dense layers.
    dropout : float
        Before the dense layers.
    weights : path, optional
        A ``.safetensors``, ``.pth`` or ``.npz`` file to start from; a head for other classes is left out with a warning.
    rng : int or numpy.random.Generator, optional

    References
    ----------
    A. Krizhevsky, I. Sutskever, G. Hinton, ImageNet classification with deep convolutional neural networks, 2012. The one tower: A.
    Krizhevsky, One weird trick for parallelizing convolutional neural networks, 2014.
    """
    if variant not in ("one tower", "paper"):
        raise ValueError(f"alexnet: variant is {variant!r}, expected 'one tower' or 'paper'")
    if small_input and variant == "paper":
        raise ValueError("alexnet: small_input is True with variant='paper', expected variant='one tower'")
    o = {"rng": generator(rng), "dtype": dtype}
    if variant == "paper":
        norm = lambda: nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)  # noqa: E731
        features = nn.Sequential(
            *(nn.Conv2d(in_channels, 96, 11, 4, **o), nn.ReLU(), norm(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(96, 256, 5, padding=2, groups=2, **o), nn.ReLU(), norm(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(256, 384, 3, padding=1, **o), nn.ReLU()),
            *(nn.Conv2d(384, 384, 3, padding=1, groups=2, **o), nn.ReLU()),
            *(nn.Conv2d(384, 256, 3, padding=1, groups=2, **o), nn.ReLU(), nn.MaxPool2d(3, 2)),
        )
    else:
        features = nn.Sequential(
            nn.Conv2d(in_channels, 64, 5, padding=2, **o) if small_input else nn.Conv2d(in_channels, 64, 11, 4, padding=2, **o),
            *(nn.ReLU(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(64, 192, 5, padding=2, **o), nn.ReLU(), nn.MaxPool2d(3, 2)),
            *(nn.Conv2d(192, 384, 3, padding=1, **o), nn.ReLU()),
            *(nn.Conv2d(384, 256, 3, padding=1, **o), nn.ReLU()),
            *(nn.Conv2d(256, 256, 3, padding=1, **o), nn.ReLU(), nn.MaxPool2d(3, 2)),
        )
    side, units = (3, 1024) if small_input else (6, 4096)
    classifier = nn.Sequential(
        *(nn.Dropout(dropout, rng=o["rng"]), nn.Linear(256 * side * side, units, **o), nn.ReLU()),
        *(nn.Dropout(dropout, rng=o["rng"]), nn.Linear(units, units, **o), nn.ReLU()),
        nn.Linear(units, num_classes, **o),
    )
    model = AlexNet(features, classifier, None if variant == "paper" else side)
    if weights is not None:
        load_weights(model, weights)
    return model
