"""The settings of one run of an agent.

Importing this module is cheap (no torch), so that help and errors come at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sab_agents.checks import at_least, one_of
from sab_agents.train.configuration import Settings, as_json

ALGORITHMS = ("ppo", "stream")
COPIES = 8  # of the environment, of which PPO collects; a stream is one
WATCH_KEYS = ("steps", "checkpoint_every", "threads", "device")
"""Settings that alter no update: how long a run continues, how often it is saved, and where it computes."""
RUN_KEYS = ("out", "resume")
OWN = ("env", "policy", "seed", "device", "tensorboard_log", "verbose", "stats_window_size")
"""Arguments of the algorithms that a run sets itself."""


@dataclass(frozen=True)
class AgentConfig(Settings):
    """Settings of one run of an agent.

    Attributes:
        env: id of a registered Gymnasium environment, or module:Id for one that a module registers when it is imported.
        policy: MlpSabPolicy, CnnSabPolicy, MultiInputSabPolicy, or the same with Lstm, Gru, … in place of Sab.
        algo: ppo (RecurrentPPO) or stream (StreamAC: one environment, every step is learnt from once).
        steps: steps to learn from, those of all copies together.
        env_arg: arguments of the environment, such as corridor_length=50.
        setting: arguments of RecurrentPPO or StreamAC, such as n_steps=64 or policy_kwargs.lstm_hidden_size=32.
        num_envs: copies of the environment; null is 8 for ppo and 1 for stream, which takes no more.
        wrappers: of each copy, the innermost first: flatten, image or mask_velocity.
        seed: of the agent and of its environments.
        threads: CPU threads; small networks gain nothing from more than one. null leaves the choice to torch.
        device: a torch device, such as cpu or cuda.
        checkpoint_every: steps between two savings of the agent.
        out: the run folder; null is runs/<env>-<policy>-<seed>.
        resume: continue the run that the folder holds.
    """

    env: str
    policy: str = "MlpSabPolicy"
    algo: str = "ppo"
    steps: int = 100_000
    env_arg: Mapping[str, Any] = field(default_factory=dict)
    setting: Mapping[str, Any] = field(default_factory=dict)
    num_envs: int | None = None
    wrappers: tuple[str, ...] = ()
    seed: int = 0
    threads: int | None = 1
    device: str = "cpu"
    checkpoint_every: int = 20_000
    out: str | None = None
    resume: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "num_envs", "threads", "checkpoint_every"):
            if getattr(self, name) is not None:
                at_least("train", name, getattr(self, name), 1)
        at_least("train", "seed", self.seed, 0)
        one_of("train", "algo", self.algo, ALGORITHMS)
        if self.algo == "stream" and self.num_envs not in (None, 1):
            raise ValueError(
                f"train: num_envs must be 1 for algo stream, but is {self.num_envs}. Leave it out, or use algo ppo."
            )
        for name in OWN:
            if name in self.setting:
                raise ValueError(f"train: setting: {name} is set by the run itself. Leave it out.")

    @property
    def copies(self) -> int:
        """Copies of the environment."""
        return self.num_envs or (COPIES if self.algo == "ppo" else 1)

    @property
    def folder(self) -> Path:
        """The run folder."""
        if self.out is not None:
            return Path(self.out)
        name = self.env.rpartition(":")[2].replace("/", "-")
        stream = "-stream" if self.algo == "stream" else ""
        return Path("runs") / f"{name}-{self.policy}{stream}-{self.seed}"

    def settings(self) -> dict[str, Any]:
        """Returns everything but where the run is kept, as `config.yaml` and `result.json` hold it."""
        return {name: value for name, value in as_json(self).items() if name not in RUN_KEYS}
