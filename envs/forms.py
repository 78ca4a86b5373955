"""Dynamics as Gymnasium environments: one copy as an `Env`, n copies that are stepped together as a `VectorEnv`.

Dimensions: n copies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, ClassVar, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from sab_agents.checks import int_between, known_arguments, one_of
from sab_agents.envs.actions import ActionCheck
from sab_agents.envs.arrays import Array, Bools, Floats, Image, Ints
from sab_agents.envs.dynamics import MAX_STEPS, Dynamics, Returns

Infos = dict[str, Any]

FIRST_COPY = np.zeros(1, dtype=np.int64)
MAX_COPIES = 1_000_000
RENDERING: dict[str, Any] = {"render_modes": ["ansi", "rgb_array"], "render_fps": 10}


class DynamicsEnv(gym.Env[Any, Any]):
    """A single environment. A subclass names its dynamics, whose docstring describes the task.

    Args:
        render_mode: "rgb_array", "ansi" or None.
        arguments: settings of the dynamics.

    Attributes:
        dynamics: the dynamics, with one copy.
        metadata: as in Gymnasium, with two more entries: "returns" (best, random and memoryless with these settings)
            and "tests" (what the environment tests).

    Raises:
        TypeError: an argument has the wrong type or an unknown name.
        ValueError: an argument is out of range.
    """

    metadata: dict[str, Any] = RENDERING
    dynamics_class: ClassVar[type[Dynamics]]

    def __init__(self, *, render_mode: str | None = None, **arguments: Any) -> None:
        self.dynamics = build_dynamics(self.dynamics_class, arguments)
        self.dynamics.allocate(1)
        self.render_mode = _checked_render_mode(type(self), render_mode)
        self.metadata = _described(type(self).metadata, self.dynamics)
        self.observation_space = self.dynamics.observation_space
        self.action_space = self.dynamics.action_space
        self._check = ActionCheck(type(self).__name__, self.action_space, 1)
        self._begun = False
        self._running = False

    @property
    def returns(self) -> Returns:
        """Expected returns of the best, the random and the best memoryless policy with these settings."""
        return self.dynamics.returns

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Infos]:
        """Begins an episode; see `gymnasium.Env.reset`. There are no options."""
        super().reset(seed=seed, options=options)
        self.dynamics.begin(FIRST_COPY, [self.np_random])
        self._begun = self._running = True
        return self.dynamics.observe()[0], {key: _unbatched(value) for key, value in self.dynamics.info().items()}

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, Infos]:
        """Takes one step; see `gymnasium.Env.step`.

        Raises:
            TypeError: the action is not a number of the kind that the action space has.
            ValueError: the action is outside the action space.
            gymnasium.error.ResetNeeded: no episode has begun, or the last one has ended.
        """
        if not self._running:
            state = "the last one has ended" if self._begun else "none has begun"
            raise ResetNeeded(f"{type(self).__name__}.step needs an episode, but {state}. Call reset() first.")
        rewards, terminated, truncated = self.dynamics.advance(self._check([action]))
        ended = bool(terminated[0] or truncated[0])
        self._running = not ended
        batched = {**self.dynamics.info(), **(self.dynamics.ending_info() if ended else {})}
        info = {key: _unbatched(value) for key, value in batched.items()}
        return self.dynamics.observe()[0], float(rewards[0]), bool(terminated[0]), bool(truncated[0]), info

    def render(self) -> Any:
        """Returns an RGB image (height, width, 3), a text, or None, depending on `render_mode`.

        Raises:
            gymnasium.error.ResetNeeded: no episode has begun.
        """
        if not self._begun:
            raise ResetNeeded(f"{type(self).__name__}.render needs an episode, but none has begun. Call reset() first.")
        return _rendered(self.dynamics, self.render_mode, 0)


class DynamicsVectorEnv(VectorEnv[Any, Any, Any]):
    """n copies of an environment. Returns bit-exactly what `SyncVectorEnv` of n single environments returns.

    Args:
        num_envs: n.
        autoreset_mode: what happens to a copy whose episode has ended: "NextStep" (the next step begins an episode and
            ignores the action), "SameStep" (the same step begins an episode, and `info["final_obs"]` has the last
            observation) or "Disabled" (only `reset(options={"reset_mask": …})` begins an episode).
        max_episode_steps: number of steps after which an episode is truncated; None for no limit.
        render_mode: "rgb_array", "ansi" or None.
        arguments: settings of the dynamics.

    Attributes:
        dynamics: the dynamics, with n copies.
        metadata: as in Gymnasium, with two more entries: "returns" (best, random and memoryless with these settings)
            and "tests" (what the environment tests).

    Raises:
        TypeError: an argument has the wrong type or an unknown name.
        ValueError: an argument is out of range.
    """

    metadata: dict[str, Any] = RENDERING
    dynamics_class: ClassVar[type[Dynamics]]

    def __init__(
        self,
        num_envs: int = 1,
        *,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        **arguments: Any,
    ) -> None:
        owner = type(self).__name__
        self.num_envs = int_between(owner, "num_envs", num_envs, 1, MAX_COPIES)
        self.dynamics = build_dynamics(self.dynamics_class, arguments)
        self.autoreset_mode = _checked_autoreset_mode(owner, autoreset_mode)
        self._max_steps = (
            None
            if max_episode_steps is None
            else int_between(owner, "max_episode_steps", max_episode_steps, 1, MAX_STEPS)
        )
        self.render_mode = _checked_render_mode(type(self), render_mode)
        self.dynamics.allocate(self.num_envs)
        self.metadata = _described(type(self).metadata, self.dynamics) | {"autoreset_mode": self.autoreset_mode}
        self.single_observation_space = self.dynamics.observation_space
        self.single_action_space = self.dynamics.action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._check = ActionCheck(owner, self.single_action_space, self.num_envs)
        self._all = np.arange(self.num_envs)
        self._generators: list[np.random.Generator | None] = [None] * self.num_envs
        self._seeds: list[int] = [-1] * self.num_envs
        self._begun = False
        self._ended: Bools | None = None  # copies whose episode has ended; None instead of a mask without a True
        self._elapsed = np.zeros(self.num_envs, dtype=np.int64)

    @property
    def returns(self) -> Returns:
        """Expected returns of the best, the random and the best memoryless policy with these settings."""
        return self.dynamics.returns

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """The random number generators of the copies."""
        return tuple(self._generators_of(self._all))

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """The seeds of the copies' generators."""
        self._generators_of(self._all)
        return tuple(self._seeds)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, Infos]:
        """Begins an episode in every copy.

        Args:
            seed: an int s seeds copy i with s + i; a sequence has one seed for each copy; None keeps the generators.
            options: "reset_mask", (n,) bool, restricts the reset to these copies.

        Raises:
            TypeError: the seed has the wrong type, or the mask is not a bool array.
            ValueError: there are not n seeds or n mask entries, or the mask has no True.
            gymnasium.error.ResetNeeded: a mask is passed before all copies have begun an episode.
        """
        mask = (options or {}).get("reset_mask")
        copies = self._all if mask is None else np.flatnonzero(self._checked_mask(mask))
        self._seed(copies, seed)
        self._begin(copies)
        if mask is None:
            self._ended = None
        elif self._ended is not None:
            ended = self._ended & ~mask
            self._ended = ended if ended.any() else None
        self._begun = True
        return self.dynamics.observe(), self._infos(self.dynamics.info(), mask)

    def step(self, actions: Any) -> tuple[Array, Floats, Bools, Bools, Infos]:
        """Takes one step in every copy; see `gymnasium.vector.VectorEnv.step`.

        Raises:
            TypeError: the actions are not numbers of the kind that the action space has.
            ValueError: there are not n actions, or one of them is outside the action space.
            gymnasium.error.ResetNeeded: no episode has begun, or one has ended and automatic resets are disabled.
        """
        resetting = self._ended
        if not self._begun or (resetting is not None and self.autoreset_mode is AutoresetMode.DISABLED):
            raise ResetNeeded(self._needs_reset())
        rewards, terminated, truncated = self.dynamics.advance(self._check(actions, resetting))
        finished = terminated | truncated
        if self._max_steps is not None:
            self._elapsed += 1
            truncated |= self._elapsed >= self._max_steps
        if resetting is not None:
            self._begin(np.flatnonzero(resetting))
            for values in (rewards, terminated, truncated, finished):
                values[resetting] = 0
        ended = finished if self._max_steps is None else terminated | truncated
        if ended.any():
            observations, infos = self._end(ended, finished)
        else:
            self._ended = None
            observations, infos = self.dynamics.observe(), self._infos(self.dynamics.info())
        return observations, rewards, terminated, truncated, infos

    def render(self) -> tuple[Any, ...] | None:
        """Returns one image or text for each copy, or None, depending on `render_mode`.

        Raises:
            gymnasium.error.ResetNeeded: no episode has begun.
        """
        if not self._begun:
            raise ResetNeeded(self._needs_reset())
        if self.render_mode is None:
            return None
        return tuple(_rendered(self.dynamics, self.render_mode, copy) for copy in range(self.num_envs))

    def state_dict(self) -> dict[str, Any]:
        """Returns where the copies are in their episodes, and the states of their generators.

        Returns:
            Arrays, and values that JSON can hold, by name.

        Raises:
            gymnasium.error.ResetNeeded: no episode has begun.
        """
        if not self._begun:
            raise ResetNeeded(self._needs_reset())
        arrays = {name: value.copy() for name, value in vars(self.dynamics).items() if isinstance(value, np.ndarray)}
        return {
            **{f"dynamics.{name}": value for name, value in arrays.items()},
            "ended": np.zeros(self.num_envs, np.bool_) if self._ended is None else self._ended.copy(),
            "elapsed": self._elapsed.copy(),
            "generators": [generator.bit_generator.state for generator in self._generators_of(self._all)],
            "seeds": list(self._seeds),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues bit-exactly where `state_dict` was taken of an environment with the same settings.

        Args:
            state: what it returned.

        Raises:
            ValueError: it is that of another environment.
            gymnasium.error.ResetNeeded: no episode has begun.
        """
        own = self.state_dict()
        if own.keys() != state.keys() or len(state["generators"]) != self.num_envs:
            raise ValueError(
                f"{type(self).__name__}.load_state_dict: the state must be that of {self.num_envs} copies of the same "
                "environment. Make them with the arguments of those whose state it is."
            )
        for name in own:
            if name.startswith("dynamics."):
                _fill(self.dynamics, name.removeprefix("dynamics."), state[name])
        self._ended = state["ended"].copy() if state["ended"].any() else None
        self._elapsed[:] = state["elapsed"]
        for generator, drawn in zip(self._generators_of(self._all), state["generators"], strict=True):
            generator.bit_generator.state = drawn
        self._seeds = list(state["seeds"])

    def _end(self, ended: Bools, finished: Bools) -> tuple[Array, Infos]:
        """Returns observations and infos of a step at which episodes end.

        In the same-step mode, the observations are the first ones of the next episodes. `ending_info` is included only
        for the `finished` copies, whose episodes the dynamics ended; an episode that reached the limit has none.
        """
        observations = self.dynamics.observe()
        infos = self._infos(self.dynamics.info())
        ending = self._infos(self.dynamics.ending_info(), finished) if finished.any() else {}
        if self.autoreset_mode is not AutoresetMode.SAME_STEP:
            self._ended = ended
            return observations, infos | ending
        final: Array = np.full(self.num_envs, None, dtype=object)
        copies = np.flatnonzero(ended)
        for copy in copies:
            final[copy] = observations[copy].copy()
        last = self._infos(self.dynamics.info(), ended) | ending
        self._begin(copies)
        infos = {"final_obs": final, "_final_obs": ended.copy(), "final_info": last, "_final_info": ended.copy()}
        return self.dynamics.observe(), infos | self._infos(self.dynamics.info())

    def _begin(self, copies: Ints) -> None:
        self.dynamics.begin(copies, self._generators_of(copies))
        self._elapsed[copies] = 0

    def _generators_of(self, copies: Ints) -> list[np.random.Generator]:
        """Returns the generators of the copies. A generator that has never been seeded gets a random seed."""
        generators = []
        for copy in copies:
            generator = self._generators[copy]
            if generator is None:
                generator, self._seeds[copy] = seeding.np_random()
                self._generators[copy] = generator
            generators.append(generator)
        return generators

    def _seed(self, copies: Ints, seed: int | Sequence[int | None] | None) -> None:
        if seed is None:
            return
        seeds = self._seed_of_each(seed)
        for copy in copies:
            copy_seed = seeds[copy]
            if copy_seed is not None:
                self._generators[copy], self._seeds[copy] = seeding.np_random(int(copy_seed))

    def _seed_of_each(self, seed: Any) -> list[Any]:
        """Returns one seed for each copy."""
        if isinstance(seed, (int, np.integer)):
            return [int(seed) + i for i in range(self.num_envs)]
        if isinstance(seed, str) or not isinstance(seed, Sequence):
            raise TypeError(
                f"{type(self).__name__}.reset: seed must be an int, a sequence of {self.num_envs} ints or None, "
                f"but is {seed!r} ({type(seed).__name__}). Pass one int to seed all copies."
            )
        if len(seed) != self.num_envs:
            raise ValueError(
                f"{type(self).__name__}.reset: there must be one seed for each of the {self.num_envs} copies, "
                f"but there are {len(seed)}. Pass one int to seed all copies."
            )
        return list(seed)

    def _checked_mask(self, mask: Any) -> Bools:
        rule = f"{type(self).__name__}.reset: reset_mask must be a bool array of {self.num_envs} entries, not all False"
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
            received = f"has dtype {mask.dtype}" if isinstance(mask, np.ndarray) else f"is a {type(mask).__name__}"
            raise TypeError(f"{rule}, but {received}. Pass terminated | truncated.")
        if mask.shape != (self.num_envs,) or not mask.any():
            raise ValueError(f"{rule}, but is {mask}. Pass terminated | truncated if it has a True.")
        if not self._begun:
            raise ResetNeeded(f"{type(self).__name__}.reset: reset_mask needs episodes. Call reset() without it first.")
        return mask

    def _needs_reset(self) -> str:
        if not self._begun:
            return f"{type(self).__name__} needs episodes, but none has begun. Call reset() first."
        copies = np.flatnonzero(self._ended).tolist() if self._ended is not None else []
        return (
            f"{type(self).__name__}.step: the episodes of copies {copies} have ended, and automatic resets are "
            'disabled. Call reset(options={"reset_mask": terminated | truncated}).'
        )

    def _infos(self, batched: Any, mask: Bools | None = None) -> Infos:
        """Adds the mask of each entry, as Gymnasium's vector environments do; masked-out values are zeros."""
        if not batched:
            return {}
        infos: Infos = {}
        for key, values in batched.items():
            selected = values
            if mask is not None:
                selected = np.zeros_like(values)
                selected[mask] = values[mask]
            infos[key] = selected
            infos[f"_{key}"] = np.ones(self.num_envs, dtype=np.bool_) if mask is None else mask.copy()
        return infos


def build_dynamics(dynamics_class: type[Dynamics], arguments: dict[str, Any]) -> Dynamics:
    """Builds the dynamics from the arguments of an environment.

    Raises:
        TypeError: an argument has the wrong type or an unknown name.
        ValueError: an argument is out of range.
    """
    known_arguments(dynamics_class, arguments)
    return dynamics_class(**arguments)


def _fill(dynamics: Dynamics, name: str, value: Array) -> None:
    """Gives an array of the dynamics other values, in place, since others may refer to it; unless its shape changes."""
    present: Array = getattr(dynamics, name)
    if present.shape == value.shape and present.dtype == value.dtype and present.flags.writeable:
        present[...] = value
    elif not np.array_equal(present, value):
        setattr(dynamics, name, value.copy())


def _checked_render_mode(env_class: type, render_mode: str | None) -> str | None:
    modes: list[str] = env_class.metadata["render_modes"]  # type: ignore[attr-defined]
    return None if render_mode is None else one_of(env_class.__name__, "render_mode", render_mode, modes)


def _checked_autoreset_mode(owner: str, mode: str | AutoresetMode) -> AutoresetMode:
    if isinstance(mode, AutoresetMode):
        return mode
    return AutoresetMode(one_of(owner, "autoreset_mode", mode, [valid.value for valid in AutoresetMode]))


def _described(metadata: dict[str, Any], dynamics: Dynamics) -> dict[str, Any]:
    """Returns the metadata with the entries that reports print."""
    return {**metadata, "returns": asdict(dynamics.returns), "tests": dynamics.purpose}


def _rendered(dynamics: Dynamics, render_mode: str | None, copy: int) -> Image | str | None:
    if render_mode == "rgb_array":
        return dynamics.picture(copy)
    return dynamics.text(copy) if render_mode == "ansi" else None


def _unbatched(values: Array) -> Any:
    """Returns the only entry of an array: a Python number if that has the same precision, else a NumPy one."""
    entry = values[0]
    return entry.item() if isinstance(entry, (np.bool_, np.int64, np.float64)) else entry
