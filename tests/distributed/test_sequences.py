"""Two ranks with batches of 4 sequences learn what one process with batches of 8 learns, to rounding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sab_agents.envs.supervised.task import Batch
from sab_agents.train.supervised.config import TrainConfig
from sab_agents.train.supervised.loop import Trainer
from tests.distributed.precision import doubles
from tests.distributed.processes import in_two

BATCH, UPDATES = 4, 10
CASES: dict[str, dict[str, Any]] = {
    "sab": {"task": "recall", "length": 12},
    "lstm": {"task": "recall", "length": 12, "core": "lstm"},
    "gru": {"task": "adding", "length": 12, "core": "gru"},
    "lengths that differ": {"task": "copying", "length": 8, "min_length": 2},
    "a state that is carried": {"task": "characters", "length": 6, "final_learning_rate": 1e-3},
}


class InDoubles:
    """A task whose inputs and real targets are in float64."""

    def __init__(self, task: Any) -> None:
        self._task = task

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def train_batch(self, *arguments: Any) -> Batch:
        batch: Batch = self._task.train_batch(*arguments)
        targets: Any = batch.targets if batch.targets.dtype == np.int64 else batch.targets.astype(np.float64)
        return replace(batch, inputs=batch.inputs.astype(np.float64), targets=targets)


def trainers(folder: Path, batch_size: int) -> Iterator[tuple[str, Trainer]]:
    for name, settings in CASES.items():
        config = TrainConfig(
            **{"hidden_size": 8, "learning_rate": 1e-2, "clip_norm": 0.3, "steps": UPDATES, **settings},
            batch_size=batch_size,
            out=str(folder / name),
        )
        trainer = Trainer(config)
        trainer.task = InDoubles(trainer.task)
        yield name, trainer


def learnt(trainer: Trainer) -> dict[str, torch.Tensor]:
    losses = [trainer.update()[0] for _ in range(UPDATES)]
    return {**trainer.model.state_dict(), "losses": torch.tensor(losses)}


def learn_all(rank: int, folder: Path) -> None:
    with doubles():
        found = {name: learnt(trainer) for name, trainer in trainers(folder / "two", BATCH)}
    torch.save(found, folder / f"{rank}.pt")


def test_two_ranks_learn_what_one_process_with_their_batches_learns(tmp_path: Path) -> None:
    in_two(learn_all, tmp_path)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    with doubles():
        for case, trainer in trainers(tmp_path / "one", 2 * BATCH):
            untrained = {name: value.clone() for name, value in trainer.model.state_dict().items()}
            for name, value in learnt(trainer).items():
                assert torch.equal(first[case][name], second[case][name]), (case, name)
                torch.testing.assert_close(first[case][name], value, rtol=0, atol=1e-9)
                if name in untrained:
                    assert not torch.equal(value, untrained[name]), (case, name)
