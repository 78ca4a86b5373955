"""What holds for every test: which cases are slow, one thread for torch, and a kernel that nobody forced."""

import os
from collections import defaultdict
from collections.abc import Iterator

import pytest
import torch

from tests.selection import covering


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out what is slow
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks as slow what tests marked `each` or `pairs` leave out."""
    products: dict[tuple[str, int], list[pytest.Function]] = defaultdict(list)
    for item in items:
        for marker, together in (("each", 1), ("pairs", 2)):
            if isinstance(item, pytest.Function) and item.get_closest_marker(marker):
                products[item.nodeid.partition("[")[0], together].append(item)
    for (_, together), cases in products.items():
        values = [{name: id(value) for name, value in case.callspec.params.items()} for case in cases]
        chosen = set(covering(values, together))
        for place, case in enumerate(cases):
            if place not in chosen:
                case.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True, scope="session")
def single_thread() -> None:
    """Workers that run side by side would wait for each other's threads."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def kernel_stays_unforced() -> Iterator[None]:
    """Fails a test that leaves `SAB_KERNEL` changed: later tests would compute with another kernel."""
    before = os.environ.get("SAB_KERNEL")
    yield
    assert os.environ.get("SAB_KERNEL") == before
