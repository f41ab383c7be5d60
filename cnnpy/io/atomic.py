"""Replacing a file whole: after a return the new content is on disk, after any failure the old one is."""

import contextlib
import errno
import fcntl
import os
import secrets
import stat
import sys

__all__ = ["atomic_write", "sweep"]

_CHUNK = 1 << 22


def _sync(descriptor):
    if sys.platform == "darwin":
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)


def _write_all(descriptor, data):
    view = memoryview(data).cast("B")
    while view:
        view = view[os.write(descriptor, view[:_CHUNK]) :]


def _sync_folder(folder):
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def atomic_write(path, chunks):
    """Writes the chunks to `path` through a locked temporary file in the same folder: write, fsync, rename, fsync of the folder.

    Parameters
    ----------
    path : path
        A symbolic link is followed; an existing file keeps its mode.
    chunks : iterable of bytes-like

    Raises
    ------
    OSError
        With the path; the old file is unchanged.
    """
    path = os.path.realpath(path)
    try:
        _replace(path, chunks)
    except OSError as error:
        if error.filename is None:
            error.filename = path
        raise


def _replace(path, chunks):
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name[:200]}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        size = 0
        for chunk in chunks:
            _write_all(descriptor, chunk)
            size += memoryview(chunk).nbytes
        with contextlib.suppress(FileNotFoundError):
            os.fchmod(descriptor, stat.S_IMODE(os.stat(path).st_mode))
        if os.fstat(descriptor).st_size != size:
            raise OSError(errno.EIO, f"{os.fstat(descriptor).st_size} bytes were written, expected {size}", path)
        _sync(descriptor)
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    finally:
        os.close(descriptor)
    _sync_folder(folder)


def sweep(folder):
    """Removes temporary files that a killed writer left; a living writer holds its lock and keeps its file."""
    for name in os.listdir(folder):
        if not (name.startswith(".") and name.endswith(".tmp")):
            continue
        path = os.path.join(folder, name)
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(path)
        except OSError:
            pass
        finally:
            os.close(descriptor)
