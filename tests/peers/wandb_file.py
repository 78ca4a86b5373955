"""Reads what W&B wrote in its offline mode: a log of records, as LevelDB keeps them."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK, HEADER = 2**15, 7  # bytes of a block, of the file's header, and of each part's
FULL, LAST = 1, 4  # kinds of parts that end a record


def records_in(path: Path) -> Iterator[Any]:
    """Yields the records of a file."""
    record: Any = importlib.import_module("wandb.proto.wandb_internal_pb2").Record
    content, place, whole = path.read_bytes(), HEADER, b""
    while place + HEADER <= len(content):
        left = BLOCK - place % BLOCK
        if left < HEADER:
            place += left
            continue
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        whole += content[place + HEADER : place + HEADER + length]
        place += HEADER + length
        if kind in (FULL, LAST):
            yield record.FromString(whole)
            whole = b""
