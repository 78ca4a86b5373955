"""Rules of a stream's memory for tests that go through them all."""

from __future__ import annotations

from typing import Any


def rules(eviction: str, write: str, novelty: float = 0.1) -> dict[str, Any]:
    """Settings of an `SABStream`, with the novelty that all rules of writing but "every" ask for."""
    return {"eviction": eviction, "write": write} | ({} if write == "every" else {"novelty": novelty})
