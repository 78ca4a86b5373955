"""A Gymnasium vector environment as a stable-baselines3 VecEnv.

Dimensions: n copies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorObservationWrapper
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from sab_agents.envs.forms import DynamicsVectorEnv
from sab_agents.envs.wrappers import autoreset_mode
from sab_agents.vec_env.layers import AnyVectorEnv, check_masked_resets, check_pooling, layers_of, single_wrapped
from sab_agents.vec_env.usable import check_vector_env

Array = npt.NDArray[Any]
Infos = Mapping[str, Any] | Sequence[dict[str, Any]]
OF_SINGLES = (SyncVectorEnv, AsyncVectorEnv)
RESETTING_AT_ONCE = (*OF_SINGLES, DynamicsVectorEnv)  # honour a reset mask in next-step mode, too
OF_THE_END = ("final_obs", "final_info")
STATISTICS = {"r", "l", "t"}


class VectorToVecEnv(VecEnv):
    """Runs a Gymnasium vector environment at its own speed under any algorithm of stable-baselines3.

    An algorithm sees what it would see of the same single environments in a `DummyVecEnv`: a copy whose episode ends is
    reset within the step, its last observation is `info["terminal_observation"]`, and `info["TimeLimit.truncated"]`
    says whether the episode was truncated. No step is spent on a reset, in any autoreset mode of the environment.

    For statistics of episodes wrap it in `VecMonitor`. `Monitor` and other wrappers of single environments cannot be
    used if all copies are one object; with `SyncVectorEnv`, `env_is_wrapped` finds them.

    Wrappers of vector environments give what the wrappers of the same name around single environments give, or are
    refused. A wrapper of your own that overrides `reset` or `step` says by `honours_reset_mask = True` in its class
    that it leaves the copies alone that are not in `options["reset_mask"]`.

    Args:
        env: a vector environment whose metadata have its `autoreset_mode`. If this is next-step or disabled, copies
            whose episode ends are reset with `options["reset_mask"]`.

    Raises:
        TypeError: it is not a vector environment.
        ValueError: the metadata have no autoreset mode; or it is next-step and the environment is not known to honour
            a reset mask in this mode, as `AsyncVectorEnv` without shared memory does not; or a wrapper mixes the
            copies, or is not known to honour the mask.

    Examples:
        >>> import gymnasium as gym
        >>> from sab_agents import VectorToVecEnv
        >>> env = VectorToVecEnv(gym.make_vec("SAB/PassiveTMaze-v0", num_envs=16))
        >>> env.reset().shape
        (16, 2)
    """

    def __init__(self, env: AnyVectorEnv) -> None:
        check_vector_env("VectorToVecEnv", env)
        mode, base = autoreset_mode(env), env.unwrapped
        check_pooling("VectorToVecEnv", env)
        if mode == AutoresetMode.NEXT_STEP and not isinstance(base, RESETTING_AT_ONCE):
            raise ValueError(
                f"VectorToVecEnv: {base} resets in the next step, and is not known to reset chosen copies at once. "
                f"Make it of single environments: env = {single_wrapped(env)}."
            )
        # A worker without shared memory forgets at a reset that it was reset, and resets once more in the next step.
        if mode == AutoresetMode.NEXT_STEP and isinstance(base, AsyncVectorEnv) and not base.shared_memory:
            raise ValueError(
                f"VectorToVecEnv: {env} resets twice in the next step without shared memory. Make it with "
                "autoreset_mode=gymnasium.vector.AutoresetMode.DISABLED, next to shared_memory=False."
            )
        if mode != AutoresetMode.SAME_STEP:
            check_masked_resets("VectorToVecEnv", env)
        self.env = env
        self._transforming = [
            type(each).__name__ for each in layers_of(env) if isinstance(each, VectorObservationWrapper)
        ]
        self._same_step = mode == AutoresetMode.SAME_STEP
        self._actions: Array = np.zeros(0)
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    def reset(self) -> VecEnvObs:
        """Resets all copies with the seeds and options that were set since the last reset.

        Raises:
            TypeError: the observations are not NumPy arrays.
            ValueError: `set_options` was given different options for different copies.
        """
        options = self._options[0]
        if any(other != options for other in self._options):
            raise ValueError(
                "VectorToVecEnv: all copies must get the same options, but they were set to different ones. "
                "Call set_options with one dict."
            )
        # Gymnasium seeds the copies with s, s + 1, …, as `seed` did.
        seed = None if self._seeds[0] is None else int(self._seeds[0])
        observations, infos = self.env.reset(seed=seed, options=options or None)
        self._check_arrays(observations)
        self.reset_infos = rows_of(infos, self.num_envs)
        self._reset_seeds()
        self._reset_options()
        start: VecEnvObs = _copied(self.observation_space, observations)
        return start

    def step_async(self, actions: Array) -> None:
        """Stores the actions for `step_wait`: a copy, since wrappers write into what they get."""
        self._actions = np.array(actions)

    def step_wait(self) -> VecEnvStepReturn:
        """Takes the step, and resets the copies whose episode it ended.

        Raises:
            ValueError: a wrapper changes observations of copies that are not reset, or leaves a last observation as it
                was.
        """
        observations, rewards, terminations, truncations, infos = self.env.step(self._actions)
        terminated, truncated = np.asarray(terminations, np.bool_), np.asarray(truncations, np.bool_)
        ended = terminated | truncated
        rows = rows_of(infos, self.num_envs)
        if ended.any():
            if self._same_step:
                self._take_ends(rows, infos, ended)
            else:
                for i in np.flatnonzero(ended).tolist():
                    rows[i]["terminal_observation"] = _copied(self.observation_space, _row(observations, i))
                before = _copied(self.observation_space, observations) if self._transforming else None
                observations, infos = self.env.reset(options={"reset_mask": ended.copy()})
                if before is not None and not _equal(before, observations, ~ended):
                    self._refuse_carried()
                starts = rows_of(infos, self.num_envs)
                for i in np.flatnonzero(ended).tolist():
                    self.reset_infos[i] = starts[i]
        for row, cut in zip(rows, (truncated & ~terminated).tolist(), strict=True):
            row["TimeLimit.truncated"] = cut
        return _copied(self.observation_space, observations), np.array(rewards, np.float32), ended, rows

    def close(self) -> None:
        """Closes the environment."""
        self.env.close()

    def get_images(self) -> Sequence[Any]:
        """Returns the frames of all copies."""
        return self.env.render() or [None] * self.num_envs

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Returns an attribute of each copy; if all copies are one object, that object's for each.

        Raises:
            AttributeError: there is no attribute of this name.
        """
        chosen = self._chosen(indices)
        base = self.env.unwrapped
        if isinstance(base, OF_SINGLES):
            values = base.get_attr(attr_name)
            return [values[i] for i in chosen]
        return [getattr(self._owner(attr_name), attr_name)] * len(chosen)

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Sets an attribute of the copies.

        Raises:
            ValueError: all copies are one object, and only some were chosen.
        """
        chosen = self._chosen(indices)
        base = self.env.unwrapped
        if not isinstance(base, OF_SINGLES):
            self._must_be_all(chosen, f"set_attr('{attr_name}')")
            setattr(self._owner(attr_name) if self.has_attr(attr_name) else base, attr_name, value)
            return
        if len(chosen) < self.num_envs:
            values = list(base.get_attr(attr_name))
            for i in chosen:
                values[i] = value
        else:
            values = [value] * self.num_envs
        base.set_attr(attr_name, values)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Calls a method of each copy; if all copies are one object, calls it once for a result with an entry for each.

        Raises:
            AttributeError: there is no attribute of this name.
            TypeError: all copies are one object, and its result has no entry for each.
            ValueError: the copies live in other processes, and only some were chosen.
        """
        chosen = self._chosen(indices)
        base = self.env.unwrapped
        if isinstance(base, SyncVectorEnv):
            return [base.envs[i].get_wrapper_attr(method_name)(*method_args, **method_kwargs) for i in chosen]
        if isinstance(base, AsyncVectorEnv):
            self._must_be_all(chosen, f"env_method('{method_name}')")
            return list(base.call(method_name, *method_args, **method_kwargs))
        result = getattr(self._owner(method_name), method_name)(*method_args, **method_kwargs)
        if result is None:
            return [None] * len(chosen)
        if not isinstance(result, (Sequence, np.ndarray)) or len(result) != self.num_envs:
            raise TypeError(
                f"VectorToVecEnv.env_method: '{method_name}' of {self.env} must return None or an entry for each "
                f"of the {self.num_envs} copies, but returned {result!r}. Call it on `.env` itself."
            )
        return [result[i] for i in chosen]

    def env_is_wrapped(self, wrapper_class: type[Any], indices: VecEnvIndices = None) -> list[bool]:
        """Returns for each copy whether it, or the vector environment, is wrapped in this class."""
        chosen = self._chosen(indices)
        together = any(isinstance(layer, wrapper_class) for layer in layers_of(self.env)[:-1])
        base = self.env.unwrapped
        if isinstance(base, SyncVectorEnv) and issubclass(wrapper_class, gym.Wrapper):
            return [together or is_wrapped(base.envs[i], wrapper_class) for i in chosen]
        return [together] * len(chosen)

    def _check_arrays(self, observations: Any) -> None:
        """Raises TypeError if the observations are the arrays of another framework."""
        parts = observations.values() if isinstance(observations, Mapping) else observations
        for part in parts if isinstance(observations, Mapping | tuple) else [observations]:
            if not isinstance(part, np.ndarray | Mapping | tuple):
                raise TypeError(
                    f"VectorToVecEnv: observations must be NumPy arrays, but {self.env} returns {type(part).__name__}. "
                    "Leave out the wrapper that converts them."
                )

    def _refuse_carried(self) -> NoReturn:
        raise ValueError(
            f"VectorToVecEnv: {' and '.join(self._transforming)} must transform each observation by itself, but when "
            "some copies were reset, observations of others changed: the function carries something from call to "
            "call. Wrap each copy before they are vectorised instead."
        )

    def _owner(self, name: str) -> Any:
        for layer in layers_of(self.env):
            if hasattr(layer, name):
                return layer
        raise AttributeError(f"VectorToVecEnv: {self.env} has no attribute '{name}'.")

    def _chosen(self, indices: VecEnvIndices) -> list[int]:
        return [int(i) for i in self._get_indices(indices)]

    def _must_be_all(self, chosen: list[int], what: str) -> None:
        if sorted(chosen) != list(range(self.num_envs)):
            raise ValueError(
                f"VectorToVecEnv.{what}: all {self.num_envs} copies must be chosen, since {self.env} cannot tell them "
                f"apart here, but {chosen} are. Leave indices out."
            )

    def _take_ends(self, rows: list[dict[str, Any]], infos: Infos, ended: npt.NDArray[np.bool_]) -> None:
        """Sorts the infos of a same-step reset: of the starts into `reset_infos`, of the ends into `rows`."""
        last = infos.get("final_obs") if isinstance(infos, Mapping) else [row.get("final_obs") for row in infos]
        for i in np.flatnonzero(ended).tolist():
            start, end = rows[i], dict(rows[i].get("final_info", {}))
            for key in OF_THE_END:
                start.pop(key, None)
            for key in [key for key, value in start.items() if _is_of_the_step(key, value)]:
                end[key] = start.pop(key)
            end["terminal_observation"] = self._last_observation(last, i)
            self.reset_infos[i] = start
            rows[i] = end

    def _last_observation(self, last: Any, i: int) -> Any:
        observation = None if last is None else _row(last, i)
        received = "nothing" if observation is None else f"an observation of shape {np.shape(observation)}"
        if observation is not None:
            observation = _copied(self.observation_space, observation)
            if not isinstance(observation, np.ndarray) or observation.shape == self.observation_space.shape:
                return observation
        raise ValueError(
            f"VectorToVecEnv: infos['final_obs'] of {self.env} must have the last observation of a copy that was reset "
            f"in the same step, of {self.observation_space}, but has {received}. Let the wrapper that transforms "
            "observations transform final_obs, too."
        )


