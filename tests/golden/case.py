"""A golden case: something that is computed from a seed, and how closely it must come out again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from sab_agents import SAB
from tests.golden.record import Groups, fingerprint

VARIABLE = "SAB_KERNEL"
BACKENDS = {
    "native": ("native", torch.float32),
    "torch": ("torch", torch.float32),
    "torch64": ("torch", torch.float64),
}
"""The values of `SAB_KERNEL` and the dtypes that results are stored for."""


@dataclass(frozen=True)
class Case:
    """One result that is stored.

    Attributes:
        id: stable name, whose first part names the file of stored results.
        kernel: value of `SAB_KERNEL` that it is computed with.
        compute: returns the result.
        rtol: greatest difference of a group's summary, relative to the group's norm, on a machine whose fingerprint is
            not stored.
        exact_integers: whether integers are the same on every machine: those of a single pass are.
        needs: packages that it needs.
    """

    id: str
    kernel: str
    compute: Callable[[], Groups]
    rtol: float
    exact_integers: bool = True
    needs: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        """The file of results that holds it."""
        return f"{self.id.split('/')[0]}.json"

    def fingerprint(self) -> dict[str, str]:
        """What the bits of its result depend on."""
        return fingerprint(native=self.kernel == "native", packages=self.needs)

    def run(self) -> Groups:
        """Computes the result."""
        with forced_kernel(self.kernel):
            torch.manual_seed(0)
            return self.compute()


@contextmanager
def forced_kernel(name: str) -> Iterator[None]:
    """Sets `SAB_KERNEL` within a `with` block."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = name
    try:
        yield
    finally:
        del os.environ[VARIABLE]
        if before is not None:
            os.environ[VARIABLE] = before


def native_is_available() -> bool:
    """Whether the native kernel was built."""
    with forced_kernel("native"):
        try:
            SAB(1, 1)(torch.zeros(1, 1, 1))
        except RuntimeError:
            return False
    return True
