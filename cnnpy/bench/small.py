"""Workloads that are over in microseconds: every kind of operation on small images, where the work around the arithmetic is what counts.

Rows are those of :mod:`cnnpy.bench.families`, one for each shape and operation.
"""

__all__ = ["ROWS"]

SHAPES = [(64, 6, 28, 28), (64, 32, 14, 14), (32, 64, 7, 7), (8, 3, 64, 64), (128, 16, 32, 32), (1, 64, 28, 28)]


def _operations(channels, size):
    """(label, operation, shape of the weight or None, options) for images of so many channels and rows."""
    return [
        ("conv 1x1 to 64", "conv2d", (64, channels, 1, 1), {}),
        ("conv 3x3 to 32", "conv2d", (32, channels, 3, 3), {"padding": 1}),
        ("conv 3x3 to 32, stride 2", "conv2d", (32, channels, 3, 3), {"padding": 1, "stride": 2}),
        ("conv 5x5 to 16", "conv2d", (16, channels, 5, 5), {"padding": 2}),
        ("conv depthwise 3x3", "conv2d", (channels, 1, 3, 3), {"padding": 1, "groups": channels}),
        ("conv_transpose 2/2 to 16", "conv_transpose2d", (channels, 16, 2, 2), {"stride": 2}),
        ("max_pool 2/2", "max_pool2d", None, {"kernel_size": 2}),
        ("max_pool 3/2", "max_pool2d", None, {"kernel_size": 3, "stride": 2, "padding": 1}),
        ("avg_pool 2/2", "avg_pool2d", None, {"kernel_size": 2}),
        ("avg_pool 3/1", "avg_pool2d", None, {"kernel_size": 3, "stride": 1, "padding": 1}),
        ("lp_pool 2/2", "lp_pool2d", None, {"kernel_size": 2}),
        ("adaptive_avg_pool to 3", "adaptive_avg_pool2d", None, {"output_size": 3}),
        ("adaptive_max_pool to 3", "adaptive_max_pool2d", None, {"output_size": 3}),
        ("global_avg_pool", "global_avg_pool", None, {}),
        ("nearest x2", "interpolate", None, {"scale_factor": 2.0}),
        ("bilinear x2", "interpolate", None, {"scale_factor": 2.0, "mode": "bilinear"}),
        ("bilinear to half", "interpolate", None, {"size": size // 2, "mode": "bilinear"}),
        ("bicubic x2", "interpolate", None, {"scale_factor": 2.0, "mode": "bicubic"}),
        ("pad zeros 1", "pad", None, {"pads": ((1, 1), (1, 1)), "mode": "zeros"}),
        ("pad reflect 1", "pad", None, {"pads": ((1, 1), (1, 1)), "mode": "reflect"}),
    ]


ROWS = [
    (f"{label}, n{shape[0]} {shape[1]} @{shape[2]}", operation, shape, weight, options)
    for shape in SHAPES
    for label, operation, weight, options in _operations(shape[1], shape[2])
]
