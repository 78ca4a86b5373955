"""What the tests of training share: tiny configs that train in a second."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure

from sab_agents.train.supervised.config import TrainConfig

TINY = TrainConfig(
    task="recall",
    length=6,
    symbols=3,
    core="lstm",
    hidden_size=8,
    core_settings={"shared": {"bptt_steps": 2, "top_k": 2}},
    steps=6,
    batch_size=4,
    threads=1,
    eval_every=3,
    eval_sequences=16,
    checkpoint_every=2,
    log_every=2,
)

MakeConfig = Callable[..., TrainConfig]


@pytest.fixture(autouse=True)
def drafts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are drawn small and not laid out, which takes most of a tiny run, but where a test looks at them."""
    if request.node.get_closest_marker("plots") is None:
        monkeypatch.setattr("sab_agents.train.figures.canvas.Figure", lambda figsize, **_: Figure(figsize, dpi=20))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Keeps tiny models from waiting for each other's threads, and restores what training sets."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def make_config(tmp_path: Path) -> MakeConfig:
    """Makes a tiny config whose run folder is below tmp_path; keyword arguments change it."""

    def make(**changes: Any) -> TrainConfig:
        changes["out"] = str(tmp_path / changes.get("out", "run"))
        return dataclasses.replace(TINY, **changes)

    return make


@pytest.fixture
def text_file(tmp_path: Path) -> str:
    """A small text for the characters task."""
    path = tmp_path / "text.txt"
    path.write_text("the quick brown fox jumps over the lazy dog. " * 60, encoding="utf-8")
    return str(path)


@pytest.fixture
def wait_for() -> Callable[[Callable[[], bool]], None]:
    """Waits until something is so, for a minute at most."""

    def wait(so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not so() and time.monotonic() < deadline:
            time.sleep(0.02)

    return wait
