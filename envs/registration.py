"""The registered environments and supervised tasks: one line each, from which everything else looks them up."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import gymnasium as gym

from sab_agents.checks import did_you_mean
from sab_agents.envs.dynamics import Dynamics, Returns
from sab_agents.envs.forms import DynamicsEnv, build_dynamics

GYMNASIUMS = frozenset({"max_episode_steps", "render_mode"})
"""Arguments of `gymnasium.make` and `make_vec` that are no settings of an environment."""


@dataclass(frozen=True)
class Registered:
    """An environment that Gymnasium can make.

    Attributes:
        id: Gymnasium's id.
        name: "module:Name". The module has the classes `NameEnv` and `NameVectorEnv` and, if the environment belongs to
            a supervised task, the task `Name`.
        arguments: settings that `gymnasium.make` passes by default.
    """

    id: str
    name: str
    arguments: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def dynamics(self, **arguments: Any) -> Dynamics:
        """Builds the dynamics, whose returns, horizon and spaces can be read without making an environment.

        Args:
            arguments: settings that replace the default ones.
        """
        return build_dynamics(self.dynamics_class(), {**self.arguments, **arguments})

    def returns(self, arguments: Mapping[str, Any]) -> Returns:
        """Returns what is known of the returns in an environment that Gymnasium makes with these arguments.

        Nothing is known where `max_episode_steps` may cut episodes short.
        """
        if arguments.get("max_episode_steps") is not None:
            return Returns(None, None, None)
        return self.dynamics(**_settings_in(arguments)).returns

    def horizon(self, arguments: Mapping[str, Any]) -> int | None:
        """Returns the steps of the longest episode in an environment that Gymnasium makes with these arguments."""
        limits = (self.dynamics(**_settings_in(arguments)).horizon, arguments.get("max_episode_steps"))
        return min((limit for limit in limits if limit is not None), default=None)

    def dynamics_class(self) -> type[Dynamics]:
        """Returns the class of the dynamics."""
        env_class: type[DynamicsEnv] = self.load("Env")
        return env_class.dynamics_class

    def settings(self) -> tuple[str, ...]:
        """Returns the names of the settings."""
        return tuple(inspect.signature(self.dynamics_class()).parameters)

    def length_argument(self) -> str:
        """Returns the name of the setting that lengthens an episode, or "" if the length is fixed."""
        return self.dynamics_class().length_argument

    def load(self, suffix: str = "") -> Any:
        """Imports the module and returns its object `Name` + `suffix`."""
        module, name = self.name.split(":")
        return getattr(importlib.import_module(module), f"{name}{suffix}")


def _settings_in(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if name not in GYMNASIUMS}


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
    Registered("SAB/EndlessTMaze-v0", "sab_agents.envs.delayed.endless_tmaze:EndlessTMaze", {"corridor_length": 10}),
    Registered("SAB/DigitTMaze-v0", "sab_agents.envs.delayed.digit_tmaze:DigitTMaze", {"corridor_length": 100}),
)
"""Tests of memory and of delayed reward."""

SUPERVISED = (
    Registered("SAB/Copying-v0", "sab_agents.envs.supervised.copying:Copying", {"length": 100}),
    Registered("SAB/Adding-v0", "sab_agents.envs.supervised.adding:Adding", {"length": 200}),
    Registered("SAB/DelayedRecall-v0", "sab_agents.envs.supervised.recall:Recall", {"length": 100}),
    Registered("SAB/Characters-v0", "sab_agents.envs.supervised.characters:Characters", {"corpus": "pydoc"}),
    Registered("SAB/PixelMNIST-v0", "sab_agents.envs.supervised.pixels:Pixels", {"dataset": "mnist"}),
    Registered("SAB/PixelCIFAR10-v0", "sab_agents.envs.supervised.pixels:Pixels", {"dataset": "cifar10"}),
    Registered("SAB/PixelDigits-v0", "sab_agents.envs.supervised.pixels:Pixels", {"dataset": "digits"}),
    Registered("SAB/DigitRecall-v0", "sab_agents.envs.supervised.digit_recall:DigitRecall", {"length": 50}),
)
"""Supervised sequence tasks, in which an action is a prediction. `supervised.TASKS` has the same tasks by name."""

ENVIRONMENTS: Mapping[str, Registered] = MappingProxyType({entry.id: entry for entry in (*DELAYED, *SUPERVISED)})
"""All ids, in the order in which they are listed."""


def register_environments() -> None:
    """Registers every id that Gymnasium does not know yet."""
    for entry in ENVIRONMENTS.values():
        if entry.id not in gym.registry:
            gym.register(
                entry.id,
                entry_point=f"{entry.name}Env",
                vector_entry_point=f"{entry.name}VectorEnv",
                kwargs=dict(entry.arguments),
            )


def registered(env_id: str) -> Registered:
    """Returns the entry of an id.

    Raises:
        ValueError: there is no environment of this id.
    """
    if env_id not in ENVIRONMENTS:
        raise ValueError(f"There is no environment {env_id!r}. {did_you_mean(env_id, ENVIRONMENTS)}")
    return ENVIRONMENTS[env_id]
