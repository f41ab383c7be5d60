"""Data: readers of the formats that images, texts and series come in, and the loader that makes batches."""

from cnnpy.data.cifar import cifar10, cifar100
from cnnpy.data.dataset import ArrayDataset, split
from cnnpy.data.fetch import FETCHED, fetch
from cnnpy.data.folder import ImageFolder
from cnnpy.data.idx import mnist, read_idx, write_idx
from cnnpy.data.loader import DataLoader
from cnnpy.data.sequence import Forecasting, Text, dates, reversals, series, text, windows
from cnnpy.data.small import digits, shapes

__all__ = [
    "FETCHED",
    "ArrayDataset",
    "DataLoader",
    "Forecasting",
    "ImageFolder",
    "Text",
    "cifar10",
    "cifar100",
    "dates",
    "digits",
    "fetch",
    "mnist",
    "read_idx",
    "reversals",
    "series",
    "shapes",
    "split",
    "text",
    "windows",
    "write_idx",
]