def rows_of(infos: Infos, n: int) -> list[dict[str, Any]]:
    """Splits the infos of a vector environment into one dict for each copy.

    Args:
        infos: arrays with an entry for each copy, or dicts of them; `_key` is a mask of the copies that have `key`. Or
            a dict for each copy already, as of `DictInfoToList`.
        n: copies.
    """
    if not isinstance(infos, Mapping):
        return [dict(row) for row in infos]
    rows: list[dict[str, Any]] = [{} for _ in range(n)]
    for key, values in infos.items():
        if key.startswith("_"):
            continue
        mask = infos.get(f"_{key}")
        entries = _entries(values, n)
        if mask is None or all(mask):
            for row, entry in zip(rows, entries, strict=True):
                row[key] = entry
        else:
            for i in np.flatnonzero(mask).tolist():
                rows[i][key] = entries[i]
    return rows


def _entries(values: Any, n: int) -> Sequence[Any]:
    """Returns the entry of each copy; a value that is not split by copies counts for each."""
    if isinstance(values, Mapping):
        return rows_of(values, n)
    if isinstance(values, np.ndarray) and len(values) == n:
        entries: list[Any] = values.tolist() if values.ndim == 1 else list(values)
        return entries
    return values if isinstance(values, Sequence) and len(values) == n else [values] * n


