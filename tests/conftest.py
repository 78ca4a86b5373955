"""One thread for torch in every test: workers that run side by side would wait for each other's threads."""

import os
from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def single_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def kernel_stays_unforced() -> Iterator[None]:
    """Fails a test that leaves `SAB_KERNEL` changed: later tests would compute with another kernel."""
    before = os.environ.get("SAB_KERNEL")
    yield
    assert os.environ.get("SAB_KERNEL") == before
