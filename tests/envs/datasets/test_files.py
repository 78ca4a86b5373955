"""Finding, downloading, verifying and reading the files of data sets."""

from __future__ import annotations

import gzip
import hashlib
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pooch
import pytest

from sab_agents.envs.datasets.files import Published, check_sha256, data_folder, download, find
from sab_agents.envs.datasets.images import CIFAR10_RECORD, cifar10_images, mnist_images, read_cifar10, read_idx
from sab_agents.envs.datasets.text import ptb_text, strip_lines, text8_text


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """The address of a local server, and the folder that it serves; downloads go to a cache of their own."""
    served = tmp_path / "served"
    served.mkdir()
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(served))) as http:
        thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}/", served
        http.shutdown()
        thread.join()


def cifar10_bytes(n: int, first_label: int = 0) -> bytes:
    records = np.random.default_rng(n).integers(0, 256, size=(n, CIFAR10_RECORD), dtype=np.uint8)
    records[:, 0] = (first_label + np.arange(n)) % 10
    return records.tobytes()


def test_the_folder_is_the_argument_before_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one").mkdir()
    monkeypatch.delenv("SAB_DATA_DIR", raising=False)
    assert data_folder(None) is None
    monkeypatch.setenv("SAB_DATA_DIR", str(tmp_path))
    assert data_folder(None) == tmp_path
    assert data_folder(tmp_path / "one") == tmp_path / "one"


def test_a_folder_that_does_not_exist_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotADirectoryError, match=r"data_dir must name a folder that exists, but is '.*nowhere'"):
        data_folder(tmp_path / "nowhere")
    monkeypatch.setenv("SAB_DATA_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(NotADirectoryError, match="SAB_DATA_DIR must name a folder"):
        data_folder(None)


def test_files_are_found_in_the_subfolder_first_and_then_directly(tmp_path: Path) -> None:
    (tmp_path / "file-2").touch()
    assert find("set", ("file-1", "file-*"), tmp_path, "url") == [tmp_path / "file-2"]
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "file-3").touch()
    assert find("set", ("file-1", "file-*"), tmp_path, "url") == [tmp_path / "set" / "file-3"]
    (tmp_path / "set" / "file-1").touch()
    assert find("set", ("file-1", "file-*"), tmp_path, "url") == [tmp_path / "set" / "file-1"]


def test_a_missing_file_is_named_with_the_places_looked_in_and_where_to_get_it(tmp_path: Path) -> None:
    for load, dataset, name in (
        (mnist_images, "mnist", "train-images-idx3-ubyte.gz"),
        (cifar10_images, "cifar10", "data_batch"),
        (ptb_text, "ptb", "ptb.train.txt"),
        (text8_text, "text8", "text8"),
    ):
        places = f"'{tmp_path}/{dataset}' or '{tmp_path}'"
        message = rf"{dataset}: no file {name}.* in {places}.*published at https?://.*SAB_DATA_DIR"
        with pytest.raises(FileNotFoundError, match=message):
            load(tmp_path)


def test_another_file_under_a_published_name_raises(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    digest = hashlib.sha256(b"content").hexdigest()
    check_sha256(tmp_path / "file", digest, "https://example.org/file")
    (tmp_path / "file").write_bytes(b"contents")
    message = rf"file' is damaged .* sha256 must be {digest}, but is [0-9a-f]{{64}}. Download it again from https://example.org"
    with pytest.raises(ValueError, match=message):
        check_sha256(tmp_path / "file", digest, "https://example.org/file")


@pytest.mark.parametrize(
    ("name", "load"),
    [
        ("ptb.train.txt", ptb_text),
        ("text8.zip", text8_text),
        ("train-images-idx3-ubyte.gz", mnist_images),
        ("data_batch_1.bin", cifar10_images),
    ],
)
def test_published_files_are_checked_before_they_are_read(tmp_path: Path, name: str, load: object) -> None:
    (tmp_path / name).write_bytes(b"damaged")
    (tmp_path / "test_batch.bin").write_bytes(b"damaged")
    assert callable(load)
    message = (
        rf"{name}' is damaged .* sha256 must be [0-9a-f]{{64}}, but is [0-9a-f]{{64}}. Download it again from https?://"
    )
    with pytest.raises(ValueError, match=message):
        load(tmp_path)


def test_a_download_is_kept_and_not_repeated(server: tuple[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    url, served = server
    (served / "file").write_bytes(b"content" * 100_000)
    published = Published("file", url + "file", hashlib.sha256(b"content" * 100_000).hexdigest())
    path = download("set", published)
    assert path.read_bytes() == b"content" * 100_000
    assert "file: 100 % of 0.7 MB" in capsys.readouterr().err
    (served / "file").unlink()
    assert download("set", published) == path


def test_a_download_that_is_another_file_is_an_error_and_not_stored(server: tuple[str, Path], tmp_path: Path) -> None:
    url, served = server
    (served / "file").write_bytes(b"something else")
    with pytest.raises(ValueError, match="hash"):
        download("set", Published("file", url + "file", "0" * 64))
    assert not (tmp_path / "cache" / "sab_agents" / "set" / "file").exists()


def test_a_failed_download_names_the_address_and_the_way_out(server: tuple[str, Path]) -> None:
    url, _ = server
    with pytest.raises(ConnectionError, match=rf"set: cannot download {url}absent .*--data-dir .*SAB_DATA_DIR"):
        download("set", Published("absent", url + "absent", "0" * 64))


def test_idx_files_are_read_plain_or_gzipped(tmp_path: Path) -> None:
    raw = bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3]) + bytes(range(6))
    (tmp_path / "plain").write_bytes(raw)
    (tmp_path / "zipped.gz").write_bytes(gzip.compress(raw))
    for name in ("plain", "zipped.gz"):
        assert read_idx(tmp_path / name).tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "must start with the IDX mark"),
        (b"GIF89a", "must start with the IDX mark 00 00 08, but starts with 47 49 46"),
        (bytes([0, 0, 8, 3, 0, 0]), "but is 6 bytes long"),
        (bytes([0, 0, 8, 1, 0, 0, 0, 5, 1, 2, 3, 4]), r"must hold \[5\] bytes after 8 of header, but is 12 bytes long"),
        (bytes([0, 0, 8, 1, 0, 0, 0, 1, 1, 2]), r"must hold \[1\] bytes"),
    ],
)
def test_damaged_idx_files_raise(tmp_path: Path, raw: bytes, message: str) -> None:
    (tmp_path / "file").write_bytes(raw)
    with pytest.raises(ValueError, match=message):
        read_idx(tmp_path / "file")


