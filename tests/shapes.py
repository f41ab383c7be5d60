"""Real layers that tests and benches share: (name, batch, channels, filters, size, window, stride, padding)."""

LENET = [("lenet conv1", 64, 1, 6, 28, 5, 1, 2), ("lenet conv2", 64, 6, 16, 14, 5, 1, 0)]
SMALL = [
    ("resnet20 16@32", 2, 16, 16, 32, 3, 1, 1),
    ("resnet20 16-32 s2", 2, 16, 32, 32, 3, 2, 1),
    ("resnet 64@14", 1, 64, 64, 14, 3, 1, 1),
    ("resnet 1x1 300-40@7", 2, 300, 40, 7, 1, 1, 0),
    ("first layer 3-20 7x7 s2", 1, 3, 20, 40, 7, 2, 3),
    ("alexnet 5x5", 1, 12, 24, 27, 5, 1, 2),
]
