"""The savings of an agent's run: the agent, and what each rank needs to continue bit-exactly.

`agent.zip` is the agent. The folder `places` has, by the steps at which `agent.zip` was saved, where each rank's
environments were, and the agents of ranks other than 0. As those of the last saving are deleted only once there is a
new `agent.zip`, a kill at any moment leaves a whole saving.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from sab_agents.checkpoint import archive
from sab_agents.distributed import Ranks
from sab_agents.ppo import RecurrentPPO
from sab_agents.ppo.saving import KIND, file_of_rank
from sab_agents.train.run_folder import RunFolder
from sab_agents.vec_env.place import Place

PLACE = "place"


class Savings:
    """Saves one run, and resumes it.

    Args:
        folder: of the run.
        ranks: those that learn together.
        env: of this rank.
    """

    def __init__(self, folder: RunFolder, ranks: Ranks, env: VecEnv) -> None:
        self._folder, self._ranks, self._env = folder, ranks, env

    def save(self, model: BaseAlgorithm) -> None:
        """Saves the agent, in place of the one before."""
        steps, ranks = model.num_timesteps, self._ranks
        place = Place.of(self._env) if isinstance(model, RecurrentPPO) else None
        if place is not None:
            archive.save(self._place(steps), PLACE, {}, _as_tensors(place.state_dict()))
        if not ranks.main:
            model.save(self._agent(steps))
        ranks.wait()
        if ranks.main:
            temporary = self._folder.agent.with_name("agent.tmp.zip")
            model.save(temporary)
            os.replace(temporary, self._folder.agent)
            for former in self._folder.places.glob("*.zip"):
                if not former.name.startswith(f"{steps}."):
                    former.unlink()
        ranks.wait()

    def resume(self, device: str) -> RecurrentPPO | None:
        """Returns the agent where it was saved, with the environments and all random states; None if that cannot be.

        It cannot if the environment has no place, or if the agent was saved by fewer ranks.
        """
        _, state = archive.load(self._folder.agent, KIND)
        steps = int(state.get("count.num_timesteps", 0))
        agent = self._folder.agent if self._ranks.main else file_of_rank(self._agent(steps), self._ranks.rank)
        place = Place.of(self._env)
        if self._ranks.any(place is None or not (self._place(steps).exists() and agent.exists())):
            return None
        of_main = self._folder.agent if self._ranks.main else self._agent(steps)
        model = RecurrentPPO.load(of_main, env=self._env, device=device, force_reset=False)
        if place is not None:
            _, saved = archive.load(self._place(steps), PLACE)
            place.load_state_dict(_as_arrays(saved))
        return model

    def _place(self, steps: int) -> Path:
        return self._folder.places / f"{steps}.place{self._ranks.rank}.zip"

    def _agent(self, steps: int) -> Path:
        return self._folder.places / f"{steps}.zip"  # of which each rank writes its own


def _as_tensors(place: dict[str, Any]) -> dict[str, Any]:
    return {
        name: torch.from_numpy(np.ascontiguousarray(value)) if isinstance(value, np.ndarray) else value
        for name, value in place.items()
    }


def _as_arrays(place: dict[str, Any]) -> dict[str, Any]:
    return {name: value.numpy() if isinstance(value, Tensor) else value for name, value in place.items()}
