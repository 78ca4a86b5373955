"""Files of the published data sets: found in the user's folder or downloaded, and checked before they are read."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

DATA_DIR_VARIABLE = "SAB_DATA_DIR"
HOW_TO_GIVE = f"name the folder that holds it by --data-dir or the variable {DATA_DIR_VARIABLE}"


@dataclass(frozen=True)
class Published:
    """A file that is published.

    Attributes:
        name: the file's name, also in a user's folder.
        url: where it is published.
        sha256: its checksum, in hexadecimal digits.
    """

    name: str
    url: str
    sha256: str


def data_folder(data_dir: str | os.PathLike[str] | None) -> Path | None:
    """Returns the folder to read data sets from: the argument, else the variable SAB_DATA_DIR, else None.

    Raises:
        NotADirectoryError: the folder that is named is not there.
    """
    named = data_dir if data_dir is not None else os.environ.get(DATA_DIR_VARIABLE) or None
    if named is None:
        return None
    folder = Path(named).expanduser()
    if not folder.is_dir():
        origin = "data_dir" if data_dir is not None else DATA_DIR_VARIABLE
        raise NotADirectoryError(f"{origin} must name a folder that exists, but is '{folder}'.")
    return folder


def find(dataset: str, patterns: Sequence[str], folder: Path, url: str) -> list[Path]:
    """Returns the files that match the first pattern with any match, in the data set's own subfolder or in `folder`.

    Args:
        dataset: the data set's name, which is also the subfolder's.
        patterns: file names, or glob patterns, the preferred one first.
        folder: the user's data folder.
        url: where the files are published, for the message.

    Raises:
        FileNotFoundError: no file matches.
    """
    places = (folder / dataset, folder)
    for place in places:
        for pattern in patterns:
            if found := sorted(path for path in place.glob(pattern) if path.is_file()):
                return found
    raise FileNotFoundError(
        f"{dataset}: no file {' or '.join(patterns)} in '{places[0]}' or '{places[1]}'. "
        f"It is published at {url}: put it into one of these folders, or name none "
        f"(neither --data-dir nor {DATA_DIR_VARIABLE}) to have it downloaded."
    )


def check_sha256(path: Path, expected: str, url: str) -> None:
    """Checks a file against its published checksum; `url` is where it is published, for the message.

    Raises:
        ValueError: the file is another one.
    """
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise ValueError(
            f"'{path}' is damaged or not the published file: its sha256 must be {expected}, but is {found}. "
            f"Fetch it anew from {url}"
        )


def download(dataset: str, published: Published) -> Path:
    """Returns the file in the user's cache, after downloading it unless it is there whole.

    Raises:
        ConnectionError: the download failed.
        ValueError: what came is not the published file.
    """
    import pooch  # noqa: PLC0415  # slow to import, and needed here alone

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
            f"{dataset}: cannot download {published.url} ({type(error).__name__}). "
            f"Fetch {published.name} by other means, and {HOW_TO_GIVE}."
        ) from error
    return Path(path)


class _Progress:
    """A progress line on the standard error stream, in the form that pooch asks of a progress bar."""

    def __init__(self, label: str) -> None:
        self.total = 0
        self._label = label
        self._done = 0
        self._percent = -1

    def update(self, size: int) -> None:
        """Adds `size` bytes and rewrites the line when the percentage changes."""
        self._done += size
        percent = min(100, 100 * self._done // self.total) if self.total else 0
        if percent != self._percent:
            self._percent = percent
            print(f"\r{self._label}: {percent:3d} % of {self.total / 1e6:.1f} MB", end="", file=sys.stderr, flush=True)

    def reset(self) -> None:
        """Starts again from nothing, which pooch does before it fills the bar."""
        self._done = 0

    def close(self) -> None:
        """Ends the line."""
        print(file=sys.stderr)
