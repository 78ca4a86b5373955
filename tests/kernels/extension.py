"""What the tests of the native kernel need: whether it was built, and each instruction set that this processor has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sab_agents.kernels.native_backend.extension import native

needs_native = pytest.mark.skipif(native is None, reason="the native kernel was not built: no C++ compiler")


def available() -> list[str]:
    """From the plainest to the one in use by default."""
    if native is None:
        return []
    names = ["baseline", "avx2", "avx512"]
    known = [*names, native.instruction_set()]
    return known[: known.index(native.instruction_set()) + 1]


INSTRUCTION_SETS = available()


@contextmanager
def with_instruction_set(name: str) -> Iterator[None]:
    """Computes with another instruction set than the best."""
    before = native.instruction_set()
    native.use_instruction_set(name)
    try:
        yield
    finally:
        native.use_instruction_set(before)
