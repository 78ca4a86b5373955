"""Two ranks of 8 environments learn what one process of 16 learns, to rounding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecNormalize

from sab_agents.distributed import Ranks
from tests.distributed.agents import ENVS, STEPS, agent, learnt
from tests.distributed.precision import doubles
from tests.distributed.processes import in_two

WHOLE = ENVS * STEPS
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "sab": ("Sab", {"batch_size": WHOLE // 2}),
    "lstm": ("Lstm", {"batch_size": WHOLE // 2}),
    "gru": ("Gru", {"batch_size": WHOLE // 2}),
    "all in one minibatch": ("Sab", {"batch_size": WHOLE}),
    "segments of half a rollout": ("Sab", {"batch_size": STEPS // 2, "n_epochs": 1}),
    "stopped by the divergence": ("Gru", {"batch_size": WHOLE // 2, "target_kl": 1e-5, "learning_rate": 1e-2}),
    "values clipped": ("Lstm", {"batch_size": WHOLE // 2, "clip_range_vf": 0.05, "normalize_advantage": False}),
}
EPOCHS = 2


def rollouts(case: str) -> int:
    """Enough for ten updates; fewer where something else is tested."""
    return 3 if case in ("sab", "lstm", "gru") else 2


class EndsFirst(BaseCallback):
    """Rank 1 wants to end in its third step."""

    def _on_step(self) -> bool:
        return not (self.model.ranks.rank == 1 and self.n_calls == 3)  # type: ignore[attr-defined]


def learn_all(rank: int, folder: Path) -> None:
    found: dict[str, Any] = {}
    with doubles():
        for name, (kind, settings) in CASES.items():
            model = agent(kind, rank, settings)
            assert (model.ranks.rank, model.ranks.size) == (rank, 2)
            found[name] = learnt(model, rollouts(name))
        model = agent("Gru", rank, {"batch_size": WHOLE}, normalise=True)
        model.learn(2 * WHOLE, EndsFirst())
        found["ended"] = model.num_timesteps
        found["normalisers"] = statistics(model.get_vec_normalize_env())
        model.n_epochs += rank
        with pytest.raises(ValueError, match=r"n_epochs must be the same on all ranks, but is . on rank . and . on"):
            model.learn(2 * WHOLE)
        sample = torch.arange(3.0 + rank)
        found["moments"] = [*map(float, Ranks(rank, 2).moments([sample])[0])]
        assert model.logger.output_formats == [] or rank == 0
    torch.save(found, folder / f"{rank}.pt")


def statistics(env: VecNormalize | None) -> list[np.ndarray]:
    assert env is not None
    seen: Any = env.obs_rms
    return [*seen.mean, *seen.var, seen.count, env.ret_rms.mean, env.ret_rms.var, env.ret_rms.count]


def test_two_ranks_of_8_environments_learn_what_one_process_of_16_learns(tmp_path: Path) -> None:
    in_two(learn_all, tmp_path)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in range(2))
    with doubles():
        for case, (kind, settings) in CASES.items():
            model = agent(kind, None, settings)
            untrained = {name: value.clone() for name, value in model.policy.state_dict().items()}
            alone = learnt(model, rollouts(case))
            for name, value in alone.items():
                assert torch.equal(first[case][name], second[case][name]), (case, name)
                torch.testing.assert_close(first[case][name], value, rtol=0, atol=1e-9)
            assert max(float((alone[name] - value).abs().max()) for name, value in untrained.items()) > 1e-3, case
            assert (alone["steps"][1] < EPOCHS * rollouts(case)) == (
                "target_kl" in settings or "n_epochs" in settings
            ), case
        sample = torch.cat([torch.arange(3.0), torch.arange(4.0)])
    assert first["ended"] == second["ended"] == 2 * WHOLE  # both complete the rollout
    assert first["moments"] == second["moments"] == pytest.approx([float(sample.mean()), float(sample.std())])
    assert first["normalisers"] == second["normalisers"]
    assert first["normalisers"][-1] == pytest.approx(1e-4 + 2 * WHOLE)  # a return of every step
    assert first["normalisers"][4] == pytest.approx(1e-4 + 2 * (WHOLE + ENVS))  # and the first observations
