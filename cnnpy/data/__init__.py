"""Data: readers of the formats that digit and image sets come in, and the loader that makes batches."""

from cnnpy.data.dataset import ArrayDataset, split
from cnnpy.data.idx import mnist, read_idx, write_idx
from cnnpy.data.loader import DataLoader
from cnnpy.data.small import digits, shapes

__all__ = ["ArrayDataset", "DataLoader", "digits", "mnist", "read_idx", "shapes", "split", "write_idx"]
