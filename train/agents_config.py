"""The settings of an experiment with PPO agents: one environment at several sizes, several learners and seeds."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from sab_agents.checks import did_you_mean
from sab_agents.train.agents_env import WRAPPERS
from sab_agents.train.errors import UserError
from sab_agents.train.sweep_config import check_count, check_counts, check_mapping, sweep_settings

ALGORITHMS = ("sab_agents", "sb3_contrib")
"""Packages that have a `RecurrentPPO`."""
CHANGEABLE = ("ent_coef", "gamma", "learning_rate")
"""Arguments of `RecurrentPPO` that may differ by size, also where an agent goes on from size to size."""
Value = int | str


class Cell(NamedTuple):
    """One learner at one value with one seed."""

    learner: str
    value: Value
    seed: int

    @property
    def file(self) -> str:
        """The name of its file, without suffix."""
        return f"{self.learner}-{self.value}-{self.seed}"


@dataclass(frozen=True)
class AgentsConfig:
    """Settings of a sweep; a cell is one learner at one value with one seed.

    Attributes:
        env: Gymnasium's id; with "{}" in it, the values are put there.
        values: sizes of the environment.
        learners: for each name its `policy`, and what it does not share: `algorithm` ("sab_agents" or "sb3_contrib"),
            `policy_kwargs`, arguments of `RecurrentPPO`; and `tested`, false where tests would take too long.
        success: an episode succeeds when its return is at least this number, or when `info` holds true under this key.
        argument: the argument of the environment that takes the values; none where they are part of the id.
        env_arguments: the environment's other arguments.
        imports: modules that register environments.
        wrappers: of each copy, the innermost first: names of `agents_env.WRAPPERS`.
        previous_action_reward: whether the observation gets the previous action and reward.
        elapsed_share: whether it gets the share of the longest episode that is over.
        normalize: whether observations are brought to mean 0 and standard deviation 1, by `VecNormalize`.
        normalize_reward: whether rewards are divided by the running standard deviation of discounted returns, by the
            same; reported returns are as the environment gives them.
        num_envs: copies of the environment.
        shared: arguments of `RecurrentPPO` that all learners share; a learner's own go before them.
        at_values: what replaces `shared` at a value, of `CHANGEABLE`.
        anneal: whether the learning rate goes down to 0 along the budget.
        curriculum: whether an agent goes on from one of the `values` to the next when it has reached the target there;
            its weights, optimiser and statistics of observations are kept. Where it does not get there, it ends.
        seeds: of agent and environment.
        steps: budget of a cell, steps of all copies together; one number, or one for each value.
        recent: episodes over which success is measured.
        target: a cell ends when so large a share of its last `recent` episodes succeeded; None never.
        test_values: sizes at which the trained agent is tested; a list, or one for each value that is to be tested.
        test_episodes: episodes of a test.
        threads: CPU threads of a cell.
    """

    env: str
    values: tuple[Value, ...]
    learners: Mapping[str, Mapping[str, Any]]
    success: float | str
    argument: str | None = None
    env_arguments: Mapping[str, Any] = field(default_factory=dict)
    imports: tuple[str, ...] = ()
    wrappers: tuple[str, ...] = ()
    previous_action_reward: bool = False
    elapsed_share: bool = False
    normalize: bool = False
    normalize_reward: bool = False
    num_envs: int = 16
    shared: Mapping[str, Any] = field(default_factory=dict)
    at_values: Mapping[Value, Mapping[str, float]] = field(default_factory=dict)
    anneal: bool = False
    curriculum: bool = False
    seeds: tuple[int, ...] = (0,)
    steps: int | Mapping[Value, int] = 100_000
    recent: int = 100
    target: float | None = None
    test_values: tuple[Value, ...] | Mapping[Value, tuple[Value, ...]] = ()
    test_episodes: int = 100
    threads: int = 1

    def __post_init__(self) -> None:
        for name, kinds, empty in (
            ("values", (int, str), False), ("seeds", (int,), False),
            ("imports", (str,), True), ("wrappers", (str,), True),
        ):  # fmt: skip
            object.__setattr__(self, name, _list_of(name, getattr(self, name), kinds, empty=empty))
        tests = (
            self.test_values if isinstance(self.test_values, Mapping) else dict.fromkeys(self.values, self.test_values)
        )
        tests = {value: _list_of("test_values", sizes, (int, str), empty=True) for value, sizes in tests.items()}
        object.__setattr__(self, "test_values", tests)
        for name in ("learners", "env_arguments", "shared"):
            check_mapping(name, getattr(self, name))
        for name in ("num_envs", "recent", "test_episodes", "threads"):
            check_count(name, getattr(self, name))
        if not (_is_number(self.success) or isinstance(self.success, str)):
            raise UserError(f"success must be a least return, or a key of info, but is {self.success!r}.")
        if self.target is not None and not (_is_number(self.target) and 0 < self.target <= 1):
            raise UserError(f"target must be above 0 and at most 1, but is {self.target!r}.")
        for name in self.wrappers:
            if name not in WRAPPERS:
                raise UserError(f"wrappers: there is no '{name}'. {did_you_mean(name, WRAPPERS)}")
        if self.curriculum and self.target is None:
            raise UserError(
                "curriculum: an agent goes on when it has reached the target, but there is none. Set target."
            )
        if self.curriculum and self.anneal:
            raise UserError("anneal: the budgets of a curriculum are not used up. Leave one of the two out.")
        self._check_sizes()
        self._check_learners()

    def _check_sizes(self) -> None:
        if (self.argument is None) == ("{}" not in self.env):
            raise UserError(
                f"the values must go to one place, but argument is {self.argument!r} and env is {self.env!r}. "
                "Name an argument of the environment, or put {} into its id."
            )
        check_counts("steps", self.steps, self.values, "budget")
        check_mapping("at_values", self.at_values)
        for value, changes in self.at_values.items():
            check_mapping(f"at_values: {value}", changes)
            for name, number in changes.items():
                if name not in CHANGEABLE or not _is_number(number):
                    raise UserError(
                        f"at_values: {value}: must map {', '.join(CHANGEABLE)} to a number, but has {name}: {number!r}."
                    )

    def _check_learners(self) -> None:
        if not self.learners:
            raise UserError("learners must name at least one, but is empty.")
        for name, settings in self.learners.items():
            check_mapping(f"learners: {name}", settings)
            if "/" in name:
                raise UserError(f"learners: a name becomes a file's, so it must have no '/', but one is '{name}'.")
            if not isinstance(settings.get("policy"), str):
                raise UserError(f"learners: {name} must have a policy, such as MlpSabPolicy.")
            if not isinstance(settings.get("tested", True), bool):
                raise UserError(f"learners: {name}: tested must be true or false, but is {settings['tested']!r}.")
            if (algorithm := settings.get("algorithm", ALGORITHMS[0])) not in ALGORITHMS:
                raise UserError(f"learners: {name}: algorithm must be one of {', '.join(ALGORITHMS)}, not {algorithm}.")

    def tests_after(self, learner: str, value: Value) -> tuple[Value, ...]:
        """The sizes at which an agent that learnt at this value is tested."""
        assert isinstance(self.test_values, Mapping)
        return self.test_values.get(value, ()) if self.learners[learner].get("tested", True) else ()

    @property
    def cells(self) -> list[Cell]:
        """All cells, value by value."""
        return [Cell(learner, value, seed) for value in self.values for learner in self.learners for seed in self.seeds]

    def budget(self, value: Value) -> int:
        """Steps of a cell at this value."""
        return self.steps[value] if isinstance(self.steps, Mapping) else self.steps

    @property
    def chains(self) -> list[list[Cell]]:
        """The cells that one agent runs through, for each agent."""
        if not self.curriculum:
            return [[cell] for cell in self.cells]
        return [
            [Cell(learner, value, seed) for value in self.values] for learner in self.learners for seed in self.seeds
        ]

    def agent_settings(self, learner: str, value: Value) -> dict[str, Any]:
        """What a learner is built with: its algorithm, its policy, and the arguments of `RecurrentPPO`."""
        own = {name: setting for name, setting in self.learners[learner].items() if name != "tested"}
        policy = {**self.shared.get("policy_kwargs", {}), **own.get("policy_kwargs", {})}
        changes = self.at_values.get(value, {})
        return {"algorithm": ALGORITHMS[0], **self.shared, **changes, **own, "policy_kwargs": policy}

    def cell_settings(self, cell: Cell) -> dict[str, Any]:
        """What decides a cell's numbers, as JSON holds it."""
        shared = self.settings()
        left_out = ("values", "learners", "shared", "seeds", "threads", "at_values", "curriculum", "test_values")
        kept = {name: value for name, value in shared.items() if name not in left_out}
        learner = json.loads(json.dumps(self.agent_settings(cell.learner, cell.value)))
        before = self.values[: self.values.index(cell.value)] if self.curriculum else ()
        own = {"steps": self.budget(cell.value), "test_values": list(self.tests_after(cell.learner, cell.value))}
        return {**kept, **own, "learner": learner, "after": list(before)}

    def settings(self) -> dict[str, Any]:
        """All settings, as JSON holds them."""
        found: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return found


def load_agents_config(path: Path, changes: Mapping[str, Any]) -> AgentsConfig:
    """Reads a YAML file.

    Args:
        path: of the file.
        changes: settings to use in place of the file's; None leaves the file's. `learners` names those to keep.

    Raises:
        UserError: the file is missing, not YAML or not a mapping; a key is unknown or missing, or a value is wrong.
    """
    known = [each.name for each in dataclasses.fields(AgentsConfig)]
    required = ("env", "values", "learners", "success")
    return AgentsConfig(**sweep_settings(path, known, required, ("learners", "learner"), changes))


def _list_of(name: str, value: object, kinds: tuple[type, ...], *, empty: bool) -> tuple[Any, ...]:
    words = " or ".join({int: "whole numbers", str: "words"}[kind] for kind in kinds)
    if not isinstance(value, list | tuple) or any(type(each) not in kinds for each in value):
        raise UserError(f"{name} must be a list of {words}, but is {value!r}.")
    if not (value or empty):
        raise UserError(f"{name} must be a list of {words}, but is empty.")
    return tuple(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
