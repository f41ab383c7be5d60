"""Public data sets, downloaded once and checked."""

import os
from pathlib import Path

__all__ = ["FETCHED", "fetch"]

# name -> (where the files are, {file: checksum}, archive to unpack or None)
_MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_FASHION = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
_CIFAR = "https://www.cs.toronto.edu/~kriz/"
_SHAKESPEARE = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/"
FETCHED: dict = {
    "mnist": (
        _MNIST,
        {
            "train-images-idx3-ubyte.gz": "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "train-labels-idx1-ubyte.gz": "md5:d53e105ee54ea40749a09fcbcd1e9432",
            "t10k-images-idx3-ubyte.gz": "md5:9fb629c4189551a2d022fa330f9573f3",
            "t10k-labels-idx1-ubyte.gz": "md5:ec29112dd5afa0611ce80d1b7f02629c",
        },
        None,
    ),
    "fashion-mnist": (
        _FASHION,
        {
            "train-images-idx3-ubyte.gz": "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "train-labels-idx1-ubyte.gz": "md5:25c81989df183df01b3e8a0aad5dffbe",
            "t10k-images-idx3-ubyte.gz": "md5:bef4ecab320f06d8554ea6380940ec79",
            "t10k-labels-idx1-ubyte.gz": "md5:bb300cfdad3c16e7a12a480ee83cd310",
        },
        None,
    ),
    "cifar10": (_CIFAR, {"cifar-10-binary.tar.gz": "md5:c32a1d4ab5d03f1284b67883e8d87530"}, "cifar-10-batches-bin"),
    "cifar100": (_CIFAR, {"cifar-100-binary.tar.gz": "md5:03b5dce01913d631647c71ecec9e9cb8"}, "cifar-100-binary"),
    "tinyshakespeare": (
        _SHAKESPEARE,
        {"input.txt": "sha256:86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"},
        None,
    ),
}


def _cache():
    """$CNNPY_DATA, else cnnpy below the user's cache folder."""
    if os.environ.get("CNNPY_DATA"):
        return Path(os.environ["CNNPY_DATA"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cnnpy"


def fetch(name, *, folder=None, mirror=None, progress=False):
    """Downloads a public data set, unless it is there already, and checks it.

    Parameters
    ----------
    name : {'mnist', 'fashion-mnist', 'cifar10', 'cifar100', 'tinyshakespeare'}
    folder : path, optional
        Where data sets are kept, each in a folder of its name: ``$CNNPY_DATA``, else ``~/.cache/cnnpy``.
    mirror : str, optional
        The address of a folder that holds the same files.
    progress : bool
        Show a bar (needs tqdm).

    Returns
    -------
    pathlib.Path
        The folder of the files: ``data.mnist``, ``data.cifar10``, ``data.cifar100`` read it; the text is ``input.txt`` in it.

    Raises
    ------
    ValueError
        An unknown name, or a file whose checksum is not the published one: it is not kept.
    OSError
        The download failed; what was there before is unchanged.
    ImportError
        Without pooch; the sentence names the extra.
    """
    if name not in FETCHED:
        raise ValueError(f"fetch: name is {name!r}, expected one of {', '.join(FETCHED)}")
    try:
        import pooch
    except ImportError:
        raise ImportError("fetch: needs pooch; install it with: pip install 'cnnpy[data]'") from None
    address, files, archive = FETCHED[name]
    target = Path(folder or _cache()) / name
    base = (mirror or address).rstrip("/") + "/"
    store = pooch.create(path=target, base_url=base, registry=files, retry_if_failed=2)
    pooch.get_logger().setLevel("WARNING")
    for file in files:
        unpack = pooch.Untar(extract_dir=".", members=None) if archive else None
        try:
            store.fetch(file, processor=unpack, progressbar=progress)
        except ValueError as error:  # pooch's sentence about the checksum
            raise ValueError(f"fetch: {base}{file} is not the file that was published: {str(error).splitlines()[0]}") from None
        except Exception as error:  # anything that a network can do
            raise OSError(f"fetch: {base}{file} could not be downloaded: {type(error).__name__}: {str(error).splitlines()[0]}") from None
    return target / archive if archive else target
