"""A small U-Net."""

from cnnpy import nn
from cnnpy.io import load_weights
from cnnpy.nn.init import generator

__all__ = ["unet_small"]


class Stage(nn.Module):
    """Two 3x3 convolutions with batch norm and ReLU."""

    def __init__(self, c, k, o):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(c, k, 3, padding=1, bias=False, **o), nn.BatchNorm2d(k, dtype=o["dtype"])
        self.conv2, self.bn2 = nn.Conv2d(k, k, 3, padding=1, bias=False, **o), nn.BatchNorm2d(k, dtype=o["dtype"])
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))))


class UNet(nn.Module):
    """An encoder that halves the map twice, a decoder that doubles it twice, and paths between maps of one size.

    The lower step up is a transposed convolution; the upper one puts values back where the encoder's pool found its maxima.
    """

    def __init__(self, num_classes, in_channels, width, o):
        super().__init__()
        self.down1, self.down2, self.bottom = Stage(in_channels, width, o), Stage(width, 2 * width, o), Stage(2 * width, 4 * width, o)
        self.pool = nn.MaxPool2d(2, return_indices=True)
        self.up2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2, **o)
        self.join2 = Stage(4 * width, 2 * width, o)
        self.narrow = nn.Conv2d(2 * width, width, 1, **o)
        self.unpool = nn.MaxUnpool2d(2)
        self.join = nn.Join()
        self.join1 = Stage(2 * width, width, o)
        self.head = nn.Conv2d(width, num_classes, 1, **o)

    def forward(self, x):
        if x.shape[2] % 4 or x.shape[3] % 4:
            raise ValueError(f"unet_small: x has shape {x.shape}, expected height and width that are multiples of 4")
        one = self.down1(x)
        small, places = self.pool(one)
        two = self.down2(small)
        deep = self.bottom(self.pool(two)[0])
        up = self.join2(self.join(self.up2(deep), two))
        wide = self.unpool(self.narrow(up), places)
        return self.head(self.join1(self.join(wide, one)))


def unet_small(num_classes=2, *, in_channels=3, width=16, weights=None, rng=None, dtype="float32"):
    """A U-Net with two steps down and up: a class for every pixel.

    Parameters
    ----------
    num_classes, in_channels : int
    width : int
        Filters of the first stage; doubled at each step down.
    weights : path, optional
        A ``.safetensors``, ``.pth`` or ``.npz`` file to start from; a head for other classes is left out with a warning.
    rng : int or numpy.random.Generator, optional

    Returns
    -------
    Module
        (N, in_channels, H, W) to (N, num_classes, H, W), H and W multiples of 4.

    References
    ----------
    O. Ronneberger, P. Fischer, T. Brox, U-Net: convolutional networks for biomedical image segmentation, 2015. V. Badrinarayanan, A. Kendall,
    R. Cipolla, SegNet, 2017 (unpooling).
    """
    model = UNet(num_classes, in_channels, width, {"rng": generator(rng), "dtype": dtype})
    if weights is not None:
        load_weights(model, weights)
    return model
