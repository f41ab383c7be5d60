"""Image files in class folders."""

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from cnnpy.data.dataset import ArrayDataset

__all__ = ["ImageFolder"]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".pgm", ".webp")
_THREADS = 4


def _pillow(function):
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise ImportError(f"{function}: needs pillow; install it with: pip install 'cnnpy[data]'") from None
    return Image, (UnidentifiedImageError, OSError, Image.DecompressionBombError, ValueError, SyntaxError)


def decode(function, name, source, size):
    """One picture as (3, H, W) uint8, resized if it has another size; source: bytes or a path."""
    Image, errors = _pillow(function)
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            picture = image.convert("RGB")
            if size is not None and picture.size != (size[1], size[0]):
                picture = picture.resize((size[1], size[0]), Image.Resampling.BILINEAR)
            return np.asarray(picture).transpose(2, 0, 1)
    except errors as error:
        raise ValueError(f"{function}: {name} is not a readable image: {error}") from None


def decode_all(function, files, size):
    """(name, bytes or path) of many pictures to (N, 3, H, W)."""
    _pillow(function)
    result = np.empty((len(files), 3, *size), np.uint8)

    def one(i):
        name, source = files[i]
        result[i] = decode(function, name, source, size)

    with ThreadPoolExecutor(_THREADS) as pool:
        for _ in pool.map(one, range(len(files)), chunksize=64):
            pass
    return result


class ImageFolder:
    """A data set of image files ``ROOT/CLASS/NAME.jpg``, decoded when they are asked for.

    Parameters
    ----------
    root : path
    size : int or (int, int)
        Height and width that every picture is resized to.

    Attributes
    ----------
    classes : list of str
        Folder names in order; the targets are their numbers.

    Notes
    -----
    ``dataset[indices]`` gives ``(x, y)``, x uint8 (N, 3, H, W). Only pictures that are asked for lie in memory: give the DataLoader workers.
    """

    def __init__(self, root, size=224):
        sizes = size if isinstance(size, tuple) else (size, size)
        if len(sizes) != 2 or any(isinstance(s, bool) or not isinstance(s, int) or s < 1 for s in sizes):
            raise ValueError(f"ImageFolder: size is {size!r}, expected an int or (height, width) of at least 1")
        self.root, self.size = Path(root), sizes
        if not self.root.is_dir():
            raise ValueError(f"ImageFolder: {root} is not a folder")
        paths = sorted(p for p in self.root.glob("*/*") if p.suffix.lower() in IMAGE_SUFFIXES)
        if not paths:
            raise ValueError(f"ImageFolder: {root} holds no images in class folders")
        self.classes = sorted({p.parent.name for p in paths})
        numbers = {c: i for i, c in enumerate(self.classes)}
        self.paths, self.y = np.array(paths, object), np.array([numbers[p.parent.name] for p in paths], np.int64)

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        chosen = np.atleast_1d(np.arange(len(self))[index])
        x = np.stack([decode("ImageFolder", self.paths[i], self.paths[i], self.size) for i in chosen])
        return (x[0], self.y[index]) if np.ndim(self.y[index]) == 0 else (x, self.y[index])

    def subset(self, indices):
        part = object.__new__(ImageFolder)
        part.root, part.size, part.classes = self.root, self.size, self.classes
        part.paths, part.y = self.paths[indices], self.y[indices]
        return part

    def load(self):
        """All pictures in memory, as an ArrayDataset."""
        return ArrayDataset(decode_all("ImageFolder", [(str(p), p) for p in self.paths], self.size), self.y, self.classes)

    def __repr__(self):
        return f"ImageFolder({len(self)} images of {len(self.classes)} classes in {self.root})"
