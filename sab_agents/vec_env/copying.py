"""Lets wrappers of stable-baselines3 be copied and pickled."""

from __future__ import annotations

import copyreg
import inspect
from typing import Any

from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvWrapper

MEMBERS = "class_attributes"
"""Where a `VecEnvWrapper` keeps the members of its class, of which some, such as `__dict__`, cannot be pickled."""


def copyable(env: VecEnv) -> VecEnv:
    """Returns the same environment, whose wrappers can from now on be copied and pickled where what they wrap can be.

    Only classes with ways of their own, such as `VecNormalize`, which leaves out what it wraps, keep to them.
    """
    layer = env
    while isinstance(layer, VecEnvWrapper):
        if not hasattr(type(layer), "__setstate__"):
            copyreg.pickle(type(layer), _reduced)
        layer = layer.venv
    return env


def _reduced(wrapper: VecEnvWrapper) -> tuple[Any, ...]:
    return _rebuilt, (type(wrapper), {name: value for name, value in vars(wrapper).items() if name != MEMBERS})


def _rebuilt(kind: type[VecEnvWrapper], values: dict[str, Any]) -> VecEnvWrapper:
    # Whole at once: a wrapper without attributes looks for each one in its own members, and so on without end.
    wrapper = kind.__new__(kind)
    vars(wrapper).update(values, **{MEMBERS: dict(inspect.getmembers(kind))})
    return wrapper
