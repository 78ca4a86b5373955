"""n copies of an environment, stepped together, as Gymnasium's `VectorEnv`.

Dimensions: n copies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from sab_agents.envs.actions import ActionCheck
from sab_agents.envs.checks import one_of, whole
from sab_agents.envs.dynamics import Array, Bools, Dynamics, Floats, Ints, Returns
from sab_agents.envs.single import RENDERING, build, checked_render_mode, described, rendered

Infos = dict[str, Any]


class DynamicsVectorEnv(VectorEnv[Any, Any, Any]):
    """n copies of an environment; what it returns equals `SyncVectorEnv` of n single ones, to the bit.

    Args:
        num_envs: n.
        autoreset_mode: what happens to a copy whose episode has ended: "NextStep" (the next step begins an episode and
            ignores the action), "SameStep" (the same step does; the last observation is in `info["final_obs"]`) or
            "Disabled" (`reset(options={"reset_mask": …})` does).
        max_episode_steps: after how many steps an episode is truncated; None = only where the task ends it.
        render_mode: "rgb_array", "ansi" or None.
        arguments: the settings of the dynamics.

    Attributes:
        dynamics: the n copies.
        metadata: as in Gymnasium, and "returns" (best, random, memoryless for these settings) and "tests".

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
        self.num_envs = whole(owner, "num_envs", num_envs)
        self.dynamics = build(self.dynamics_class, arguments)
        self.autoreset_mode = checked_autoreset_mode(owner, autoreset_mode)
        self._limit = None if max_episode_steps is None else whole(owner, "max_episode_steps", max_episode_steps)
        self.render_mode = checked_render_mode(type(self), render_mode)
        self.dynamics.allocate(self.num_envs)
        self.metadata = described(type(self).metadata, self.dynamics) | {"autoreset_mode": self.autoreset_mode}
        self.single_observation_space = self.dynamics.observation_space
        self.single_action_space = self.dynamics.action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._check = ActionCheck(owner, self.single_action_space, self.num_envs)
        self._all = np.arange(self.num_envs)
        self._generators: list[np.random.Generator | None] = [None] * self.num_envs
        self._seeds: list[int] = [-1] * self.num_envs
        self._begun = False
        self._ended: Bools | None = None  # the copies whose episode has ended, None where no copy's has
        self._elapsed = np.zeros(self.num_envs, dtype=np.int64)

    @property
    def returns(self) -> Returns:
        """What the best, the random and the best memoryless policy earn with these settings."""
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
        """Begins an episode of every copy.

        Args:
            seed: s seeds copy i with s + i; a sequence gives each copy its own; None goes on with the generators.
            options: "reset_mask", (n,) bool, begins episodes of those copies alone.

        Raises:
            TypeError: the mask is no array of bools.
            ValueError: the seeds or the mask are not n, or the mask is empty.
            gymnasium.error.ResetNeeded: a mask where not every copy has begun an episode.
        """
        mask = (options or {}).get("reset_mask")
        copies = self._all if mask is None else np.flatnonzero(self._checked_mask(mask))
        self._seed(copies, seed)
        self._begin(copies)
        if mask is None:
            self._ended = None
        elif self._ended is not None:
            self._ended = left_of(self._ended & ~mask)
        self._begun = True
        return self.dynamics.observe(), self._infos(self.dynamics.info(), mask)

    def step(self, actions: Any) -> tuple[Array, Floats, Bools, Bools, Infos]:
        """Takes one step with every copy; see `gymnasium.vector.VectorEnv.step`.

        Raises:
            TypeError: the actions are no numbers of the space's kind.
            ValueError: there are not n of them, or one is outside the space.
            gymnasium.error.ResetNeeded: no episode has begun, or one has ended and automatic resets are disabled.
        """
        resetting = self._ended
        if not self._begun or (resetting is not None and self.autoreset_mode is AutoresetMode.DISABLED):
            raise ResetNeeded(self._needs_reset())
        rewards, terminated, truncated = self.dynamics.advance(self._check(actions, resetting))
        finished = terminated | truncated
        if self._limit is not None:
            self._elapsed += 1
            truncated |= self._elapsed >= self._limit
        if resetting is not None:
            self._begin(np.flatnonzero(resetting))
            for values in (rewards, terminated, truncated, finished):
                values[resetting] = 0
        ended = finished if self._limit is None else terminated | truncated
        if ended.any():
            observations, infos = self._end(ended, finished)
        else:
            self._ended = None
            observations, infos = self.dynamics.observe(), self._infos(self.dynamics.info())
        return observations, rewards, terminated, truncated, infos

    def render(self) -> tuple[Any, ...] | None:
        """Returns one picture or text for each copy, as `render_mode` says.

        Raises:
            gymnasium.error.ResetNeeded: no episode has begun.
        """
        if not self._begun:
            raise ResetNeeded(self._needs_reset())
        if self.render_mode is None:
            return None
        return tuple(rendered(self.dynamics, self.render_mode, copy) for copy in range(self.num_envs))

    def _end(self, ended: Bools, finished: Bools) -> tuple[Array, Infos]:
        """What a step at which episodes end shows: the last observations, or in the same-step mode the next first.

        Only of episodes that the task itself has `finished`, and no limit has cut off, the ending is told.
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
        """The generators of the copies; one that has never been seeded is seeded by chance."""
        found = []
        for copy in copies:
            generator = self._generators[copy]
            if generator is None:
                generator, self._seeds[copy] = seeding.np_random()
                self._generators[copy] = generator
            found.append(generator)
        return found

    def _seed(self, copies: Ints, seed: int | Sequence[int | None] | None) -> None:
        if seed is None:
            return
        seeds = self._seed_of_each(seed)
        for copy in copies:
            given = seeds[copy]
            if given is not None:
                self._generators[copy], self._seeds[copy] = seeding.np_random(int(given))

    def _seed_of_each(self, seed: Any) -> list[Any]:
        """One seed for each copy."""
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
            came = f"has dtype {mask.dtype}" if isinstance(mask, np.ndarray) else f"is a {type(mask).__name__}"
            raise TypeError(f"{rule}, but {came}. Pass terminated | truncated.")
        if mask.shape != (self.num_envs,) or not mask.any():
            raise ValueError(f"{rule}, but is {mask}. Pass terminated | truncated where it has a True.")
        if not self._begun:
            raise ResetNeeded(f"{type(self).__name__}.reset: reset_mask needs episodes. Call reset() without it first.")
        return mask

    def _needs_reset(self) -> str:
        if not self._begun:
            return f"{type(self).__name__} needs episodes, but none has begun. Call reset() first."
        copies = np.flatnonzero(self._ended).tolist() if self._ended is not None else []
        return (
            f"{type(self).__name__}.step: the episodes of copies {copies} have ended and no copy is reset by itself. "
            'Call reset(options={"reset_mask": terminated | truncated}).'
        )

    def _infos(self, facts: Any, mask: Bools | None = None) -> Infos:
        """The facts as Gymnasium's vector environments give them: with a mask, and zeros where it is False."""
        if not facts:
            return {}
        infos: Infos = {}
        for key, values in facts.items():
            held = values
            if mask is not None:
                held = np.zeros_like(values)
                held[mask] = values[mask]
            infos[key] = held
            infos[f"_{key}"] = np.ones(self.num_envs, dtype=np.bool_) if mask is None else mask.copy()
        return infos


def checked_autoreset_mode(owner: str, mode: str | AutoresetMode) -> AutoresetMode:
    """Returns Gymnasium's mode of that name."""
    if isinstance(mode, AutoresetMode):
        return mode
    return AutoresetMode(one_of(owner, "autoreset_mode", mode, [known.value for known in AutoresetMode]))


def left_of(ended: Bools) -> Bools | None:
    """Returns the mask, or None where it is all False."""
    return ended if ended.any() else None
