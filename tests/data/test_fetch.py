import functools
import hashlib
import http.server
import importlib
import io
import tarfile
import threading

import pytest

from cnnpy import data

pytest.importorskip("pooch", reason="it comes with the data extra")
fetch = data.fetch
module = importlib.import_module("cnnpy.data.fetch")


@pytest.fixture
def server(tmp_path):
    """Serves a folder on this computer."""
    folder = tmp_path / "server"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            served.append(args)

    served: list = []
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield folder, f"http://127.0.0.1:{running.server_port}", served
    running.shutdown()
    running.server_close()
    thread.join()


def publish(monkeypatch, name, file, content, archive=None):
    monkeypatch.setitem(module.FETCHED, name, ("nowhere", {file: "sha256:" + hashlib.sha256(content).hexdigest()}, archive))


def test_downloads_once(server, tmp_path, monkeypatch):
    folder, address, served = server
    publish(monkeypatch, "tinyshakespeare", "input.txt", b"To be")
    (folder / "input.txt").write_bytes(b"To be")
    where = fetch("tinyshakespeare", folder=tmp_path / "cache", mirror=address)
    assert where == tmp_path / "cache" / "tinyshakespeare" and (where / "input.txt").read_bytes() == b"To be" and len(served) == 1
    monkeypatch.setenv("CNNPY_DATA", str(tmp_path / "cache"))
    assert fetch("tinyshakespeare", mirror=address) == where and len(served) == 1


def test_an_archive_is_unpacked(server, tmp_path, monkeypatch):
    folder, address, _ = server
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name in [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]:
            entry = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            entry.size = 3073
            archive.addfile(entry, io.BytesIO(b"\3" + bytes(3072)))
    publish(monkeypatch, "cifar10", "c.tar.gz", packed.getvalue(), "cifar-10-batches-bin")
    (folder / "c.tar.gz").write_bytes(packed.getvalue())
    found = data.cifar10(fetch("cifar10", folder=tmp_path / "cache", mirror=address))
    assert len(found) == 5 and found.classes[found.y[0]] == "cat"


def test_another_file_is_not_kept(server, tmp_path, monkeypatch):
    folder, address, _ = server
    publish(monkeypatch, "tinyshakespeare", "input.txt", b"To be")
    (folder / "input.txt").write_bytes(b"Not to be")
    with pytest.raises(ValueError, match=r"fetch: .*input.txt is not the file that was published"):
        fetch("tinyshakespeare", folder=tmp_path / "cache", mirror=address)
    assert not list((tmp_path / "cache").rglob("*.txt"))


def test_no_such_file_or_name(server, tmp_path, monkeypatch):
    _, address, _ = server
    with pytest.raises(OSError, match=r"fetch: .*input.txt could not be downloaded: "):
        fetch("tinyshakespeare", folder=tmp_path, mirror=address)
    with pytest.raises(ValueError, match="name is 'imagenet', expected one of mnist"):
        fetch("imagenet")


@pytest.mark.shared
def test_the_published_text(shared):
    content = (shared / "text" / "tinyshakespeare.txt").read_bytes()
    assert module.FETCHED["tinyshakespeare"][1]["input.txt"] == "sha256:" + hashlib.sha256(content).hexdigest()
