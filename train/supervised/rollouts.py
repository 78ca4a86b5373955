"""Episodes of environments, played by scripted policies or by a model that was trained on the same task.

Dimensions: n copies, B sequences.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch

from sab_agents.checks import did_you_mean
from sab_agents.envs.registration import ENVIRONMENTS
from sab_agents.train.errors import UserError, one_line
from sab_agents.train.supervised.metrics import carried
from sab_agents.vec_env.layers import AnyVectorEnv
from sab_agents.vec_env.make import make_vector_env

if TYPE_CHECKING:
    from sab_agents.envs.policies import Policy
    from sab_agents.envs.supervised import SequenceTask
    from sab_agents.envs.supervised.task import Split
    from sab_agents.train.supervised.model import SequenceModel

COPIES = 64  # environments that are stepped together
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Played:
    """The outcome of some episodes.

    Attributes:
        returns: (episodes,) the undiscounted return of each.
        lengths: (episodes,) the steps of each.
        metrics: the numbers in `info` at their ends, averaged: over episodes, or with a model over scored steps.
    """

    returns: Numbers
    lengths: Numbers
    metrics: Mapping[str, float]

    @property
    def mean(self) -> float:
        """The mean of the returns."""
        return float(self.returns.mean())

    @property
    def error(self) -> float:
        """The standard error of the mean; NaN of a single episode."""
        n = len(self.returns)
        return float(self.returns.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan


def make(env_id: str, n: int, arguments: Mapping[str, Any]) -> AnyVectorEnv:
    """Makes n copies that are reset in the step that ends them.

    Raises:
        UserError: there is no such id, an argument is wrong, or the task's data is missing.
    """
    if env_id.startswith("SAB/") and env_id not in ENVIRONMENTS:
        raise UserError(f"there is no environment '{env_id}'. {did_you_mean(env_id, ENVIRONMENTS)}")
    try:
        return make_vector_env(env_id, n, arguments)
    except (gym.error.Error, ValueError, TypeError, OSError, ImportError) as error:
        raise UserError(f"{env_id}: {one_line(error)}") from error


def play(env: AnyVectorEnv, policy: Policy, episodes: int, seed: int) -> Played:
    """Plays at least one and about equally many episodes on each copy, `episodes` in all.

    Which episodes count is determined in advance, by their number on their copy, so that short ones are not preferred.

    Args:
        env: resets in the same step.
        policy: acts for all copies.
        episodes: at least as many as copies.
        seed: of the first copy; the others' follow.
    """
    n = env.num_envs
    left = episodes // n + (np.arange(n) < episodes % n)
    observations, _ = env.reset(seed=seed)
    first, earned, steps = np.ones(n, np.bool_), np.zeros(n), np.zeros(n)
    returns: list[float] = []
    lengths: list[float] = []
    numbers: dict[str, list[float]] = {}
    while left.any():
        observations, rewards, terminations, truncations, infos = env.step(policy.act(observations, first))
        earned += rewards
        steps += 1
        first = terminations | truncations
        counted = np.flatnonzero(first & (left > 0))
        returns += earned[counted].tolist()
        lengths += steps[counted].tolist()
        for name, values in _endings(infos, counted):
            numbers.setdefault(name, []).extend(values.tolist())
        left[counted] -= 1
        earned[first] = steps[first] = 0
    metrics = {name: float(np.mean(values)) for name, values in numbers.items()}
    return Played(np.array(returns), np.array(lengths), metrics)


@torch.no_grad()
def play_task(
    model: SequenceModel,
    task: SequenceTask,
    env_id: str,
    arguments: Mapping[str, Any],
    *,
    split: Split,
    batch_size: int,
    sequences: int,
) -> Played:
    """Predicts held-out sequences by a model through the environment of its task, step by step.

    The sequences are those of `SequenceTask.evaluation_batches`, presented in the same batches, so that the metrics are
    those of `train.metrics.evaluate`.

    Args:
        model: trained on the task; its state is carried where the task says so.
        task: where the sequences come from.
        env_id: the environment of this task.
        arguments: of the environment, which make it as long as the task, with actions that are predictions.
        split: which data.
        batch_size: sequences at a time, which the held-out data of generated tasks depends on.
        sequences: how many at most.
    """
    device = next(model.parameters()).device
    returns, lengths, weighted, scored = [], [], dict[str, float](), 0.0
    env: AnyVectorEnv | None = None
    state = None
    was_training = model.training
    model.eval()
    for batch in task.evaluation_batches(split, batch_size, sequences):
        T, B = batch.scored.shape
        if env is None or env.num_envs != B:
            env = make(env_id, B, arguments)
        observations, _ = env.reset(options={"batch": batch})
        state = carried(batch, state)
        earned = np.zeros(B)
        for step in range(T):
            start = torch.as_tensor(batch.episode_start[step : step + 1], device=device)
            output, state = model(torch.as_tensor(observations, device=device)[None], state, start)
            observations, rewards, _, _, infos = env.step(_action(output[0], env))
            earned += rewards
        returns += earned.tolist()
        lengths += [float(T)] * B
        count = batch.scored.sum(axis=0)
        scored += float(count.sum())
        asked = np.flatnonzero(count)
        for name, values in _endings(infos, asked):
            weighted[name] = weighted.get(name, 0.0) + float(values @ count[asked])
    model.train(was_training)
    metrics = {name: total / scored for name, total in weighted.items()}
    return Played(np.array(returns), np.array(lengths), metrics)


def _action(predictions: torch.Tensor, env: AnyVectorEnv) -> npt.NDArray[np.float32]:
    """Returns predictions (B, C) as actions: log-probabilities, or a value minus the mean of the targets."""
    space: Any = env.single_action_space
    numbers = predictions - 1 if space.shape == (1,) else predictions.log_softmax(dim=-1)
    actions: npt.NDArray[np.float32] = numbers.float().cpu().numpy().clip(space.low, space.high)
    return actions


def _endings(infos: Mapping[str, Any], copies: npt.NDArray[np.int64]) -> list[tuple[str, Numbers]]:
    """Returns the numbers at the ends of these copies' episodes, except those that every step has."""
    final = infos.get("final_info", {})
    return [
        (name, np.asarray(values, np.float64)[copies])
        for name, values in final.items()
        if name not in infos and f"_{name}" in final and np.asarray(values).dtype.kind == "f" and len(copies)
    ]
