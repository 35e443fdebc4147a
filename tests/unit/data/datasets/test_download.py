"""Downloading, by torchvision, from a server of this machine instead of the official one."""

import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torchvision.datasets as official

from tests.unit.data.datasets.samples import SAMPLES, Sample, md5
from tune_vae.data.datasets.cifar10 import Cifar10
from tune_vae.data.datasets.fashion_mnist import FashionMnist
from tune_vae.data.datasets.mnist import Mnist
from tune_vae.data.datasets.omniglot import Omniglot
from tune_vae.data.datasets.svhn import Svhn
from tune_vae.errors import DataError

pytestmark = pytest.mark.filterwarnings(
    # torchvision's own reading of CIFAR-10, whose arrays Python 2 pickled, with numpy from 2.4 on.
    "ignore:dtype.*align should be passed as Python or NumPy boolean"
)


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """Address and folder of what is served."""
    monkeypatch.setenv("no_proxy", "*")
    folder = tmp_path / "served"
    folder.mkdir()
    serving = ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=str(folder)))
    thread = threading.Thread(target=serving.serve_forever, args=[0.01])
    thread.start()
    yield f"http://127.0.0.1:{serving.server_port}", folder
    serving.shutdown()
    thread.join()
    serving.server_close()


def served(
    name: str, address: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Sample, list[str]]:
    """A sample that torchvision takes for the official files, and their places below the root."""
    if name in {"fashion_mnist", "mnist"}:
        kind = official.FashionMNIST if name == "fashion_mnist" else official.MNIST
        sample = SAMPLES["fashion_mnist"](folder)
        there = f"{address}/{sample.files[0].parent.relative_to(folder)}/"
        monkeypatch.setattr(kind, "mirrors", [there])
        monkeypatch.setattr(kind, "resources", [(one.name, md5(one)) for one in sample.files])
        return sample, [f"{kind.__name__}/raw/{one.stem}" for one in sample.files]
    sample = SAMPLES[name](folder)
    if name == "svhn":
        files = {
            split: [f"{address}/{file.name}", file.name, md5(file)]
            for split, file in zip(("train", "test"), sample.files, strict=True)
        }
        monkeypatch.setattr(official.SVHN, "split_list", files)
    elif name == "cifar10":
        archive = folder / "cifar-10-python.tar.gz"
        with tarfile.open(archive, "w:gz") as packed:
            packed.add(sample.files[0].parent, arcname=official.CIFAR10.base_folder)
        sums = [[file.name, md5(file)] for file in sample.files]
        meta = official.CIFAR10.meta | {"md5": md5(sample.files[0].parent / "batches.meta")}
        for attribute, value in {
            "url": f"{address}/{archive.name}",
            "tgz_md5": md5(archive),
            "train_list": sums[:5],
            "test_list": sums[5:],
            "meta": meta,
        }.items():
            monkeypatch.setattr(official.CIFAR10, attribute, value)
    else:
        monkeypatch.setattr(official.Omniglot, "download_url_prefix", f"{address}/omniglot-py")
        sums_of = {file.stem: md5(file) for file in sample.files}
        monkeypatch.setattr(official.Omniglot, "zips_md5", sums_of)
    return sample, [str(file.relative_to(folder)) for file in sample.files]


DATASETS = {
    "cifar10": partial(Cifar10, validation=5),
    "fashion_mnist": partial(FashionMnist, validation=9),
    "mnist": partial(Mnist, validation=9),
    "omniglot": partial(Omniglot, validation=3, size=None),
    "svhn": partial(Svhn, validation=4),
}


@pytest.mark.parametrize("name", DATASETS)
def test_absent_files_are_downloaded_once(
    name: str, server: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample, places = served(name, *server, monkeypatch)
    root = tmp_path / "new" / "root"
    make = partial(DATASETS[name], root=str(root))
    with pytest.raises(DataError, match="write `download: true` under its name"):
        make().load()
    assert not root.exists()
    data = make(download=True).load()
    assert data.digest() == sample.dataset.load().digest()
    # Nothing is left over, and no server is needed any more.
    assert not list(root.glob(".download*"))
    assert all((root / place).is_file() for place in places)
    before = {file: file.stat().st_mtime_ns for file in root.rglob("*")}
    monkeypatch.setattr("socket.socket.connect", None)
    assert make(download=True).load().digest() == data.digest()
    assert make().load().digest() == data.digest()
    assert {file: file.stat().st_mtime_ns for file in root.rglob("*")} == before


@pytest.mark.parametrize("name", DATASETS)
def test_download_that_is_not_the_official_file_is_refused(
    name: str, server: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served(name, *server, monkeypatch)
    for file in server[1].rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(DataError, match=f"could not be downloaded into {tmp_path}/here"):
        DATASETS[name](root=str(tmp_path / "here"), download=True).load()
    assert list((tmp_path / "here").rglob("*")) == []


@pytest.mark.parametrize("name", DATASETS)
def test_unreachable_server_is_said_so(
    name: str, server: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder = server
    served(name, "http://127.0.0.1:9", folder, monkeypatch)
    with pytest.raises(DataError, match=r"could not be downloaded .* get it from"):
        DATASETS[name](root=str(tmp_path / "here"), download=True).load()


def test_folder_that_cannot_be_written_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=f"could not be downloaded into {tmp_path}/file/data"):
        Svhn(root=str(tmp_path / "file" / "data"), download=True).load()
