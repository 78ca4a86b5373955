"""The settings of an experiment with streaming agents: one environment at several sizes, several policies and seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym

import sab_agents  # noqa: F401 (registers the SAB/* environments)
from sab_agents.checks import did_you_mean
from sab_agents.online import StreamAC
from sab_agents.train.errors import UserError, one_line
from sab_agents.train.sweep_config import check_count, check_counts, check_mapping, sweep_settings


@dataclass(frozen=True)
class StreamConfig:
    """Settings of a sweep; a cell is one policy at one value with one seed.

    Attributes:
        env: Gymnasium's id.
        argument: the argument of the environment that takes the `values`.
        values: what it is set to.
        env_arguments: the environment's other arguments.
        policies: for each name the policy that it stands for, `policy`, and that policy's settings; with `values`, it
            has cells at these alone.
        agent: arguments of `StreamAC` that all cells share.
        seeds: of agent and environment.
        episodes: episodes of a cell; one number, or one for each value.
        threads: CPU threads of a cell.
    """

    env: str
    argument: str
    values: tuple[int, ...]
    policies: Mapping[str, Mapping[str, Any]]
    env_arguments: Mapping[str, Any] = field(default_factory=dict)
    agent: Mapping[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)
    episodes: int | Mapping[int, int] = 10_000
    threads: int = 1

    def __post_init__(self) -> None:
        if self.env not in gym.registry:
            raise UserError(f"env must be a registered id, but is {self.env!r}. {did_you_mean(self.env, gym.registry)}")
        for name in ("values", "seeds"):
            value = getattr(self, name)
            if not isinstance(value, list | tuple) or not value or any(type(each) is not int for each in value):
                raise UserError(f"{name} must be a list of whole numbers, but is {value!r}.")
            object.__setattr__(self, name, tuple(value))
        for name in ("policies", "env_arguments", "agent"):
            check_mapping(name, getattr(self, name))
        check_count("threads", self.threads)
        check_counts("episodes", self.episodes, self.values, "number")
        if not self.policies:
            raise UserError("policies must name at least one, but is empty.")
        for name, settings in self.policies.items():
            check_mapping(f"policies: {name}", settings)
            if not isinstance(settings.get("values", []), list):
                raise UserError(f"policies: {name}: values must be a list, but is {settings['values']!r}.")
            if settings.get("policy") not in StreamAC.policy_aliases:
                raise UserError(f"policies: {name} must have a policy of {', '.join(StreamAC.policy_aliases)}.")

    def cells(self) -> list[tuple[str, int, int]]:
        """Policy, value and seed of every cell."""
        return [
            (name, value, seed)
            for value in self.values
            for name, settings in self.policies.items()
            if value in settings.get("values", self.values)
            for seed in self.seeds
        ]

    def episodes_at(self, value: int) -> int:
        """Episodes of a cell at one of the values."""
        return self.episodes[value] if isinstance(self.episodes, Mapping) else self.episodes

    def settings(self) -> dict[str, Any]:
        """All settings, for JSON."""
        return dataclasses.asdict(self)

    def environment(self, value: int) -> gym.Env[Any, Any]:
        """The environment at one of the values.

        Raises:
            UserError: the environment does not take the arguments.
        """
        try:
            return gym.make(self.env, **{**self.env_arguments, self.argument: value})
        except (TypeError, ValueError, gym.error.Error) as error:
            raise UserError(f"{self.env} with {self.argument} = {value}: {one_line(error)}") from error

    def agent_of(self, policy: str, value: int, seed: int) -> StreamAC:
        """The agent of a cell, at its start.

        Raises:
            UserError: a setting does not fit.
        """
        settings = {key: value for key, value in self.policies[policy].items() if key != "values"}
        name = settings.pop("policy")
        try:
            return StreamAC(name, self.environment(value), policy_kwargs=settings, seed=seed, **self.agent)
        except (TypeError, ValueError) as error:
            raise UserError(f"{policy}: {one_line(error)}") from error


def load_stream_config(path: Path, changes: Mapping[str, Any]) -> StreamConfig:
    """Reads a YAML file.

    Args:
        path: of the file.
        changes: settings to use in place of the file's; None leaves the file's. `policies` names those to keep.

    Raises:
        UserError: the file is missing, not YAML or not a mapping; a key is unknown or missing, or a value is wrong.
    """
    known = [each.name for each in dataclasses.fields(StreamConfig)]
    required = ("env", "argument", "values", "policies")
    return StreamConfig(**sweep_settings(path, known, required, ("policies", "policy"), changes))