def test_a_gzip_file_that_ends_early_raises(tmp_path: Path) -> None:
    (tmp_path / "file.gz").write_bytes(gzip.compress(bytes(1000))[:-12])
    with pytest.raises(ValueError, match=r"file.gz' must be a gzip file, but is damaged"):
        read_idx(tmp_path / "file.gz")


def test_mnist_with_more_images_than_labels_raises(mnist_folder: Path) -> None:
    assert len(mnist_images(mnist_folder).splits["test"].labels) == 12
    (mnist_folder / "t10k-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 1, 2, 3]))
    with pytest.raises(ValueError, match="as many labels from 0 to 9 as images"):
        mnist_images(mnist_folder)


def test_cifar10_pixels_have_their_three_colours(tmp_path: Path) -> None:
    raw = cifar10_bytes(4)
    (tmp_path / "some.bin").write_bytes(raw)
    images = read_cifar10(tmp_path / "some.bin")
    for i in range(4):
        record = raw[i * 3073 : (i + 1) * 3073]
        assert images.labels[i] == record[0]
        for pixel in (0, 1, 500, 1023):
            assert images.pixels[i, pixel].tolist() == [record[1 + 1024 * colour + pixel] for colour in range(3)]


def test_parts_of_cifar10_are_read_together(tmp_path: Path) -> None:
    (tmp_path / "data_batch_1_part.bin").write_bytes(cifar10_bytes(10))
    (tmp_path / "data_batch_2_part.bin").write_bytes(cifar10_bytes(10, first_label=5))
    (tmp_path / "test_batch_part.bin").write_bytes(cifar10_bytes(3))
    splits = cifar10_images(tmp_path).splits
    labels = [*range(10), *range(5, 10), *range(5)]
    assert splits["train"].labels.tolist() == labels[:18]
    assert splits["validation"].labels.tolist() == labels[18:]
    assert splits["test"].labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize("raw", [b"", cifar10_bytes(3)[:-1], bytes([10]) + bytes(3072)])
def test_damaged_cifar10_files_raise(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "some.bin").write_bytes(raw)
    with pytest.raises(ValueError, match="must consist of records of 3073 bytes, each starting with a label"):
        read_cifar10(tmp_path / "some.bin")


def test_too_few_images_for_a_validation_split_raise(tmp_path: Path) -> None:
    (tmp_path / "data_batch_part.bin").write_bytes(cifar10_bytes(9))
    (tmp_path / "test_batch_part.bin").write_bytes(cifar10_bytes(3))
    with pytest.raises(ValueError, match=r"at least 10 training images, .*, but there are 9"):
        cifar10_images(tmp_path)


def test_lines_lose_their_outer_spaces_and_keep_their_ends() -> None:
    assert strip_lines(" a b \n c\nd \n\n e ") == "a b\nc\nd\n\ne\n"


@pytest.mark.parametrize("name", ["text8", "text8-beginning.zip"])
def test_a_beginning_of_text8_is_read_plain_or_zipped(tmp_path: Path, name: str) -> None:
    content = "some words of plain text " * 8
    if name.endswith(".zip"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("text8", content)
    else:
        (tmp_path / name).write_text(content)
    text = text8_text(tmp_path)
    assert text.description.startswith("the first 200 of 100,000,000 bytes of text8, split into first 90 %")
    assert "".join(text.vocabulary[code] for codes in text.codes.values() for code in codes) == content


@pytest.mark.parametrize(
    ("content", "reported"), [("a" * 99, "99 bytes"), ("a" * 150 + "A" + "a" * 50, "byte 65 at 150")]
)
def test_a_file_that_is_not_text8_raises(tmp_path: Path, content: str, reported: str) -> None:
    (tmp_path / "text8").write_text(content)
    with pytest.raises(ValueError, match=f"text8' is damaged or not text8: .* but holds {reported}"):
        text8_text(tmp_path)


def test_a_damaged_or_other_zip_file_raises(tmp_path: Path) -> None:
    (tmp_path / "text8-part.zip").write_bytes(b"PK and no more")
    with pytest.raises(ValueError, match="must be a zip file with a member text8"):
        text8_text(tmp_path)
    with zipfile.ZipFile(tmp_path / "text8-part.zip", "w") as archive:
        archive.writestr("other", "text")
    with pytest.raises(ValueError, match="must be a zip file with a member text8"):
        text8_text(tmp_path)
