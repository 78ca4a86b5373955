"""One thread for torch in every test: workers that run side by side would wait for each other's threads."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def single_thread() -> None:
    torch.set_num_threads(1)
