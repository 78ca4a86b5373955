"""The memory and the files of agents that see images, next to sb3-contrib's: `python -m tests.peers.image_memory`.

Each agent runs in a process of its own, over stacks of four frames of 84 × 84 bytes. What is
above its limit is said, and the exit status is 1 then.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv

ROOT = Path(__file__).parents[2]
MEGABYTE = 1e6


class Measured(NamedTuple):
    """What one agent takes, in bytes.

    Attributes:
        resident: greatest resident size of the process.
        file: size of the saved agent.
        without: size of the agent saved without contexts; that of the file for an agent that has none.
    """

    resident: float
    file: float
    without: float


class Frames(gym.Env[Any, Any]):
    """Four frames of random dots that move through the stack; episodes of 200 steps."""

    observation_space = spaces.Box(0, 255, (4, 84, 84), np.uint8)
    action_space = spaces.Discrete(4)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self.frames, self.taken = np.zeros((4, 84, 84), np.uint8), 0
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.taken += 1
        return self._observation(), float(action == 0), self.taken == 200, False, {}

    def _observation(self) -> Any:
        self.frames = np.roll(self.frames, -1, axis=0)
        self.frames[-1] = self.np_random.integers(0, 255, (84, 84), np.uint8)
        return self.frames.copy()


def measure(module: str, policy: str, copies: int, rollouts: int, size: int) -> Measured:
    """Trains one agent in this process; `size` is that of its core, and of its features."""
    torch.set_num_threads(1)
    env = DummyVecEnv([Frames] * copies)
    settings: dict[str, Any] = {"n_steps": 128, "batch_size": 128, "n_epochs": 1, "seed": 0, "device": "cpu"}
    kwargs = {"lstm_hidden_size": size, "features_extractor_kwargs": {"features_dim": size}}
    settings |= {"policy_kwargs": kwargs}
    steps = rollouts * 128 * copies
    model = importlib.import_module(module).RecurrentPPO(policy, env, **settings).learn(steps)
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    with tempfile.TemporaryDirectory() as folder:
        model.save(os.path.join(folder, "with"))
        model.save(os.path.join(folder, "without"), exclude=["contexts"])
        sizes = [os.path.getsize(os.path.join(folder, f"{name}.zip")) for name in ("with", "without")]
    return Measured(resident, *sizes)


def measured(*arguments: Any) -> Measured:
    """Trains one agent in another process; arguments are those of `measure`."""
    code = f"import json\nfrom tests.peers.image_memory import measure\nprint(json.dumps(measure(*{arguments!r})))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    run = subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    return Measured(*json.loads(run.stdout.splitlines()[-1]))


POLICIES = (("sb3_contrib", "CnnLstmPolicy"), ("sab_agents", "CnnLstmPolicy"), ("sab_agents", "CnnSabPolicy"))
LIMITS = Measured(1.3, 3.0, 1.2)
"""How many times sb3-contrib's figures ours may be."""


def main(rollouts: int = 3, size: int = 64) -> int:
    """Measures and prints; returns 1 if a limit is exceeded."""
    print(f"{'agent':28}{'copies':>8}{'resident MB':>13}{'file MB':>9}{'without contexts':>18}")
    status = 0
    for copies in (8, 4):
        theirs: Measured | None = None
        for module, policy in POLICIES:
            found = measured(module, policy, copies, rollouts, size)
            theirs = theirs or found
            shown = [f"{each / MEGABYTE:.1f}" for each in found]
            print(f"{f'{module} {policy}':28}{copies:8}{shown[0]:>13}{shown[1]:>9}{shown[2]:>18}", flush=True)
            for name, mine, other, limit in zip(Measured._fields, found, theirs, LIMITS, strict=True):
                if mine > limit * other:
                    print(f"  {name} must be at most {limit} times sb3-contrib's, but is {mine / other:.2f} times it")
                    status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
