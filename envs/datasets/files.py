"""Files of published data sets: found in the user's folder or downloaded, and verified before they are read."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

DATA_DIR_VARIABLE = "SAB_DATA_DIR"


@dataclass(frozen=True)
class Published:
    """A published file.

    Attributes:
        name: name of the file, also in the user's folder.
        url: address of the file.
        sha256: SHA-256 checksum of the file, in hexadecimal digits.
    """

    name: str
    url: str
    sha256: str


def data_folder(data_dir: str | os.PathLike[str] | None) -> Path | None:
    """Returns the folder to read data sets from: the argument, else the environment variable SAB_DATA_DIR, else None.

    Raises:
        TypeError: the argument is not a path.
        NotADirectoryError: the folder does not exist.
    """
    if data_dir is not None and not isinstance(data_dir, (str, os.PathLike)):
        raise TypeError(f"data_dir must be the path of a folder, but is {data_dir!r}. Pass a str or a path.")
    named = data_dir if data_dir is not None else os.environ.get(DATA_DIR_VARIABLE) or None
    if named is None:
        return None
    folder = Path(named).expanduser()
    if not folder.is_dir():
        origin = "data_dir" if data_dir is not None else DATA_DIR_VARIABLE
        raise NotADirectoryError(
            f"{origin} must name a folder that exists, but is '{folder}'. Create it, or leave {origin} "
            "unset to download."
        )
    return folder


def find(dataset: str, patterns: Sequence[str], folder: Path, url: str) -> list[Path]:
    """Returns the files that match the first pattern with a match, in the subfolder of the data set or in `folder`.

    Args:
        dataset: name of the data set and of its subfolder.
        patterns: file names or glob patterns, the preferred one first.
        folder: the user's data folder.
        url: address of the files, for the error message.

    Raises:
        FileNotFoundError: no file matches.
    """
    places = (folder / dataset, folder)
    for place in places:
        for pattern in patterns:
            if paths := sorted(path for path in place.glob(pattern) if path.is_file()):
                return paths
    raise FileNotFoundError(
        f"{dataset}: no file {' or '.join(patterns)} in '{places[0]}' or '{places[1]}'. "
        f"It is published at {url}: put it into one of these folders, or set neither --data-dir nor "
        f"{DATA_DIR_VARIABLE} to download it."
    )


def check_sha256(path: Path, expected: str, url: str) -> None:
    """Verifies the checksum of a file.

    Args:
        path: the file.
        expected: its published SHA-256 checksum.
        url: address of the file, for the error message.

    Raises:
        ValueError: the checksum differs.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != expected:
        raise ValueError(
            f"'{path}' is damaged or not the published file: its sha256 must be {expected}, but is {digest}. "
            f"Download it again from {url}"
        )


def download(dataset: str, published: Published) -> Path:
    """Returns the path of the file in the user's cache, and downloads it first if it is not there yet.

    Raises:
        ConnectionError: the download failed.
        ValueError: the downloaded file is not the published one.
    """
    import pooch  # noqa: PLC0415  # slow to import, and only needed here

    try:
        path = pooch.retrieve(
            published.url,
            known_hash=f"sha256:{published.sha256}",
            fname=published.name,
            path=pooch.os_cache("sab_agents") / dataset,
            downloader=pooch.HTTPDownloader(progressbar=_Progress(published.name), chunk_size=1 << 16),
        )
    except OSError as error:
        raise ConnectionError(
            f"{dataset}: cannot download {published.url} ({type(error).__name__}). Download {published.name} by other "
            f"means, and name its folder with --data-dir or the environment variable {DATA_DIR_VARIABLE}."
        ) from error
    return Path(path)


class _Progress:
    """A progress line on the standard error stream, with the interface that pooch requires of a progress bar."""

    def __init__(self, label: str) -> None:
        self.total = 0
        self._label = label
        self._done = 0
        self._percent = -1

    def update(self, size: int) -> None:
        """Adds `size` bytes and rewrites the line if the percentage has changed."""
        self._done += size
        percent = min(100, 100 * self._done // self.total) if self.total else 0
        if percent != self._percent:
            self._percent = percent
            print(f"\r{self._label}: {percent:3d} % of {self.total / 1e6:.1f} MB", end="", file=sys.stderr, flush=True)

    def reset(self) -> None:
        """Returns to zero; pooch calls this before it fills the bar."""
        self._done = 0

    def close(self) -> None:
        """Ends the line."""
        print(file=sys.stderr)
