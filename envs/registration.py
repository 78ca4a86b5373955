"""The environments under Gymnasium's ids, registered when `sab_agents` is imported."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import gymnasium as gym

from sab_agents.envs.checks import like
from sab_agents.envs.dynamics import Dynamics
from sab_agents.envs.single import DynamicsEnv, build


@dataclass(frozen=True)
class Registered:
    """An environment that Gymnasium can make.

    Attributes:
        id: Gymnasium's id.
        name: where the environment stands, "module:Name"; "Env" and "VectorEnv" are added for its two forms.
        arguments: its settings where nothing else is asked for.
    """

    id: str
    name: str
    arguments: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def dynamics(self, **arguments: Any) -> Dynamics:
        """Returns its dynamics with these settings in place of its own, for reports: returns, horizon, spaces."""
        return build(self.dynamics_class(), {**self.arguments, **arguments})

    def dynamics_class(self) -> type[Dynamics]:
        """Returns the class of its dynamics."""
        module, name = self.name.split(":")
        single: type[DynamicsEnv] = getattr(importlib.import_module(module), f"{name}Env")
        return single.dynamics_class

    def settings(self) -> tuple[str, ...]:
        """Returns the names of its settings."""
        return tuple(inspect.signature(self.dynamics_class()).parameters)

    def length_argument(self) -> str:
        """Returns the name of the setting that lengthens an episode, or "" where the length is fixed."""
        return self.dynamics_class().length_argument


DELAYED = (
    Registered("SAB/PassiveTMaze-v0", "sab_agents.envs.delayed.tmaze:PassiveTMaze", {"corridor_length": 100}),
    Registered("SAB/ActiveTMaze-v0", "sab_agents.envs.delayed.tmaze:ActiveTMaze", {"corridor_length": 100}),
    Registered("SAB/MemoryChain-v0", "sab_agents.envs.delayed.memory_chain:MemoryChain", {"length": 100}),
    Registered("SAB/Umbrella-v0", "sab_agents.envs.delayed.umbrella:Umbrella", {"length": 100}),
    Registered(
        "SAB/DiscountingChain-v0", "sab_agents.envs.delayed.discounting_chain:DiscountingChain", {"length": 100}
    ),
    Registered("SAB/FirstStepCredit-v0", "sab_agents.envs.delayed.first_step:FirstStepCredit", {"length": 128}),
    Registered("SAB/KeyToDoor-v0", "sab_agents.envs.delayed.key_to_door:KeyToDoor", {"length": 60}),
    Registered("SAB/DelayedCatch-v0", "sab_agents.envs.delayed.delayed_catch:DelayedCatch", {"length": 10}),
)
"""Tests of memory and of delayed reward."""

SUPERVISED = (
    Registered("SAB/Copying-v0", "sab_agents.envs.supervised.generated_envs:Copying", {"length": 100}),
    Registered("SAB/Adding-v0", "sab_agents.envs.supervised.generated_envs:Adding", {"length": 200}),
    Registered("SAB/DelayedRecall-v0", "sab_agents.envs.supervised.generated_envs:Recall", {"length": 100}),
    Registered("SAB/Characters-v0", "sab_agents.envs.supervised.character_env:Characters", {"corpus": "pydoc"}),
    Registered("SAB/PixelMNIST-v0", "sab_agents.envs.supervised.pixel_env:Pixels", {"dataset": "mnist"}),
    Registered("SAB/PixelCIFAR10-v0", "sab_agents.envs.supervised.pixel_env:Pixels", {"dataset": "cifar10"}),
    Registered("SAB/PixelDigits-v0", "sab_agents.envs.supervised.pixel_env:Pixels", {"dataset": "digits"}),
)
"""The paper's tasks and their like: an action is a prediction."""

ENVIRONMENTS: Mapping[str, Registered] = MappingProxyType({known.id: known for known in (*DELAYED, *SUPERVISED)})
"""All ids, in the order in which they are listed."""


def register_environments() -> None:
    """Registers every id that Gymnasium does not know yet."""
    for known in ENVIRONMENTS.values():
        if known.id not in gym.registry:
            gym.register(
                known.id,
                entry_point=f"{known.name}Env",
                vector_entry_point=f"{known.name}VectorEnv",
                kwargs=dict(known.arguments),
            )


def registered(env_id: str) -> Registered:
    """Returns the entry of an id.

    Raises:
        ValueError: there is none.
    """
    if env_id not in ENVIRONMENTS:
        raise ValueError(
            f"There is no environment {env_id!r}{like(env_id, ENVIRONMENTS)}. The ids are {', '.join(ENVIRONMENTS)}."
        )
    return ENVIRONMENTS[env_id]
