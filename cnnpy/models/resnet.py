"""ResNet-18 to ResNet-152, and the CIFAR form, ResNet-20 to ResNet-110."""

from cnnpy import nn
from cnnpy.io import load_weights
from cnnpy.nn import init
from cnnpy.nn.init import generator

__all__ = [
    "resnet18",
    "resnet20",
    "resnet32",
    "resnet34",
    "resnet44",
    "resnet50",
    "resnet56",
    "resnet101",
    "resnet110",
    "resnet152",
]


def _conv(c, k, window, stride, o):
    layer = nn.Conv2d(c, k, window, stride, padding=window // 2, bias=False, **o)
    init.kaiming_normal_(layer.weight, mode="fan_out", rng=o["rng"])
    return layer


def _projection(c, k, stride, o):
    """Shortcut B: a 1x1 convolution and batch norm."""
    return nn.Sequential(_conv(c, k, 1, stride, o), nn.BatchNorm2d(k, dtype=o["dtype"]))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around the shortcut."""

    expansion = 1

    def __init__(self, c, k, stride, shortcut, variant, o):
        super().__init__()
        self.conv1, self.bn1 = _conv(c, k, 3, stride, o), nn.BatchNorm2d(k, dtype=o["dtype"])
        self.conv2, self.bn2 = _conv(k, k, 3, 1, o), nn.BatchNorm2d(k, dtype=o["dtype"])
        self.relu, self.downsample = nn.ReLU(), shortcut

    def structure(self):
        return [(["conv1", "bn1", "relu", "conv2", "bn2"], ["downsample"] if self.downsample is not None else []), "relu"]

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions around the shortcut, four times as wide at the end."""

    expansion = 4

    def __init__(self, c, k, stride, shortcut, variant, o):
        super().__init__()
        first, second = (stride, 1) if variant == "v1" else (1, stride)
        self.conv1, self.bn1 = _conv(c, k, 1, first, o), nn.BatchNorm2d(k, dtype=o["dtype"])
        self.conv2, self.bn2 = _conv(k, k, 3, second, o), nn.BatchNorm2d(k, dtype=o["dtype"])
        self.conv3, self.bn3 = _conv(k, 4 * k, 1, 1, o), nn.BatchNorm2d(4 * k, dtype=o["dtype"])
        self.relu, self.downsample = nn.ReLU(), shortcut

    def structure(self):
        body = ["conv1", "bn1", "relu", "conv2", "bn2", "relu", "conv3", "bn3"]
        return [(body, ["downsample"] if self.downsample is not None else []), "relu"]

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """A first convolution, stages of residual blocks, a global average, a dense layer; names as in torchvision.

    Behind the last ReLU a block whose convolutions give zero is ReLU(x): the identity where x >= 0 only.
    """

    def __init__(self, block, widths, depths, num_classes, in_channels, stem, shortcut, variant, o):
        super().__init__()
        c = widths[0]
        self.conv1 = _conv(in_channels, c, 7 if stem else 3, 2 if stem else 1, o)
        self.bn1, self.relu = nn.BatchNorm2d(c, dtype=o["dtype"]), nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, padding=1) if stem else None
        self.stages = len(widths)
        for i, (k, depth) in enumerate(zip(widths, depths, strict=True)):
            blocks = []
            for j in range(depth):
                stride = 2 if i > 0 and j == 0 else 1
                wide = k * block.expansion
                side = None
                if stride != 1 or c != wide:
                    side = nn.Subsample(c, wide, stride) if shortcut == "A" else _projection(c, wide, stride, o)
                blocks.append(block(c, k, stride, side, variant, o))
                c = wide
            setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
        self.avgpool, self.flatten, self.fc = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, num_classes, **o)

    def structure(self):
        stem = ["conv1", "bn1", "relu", *(["maxpool"] if self.maxpool is not None else [])]
        return [*stem, *(f"layer{i + 1}" for i in range(self.stages)), "avgpool", "flatten", "fc"]

    def forward(self, x):
        x = self.relu(self.bn1(self.conv1(x)))
        if self.maxpool is not None:
            x = self.maxpool(x)
        for i in range(self.stages):
            x = getattr(self, f"layer{i + 1}")(x)
        return self.fc(self.flatten(self.avgpool(x)))


_DOC = """{title} for 224x224 images.

Parameters
----------
num_classes, in_channels : int
variant : {{'v1.5', 'v1'}}
    Of bottlenecks: where the stride of a stage's first block stands, at the 3x3 convolution or, as in the paper, at the first 1x1.
small_input : bool
    For images of 32x32: a 3x3 first convolution of stride 1 and no pool.
weights : path, optional
    A ``.safetensors``, ``.pth`` or ``.npz`` file to start from; a head for other classes is left out with a warning.
rng : int or numpy.random.Generator, optional

References
----------
K. He, X. Zhang, S. Ren, J. Sun, Deep residual learning for image recognition, 2016.
"""


def _large(depth, block, depths):
    def build(num_classes=1000, *, in_channels=3, variant="v1.5", small_input=False, weights=None, rng=None, dtype="float32"):
        if variant not in ("v1.5", "v1"):
            raise ValueError(f"resnet{depth}: variant is {variant!r}, expected 'v1.5' or 'v1'")
        o = {"rng": generator(rng), "dtype": dtype}
        model = ResNet(block, (64, 128, 256, 512), depths, num_classes, in_channels, not small_input, "B", variant, o)
        if weights is not None:
            load_weights(model, weights)
        return model

    build.__name__ = build.__qualname__ = f"resnet{depth}"
    build.__doc__ = _DOC.format(title=f"ResNet-{depth}")
    return build


_CIFAR_DOC = """ResNet-{depth} for 32x32 images: three stages of {n} blocks with 16, 32 and 64 filters.

Parameters
----------
num_classes, in_channels : int
shortcut : {{'A', 'B'}}
    Where the size changes: subsampling and zero channels, the paper's, without parameters; or a 1x1 convolution.
weights : path, optional
    A ``.safetensors``, ``.pth`` or ``.npz`` file to start from; a head for other classes is left out with a warning.
rng : int or numpy.random.Generator, optional

References
----------
K. He, X. Zhang, S. Ren, J. Sun, Deep residual learning for image recognition, 2016, section 4.2.
"""


def _cifar(depth):
    n = (depth - 2) // 6

    def build(num_classes=10, *, in_channels=3, shortcut="A", weights=None, rng=None, dtype="float32"):
        if shortcut not in ("A", "B"):
            raise ValueError(f"resnet{depth}: shortcut is {shortcut!r}, expected 'A' or 'B'")
        o = {"rng": generator(rng), "dtype": dtype}
        model = ResNet(BasicBlock, (16, 32, 64), (n, n, n), num_classes, in_channels, False, shortcut, "v1.5", o)
        if weights is not None:
            load_weights(model, weights)
        return model

    build.__name__ = build.__qualname__ = f"resnet{depth}"
    build.__doc__ = _CIFAR_DOC.format(depth=depth, n=n)
    return build


resnet18, resnet34 = _large(18, BasicBlock, (2, 2, 2, 2)), _large(34, BasicBlock, (3, 4, 6, 3))
resnet50, resnet101, resnet152 = (
    _large(50, Bottleneck, (3, 4, 6, 3)),
    _large(101, Bottleneck, (3, 4, 23, 3)),
    _large(152, Bottleneck, (3, 8, 36, 3)),
)
resnet20, resnet32, resnet44, resnet56, resnet110 = (_cifar(depth) for depth in (20, 32, 44, 56, 110))