def _is_of_the_step(key: str, value: Any) -> bool:
    """Whether a wrapper of the vector environment wrote this into the infos: statistics of an episode, or `valid`."""
    return key == "valid" or (isinstance(value, Mapping) and set(value) >= STATISTICS)


def _equal(first: Any, second: Any, copies: npt.NDArray[np.bool_]) -> bool:
    """Whether two batches of observations are the same at these copies."""
    if isinstance(first, Mapping):
        return all(_equal(part, second[key], copies) for key, part in first.items())
    if isinstance(first, tuple):
        return all(_equal(*parts, copies) for parts in zip(first, second, strict=True))
    return np.array_equal(first[copies], second[copies], equal_nan=first.dtype.kind in "fc")


def _row(observations: Any, i: int) -> Any:
    """Returns the observation of copy i, from an array, or a dict or tuple of arrays."""
    if isinstance(observations, Mapping):
        return {key: part[i] for key, part in observations.items()}
    if isinstance(observations, tuple):
        return tuple(part[i] for part in observations)
    return observations[i]


def _copied(space: spaces.Space[Any], observations: Any) -> Any:
    """Returns one observation, or those of all copies, as new arrays in the dtypes of a space."""
    if isinstance(space, spaces.Dict):
        return {key: _copied(part, observations[key]) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_copied(part, each) for part, each in zip(space.spaces, observations, strict=True))
    return np.array(observations, space.dtype)
