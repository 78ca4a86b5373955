"""Which environments an agent can use: checks of their kind and their spaces, and what to type for others."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import VectorEnv
from stable_baselines3.common.vec_env import VecEnv

from sab_agents.checks import did_you_mean
from sab_agents.vec_env.layers import single_wrapped

Space = spaces.Space[Any]
DUMMY = "stable_baselines3.common.vec_env.DummyVecEnv"
NUMBERS = "biuf"
LARGEST = 10_000  # choices of one Discrete action that stands for several


@dataclass(frozen=True)
class Usable:
    """What an agent can use.

    Attributes:
        dicts: whether observations may be dicts, of spaces that are not nested.
        actions: kinds of action spaces.
        flat: whether a Box of observations must have axes, and a MultiDiscrete only one, as stable-baselines3 needs.
    """

    dicts: bool
    actions: tuple[type[Space], ...]
    flat: bool


FOR_PPO = Usable(dicts=True, actions=(spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary), flat=True)
FOR_STREAMS = Usable(dicts=False, actions=(spaces.Discrete, spaces.Box), flat=False)


def check_id(owner: str, env_id: str) -> None:
    """Checks that Gymnasium knows an environment of this id.

    Raises:
        ValueError: there is none.
    """
    try:
        gym.spec(env_id)
    except (gym.error.Error, ModuleNotFoundError) as error:
        raise ValueError(
            f"{owner}: env must be a registered id, but is '{env_id}'. {did_you_mean(env_id, gym.registry)} Ids of "
            "other packages are registered once they are imported."
        ) from error


def check_environment(owner: str, env: Any) -> None:
    """Checks that this is an environment of any kind.

    Raises:
        TypeError: it is something else.
    """
    # What only looks like an environment may be one of Gym, which stable-baselines3 converts.
    if isinstance(env, gym.Env | VecEnv | VectorEnv) or (hasattr(env, "step") and not isinstance(env, type)):
        return
    if callable(env):
        remedy = "Pass what it returns: env = env()."
    elif isinstance(env, EnvSpec):
        remedy = "Pass env = gymnasium.make(env)."
    elif isinstance(env, Sequence) and env:
        makers = "env" if callable(env[0]) else "[lambda each=each: each for each in env]"
        remedy = f"Pass env = {DUMMY}({makers})."
    else:
        remedy = "Pass gymnasium.make(id), or the id."
    kinds = "an environment or its id, a VecEnv, or a Gymnasium vector environment"
    raise TypeError(f"{owner}: env must be {kinds}, but is {env!r}. {remedy}")


def check_vec_env(owner: str, env: Any) -> None:
    """Checks that this is a VecEnv of stable-baselines3.

    Raises:
        TypeError: it is something else.
    """
    if isinstance(env, VecEnv):
        return
    if isinstance(env, VectorEnv):
        remedy = "Pass env = sab_agents.VectorToVecEnv(env)."
    elif isinstance(env, gym.Env):
        remedy = f"Pass env = {DUMMY}([lambda: env])."
    else:
        remedy = f"Pass {DUMMY}([lambda: gymnasium.make(id)])."
    raise TypeError(f"{owner}: env must be a VecEnv of stable-baselines3, but is {env!r}. {remedy}")


def check_vector_env(owner: str, env: Any) -> None:
    """Checks that this is a vector environment of Gymnasium.

    Raises:
        TypeError: it is something else.
    """
    if isinstance(env, VectorEnv):
        return
    if isinstance(env, VecEnv):
        remedy = f"It is a VecEnv already, which needs no {owner}: use it as it is."
    elif isinstance(env, gym.Env):
        remedy = f"Use env = {DUMMY}([lambda: env]) in place of {owner}(env)."
    else:
        remedy = "Pass gymnasium.make_vec(id, num_envs=n)."
    raise TypeError(f"{owner}: env must be a Gymnasium vector environment, but is {env!r}. {remedy}")


def check_spaces(owner: str, env: Any, usable: Usable, code: str = "env") -> None:
    """Checks the spaces of an environment, a VecEnv or a vector environment.

    Args:
        owner: who asks, for an error.
        env: the environment.
        usable: the spaces that `owner` can use.
        code: Python code that is the environment, for what to type.

    Raises:
        TypeError: one of them is not usable.
    """
    if isinstance(env, VectorEnv):
        observation, action = env.single_observation_space, env.single_action_space
    else:
        observation, action = env.observation_space, env.action_space
    if not _observable(observation, usable):
        kinds = "arrays of numbers" + (", or dicts of these" if usable.dicts else "")
        remedy, note = _observation_remedy(observation, code)
        note += ", with an Mlp policy" if usable.dicts else ""
        raise TypeError(
            f"{owner}: observations must be {kinds}, but are of {_in_one_line(observation)}. "
            f"{_wrapped(env, remedy, code)}{note}."
        )
    if not _possible(action, usable):
        kinds = ", ".join(kind.__name__ for kind in usable.actions)
        axes = ", with one axis" if usable.flat and isinstance(action, usable.actions) else ""
        remedy, note = _action_remedy(action, usable, code)
        raise TypeError(
            f"{owner}: actions must be of one of {kinds}{axes}, but are of {_in_one_line(action)}. "
            f"{_wrapped(env, remedy, code)}{note}."
        )


def _wrapped(env: Any, remedy: str, code: str) -> str:
    """Returns what to do with code that wraps a single environment, `code`."""
    if isinstance(env, VectorEnv):
        return f"Wrap each copy: env = {single_wrapped(env, f'(lambda {code}: {remedy})')}"
    return f"Wrap {'each environment before' if isinstance(env, VecEnv) else 'it'}: env = {remedy}"


def check_observation(owner: str, space: Space, observation: Any) -> None:
    """Checks that what is passed as an observation, or as a batch of them, is of the space's kind.

    Shapes are left to the caller.

    Raises:
        TypeError: it is a dict where the space is none or the other way round, or no numbers.
        ValueError: it is what `reset` or `step` returned, or a dict has other keys than the space.
    """
    if type(observation) is np.ndarray and observation.dtype.kind in NUMBERS and not isinstance(space, spaces.Dict):
        return  # at once, since this is called at every step
    keys = list(space.spaces) if isinstance(space, spaces.Dict) else None
    kind = f"an array of shape {space.shape}, or n of them" if keys is None else f"a dict with {', '.join(keys)}"
    rule = f"{owner}: observation must be {kind}, but"
    if isinstance(observation, tuple) and observation and _are_infos(observation[-1]):
        raise ValueError(
            f"{rule} is a tuple of {len(observation)}, as reset or step of an environment returns; a VecEnv's return "
            "arrays, and this is mixing Gym API and VecEnv API. Pass the observation alone, its first entry: "
            "observation, info = env.reset()."
        )
    if isinstance(observation, Mapping):
        if keys is None:
            raise TypeError(f"{rule} is a dict with {', '.join(map(str, observation))}. Pass one of its entries.")
        if set(observation) != set(keys):
            raise ValueError(f"{rule} has {', '.join(map(str, observation))}. Pass these keys and no others.")
        for part in observation.values():
            _check_numbers(rule, part)
    elif keys is not None:
        raise TypeError(f"{rule} is a {type(observation).__name__}. Pass what the environment returned.")
    else:
        _check_numbers(rule, observation)


def _are_infos(value: Any) -> bool:
    return isinstance(value, Mapping) or (isinstance(value, list) and bool(value) and isinstance(value[0], Mapping))


def _check_numbers(rule: str, value: Any) -> None:
    try:
        dtype = value.dtype if isinstance(value, np.ndarray) else np.asarray(value).dtype
    except ValueError:  # lists of unequal lengths
        dtype = np.dtype(object)
    if dtype.kind not in NUMBERS:
        raise TypeError(f"{rule} is {value!r}, which are no numbers. Pass what the environment returned.")


def _in_one_line(space: Space) -> str:
    return " ".join(str(space).split())


def _observable(space: Space, usable: Usable) -> bool:
    if isinstance(space, spaces.Dict):
        return usable.dicts and all(_is_array(part, usable) for part in space.spaces.values())
    return _is_array(space, usable)


def _is_array(space: Space, usable: Usable) -> bool:
    if isinstance(space, spaces.Box):
        return bool(space.shape) or not usable.flat
    if isinstance(space, spaces.MultiDiscrete):
        return space.nvec.ndim == 1 or not usable.flat
    return isinstance(space, spaces.Discrete | spaces.MultiBinary)


def _possible(space: Space, usable: Usable) -> bool:
    if not isinstance(space, usable.actions):
        return False
    several = isinstance(space, spaces.MultiDiscrete | spaces.MultiBinary)
    return not (several and len(space.shape or ()) != 1)


def _observation_remedy(space: Space, env: str) -> tuple[str, str]:
    """Returns code that wraps the environment whose code is `env`, and what is to be said about it."""
    if _flattens(space):
        return f"gymnasium.wrappers.FlattenObservation({env})", ""
    if isinstance(space, spaces.Dict) and (kept := [name for name, part in space.spaces.items() if _flattens(part)]):
        return f"gymnasium.wrappers.FlattenObservation(gymnasium.wrappers.FilterObservation({env}, {kept}))", ""
    return (
        f"gymnasium.wrappers.TransformObservation({env}, function, space)",
        ", where function makes an array of space, a gymnasium.spaces.Box, of an observation",
    )


def _flattens(space: Space) -> bool:
    try:
        return isinstance(spaces.flatten_space(space), spaces.Box)
    except NotImplementedError:
        return False


def _action_remedy(space: Space, usable: Usable, env: str) -> tuple[str, str]:
    """Returns code that wraps the environment whose code is `env`, and what is to be said about it."""
    made = _action_function(space, usable)
    if made is not None:
        function, replaced = made
        return f"gymnasium.wrappers.TransformAction({env}, lambda action: {function}, {replaced})", ""
    return (
        f"gymnasium.wrappers.TransformAction({env}, function, space)",
        ", where function makes an action of the environment of one of space, which is one of these kinds",
    )


def _action_function(space: Space, usable: Usable) -> tuple[str, str] | None:
    """Returns code that makes an action of `space` of the usable `action`, and code for the space of that."""
    if not isinstance(space, spaces.MultiDiscrete | spaces.MultiBinary):
        return None
    shape, start = tuple(int(size) for size in space.shape or ()), ""
    if isinstance(space, spaces.MultiDiscrete):
        choices = space.nvec.ravel().tolist()
        replaced = f"gymnasium.spaces.MultiDiscrete({choices})"
        start = f" + numpy.array({space.start.tolist()})" if space.start.any() else ""
    else:
        choices = [2] * math.prod(shape)
        replaced = f"gymnasium.spaces.MultiBinary({len(choices)})"
    if type(space) in usable.actions:
        parts = "action"
    elif math.prod(choices) <= LARGEST:
        parts = f"numpy.array(numpy.unravel_index(action, {choices}))"
        replaced = f"gymnasium.spaces.Discrete({math.prod(choices)})"
    else:
        return None
    return f"({parts}.reshape({', '.join(map(str, shape))}){start}).astype('{space.dtype}')", replaced
