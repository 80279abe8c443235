"""``download=True`` through the real torchvision, without a network."""

import contextlib
import functools
import gzip
import hashlib
import http.server
import socket
import socketserver
import subprocess
import sys
import threading

import numpy as np
import pytest

from torchopt_ref.data import load
from torchopt_ref.errors import UserError

datasets = pytest.importorskip("torchvision.datasets")


@pytest.fixture
def offline(monkeypatch):
    """Every connection is refused at once: the mirror is a port on which nothing listens."""
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/"
        for dataset in (datasets.MNIST, datasets.FashionMNIST):
            monkeypatch.setattr(dataset, "mirrors", [url])
        yield


@contextlib.contextmanager
def serve(handler):
    """The URL of a server on this machine."""
    with socketserver.TCPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def mirror(data_root, tmp_path, monkeypatch):
    """The synthetic Fashion-MNIST as torchvision expects it on a server, served on this machine."""
    served = tmp_path / "served"
    served.mkdir()
    resources = []
    for path in sorted((data_root / "FashionMNIST" / "raw").iterdir()):
        content = gzip.compress(path.read_bytes())
        (served / f"{path.name}.gz").write_bytes(content)
        resources.append((f"{path.name}.gz", hashlib.md5(content).hexdigest()))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(datasets.FashionMNIST, "resources", resources)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=served)
    with serve(handler) as url:
        monkeypatch.setattr(datasets.FashionMNIST, "mirrors", [url])
        yield served


def test_download_fetches_what_is_missing(mirror, data_root, tmp_path, capsys):
    fetched = load("fashion", tmp_path / "fresh", download=True)
    expected = load("fashion", data_root)
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        np.testing.assert_array_equal(getattr(fetched, name), getattr(expected, name))
    assert (tmp_path / "fresh" / "FashionMNIST" / "raw" / "t10k-labels-idx1-ubyte").exists()
    assert capsys.readouterr().out == ""


def test_download_replaces_a_file_that_was_deleted(mirror, data_root):
    path = data_root / "FashionMNIST" / "raw" / "train-images-idx3-ubyte"
    content = path.read_bytes()
    path.unlink()
    load("fashion", data_root, download=True)
    assert path.read_bytes() == content


def test_a_mirror_that_sends_something_else_is_one_line(mirror, tmp_path):
    (mirror / "train-images-idx3-ubyte.gz").write_bytes(b"please log in")
    with pytest.raises(UserError, match=r"cannot download FashionMNIST into .*corrupted"):
        load("fashion", tmp_path / "fresh", download=True)


@pytest.mark.parametrize(("dataset", "folder"), [("mnist", "MNIST"), ("fashion", "FashionMNIST")])
def test_a_failed_download_is_one_line(offline, tmp_path, dataset, folder):
    with pytest.raises(UserError, match=r"refused.*: check the folder.*the network") as caught:
        load(dataset, tmp_path, download=True)
    message = str(caught.value)
    assert message.startswith(f"cannot download {folder} into {tmp_path / folder / 'raw'}: ")
    assert "\n" not in message


def test_a_mirror_that_does_not_speak_http_is_one_line(tmp_path, monkeypatch):
    class Mail(socketserver.StreamRequestHandler):
        def handle(self):
            self.wfile.write(b"220 mail.example ESMTP\r\n")

    monkeypatch.setenv("no_proxy", "*")
    with serve(Mail) as url:
        monkeypatch.setattr(datasets.MNIST, "mirrors", [url])
        with pytest.raises(UserError, match=r"cannot download MNIST into .*220 mail\.example"):
            load("mnist", tmp_path, download=True)


def test_a_folder_that_cannot_be_made_is_named(offline, tmp_path):
    file = tmp_path / "file"
    file.write_text("in the way")
    with pytest.raises(UserError, match=r"cannot download MNIST into .*file.*: check the folder"):
        load("mnist", file, download=True)


@pytest.mark.parametrize("compressed", [False, True])
def test_nothing_is_fetched_when_all_files_are_there(offline, data_root, compressed):
    if compressed:
        for path in list((data_root / "MNIST" / "raw").iterdir()):
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    assert load("mnist", data_root, download=True).train_images.shape == (5, 784)


def test_a_missing_torchvision_names_the_line_that_installs_it(tmp_path):
    script = (
        "import sys\n"
        "sys.modules['torchvision'] = None\n"
        "from torchopt_ref.data import load\n"
        "from torchopt_ref.errors import UserError\n"
        "try:\n"
        "    load('mnist', sys.argv[1], download=True)\n"
        "except UserError as error:\n"
        "    print(error)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], check=True, capture_output=True, text=True
    )
    assert result.stdout.startswith("--download needs torchvision (")
    assert result.stdout.endswith("): pip install 'torchopt-ref[lab]'\n")
