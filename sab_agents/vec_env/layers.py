"""Which wrappers of a Gymnasium vector environment stay right when copies are reset one by one.

A wrapper of single environments that keeps statistics has one object for each copy. A wrapper of a vector environment
has one for all: it may mix the copies, or forget all of them when some are reset.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
from gymnasium.vector import AsyncVectorEnv, VectorEnv
from gymnasium.wrappers.vector import NormalizeObservation, NormalizeReward, RecordEpisodeStatistics

from sab_agents.envs.forms import DynamicsVectorEnv

AnyVectorEnv = VectorEnv[Any, Any, Any]

POOLING = (NormalizeObservation, NormalizeReward)
"""Wrappers of Gymnasium that mix the copies' statistics and clear all of them at each reset."""

# By name, since which of them exist depends on Gymnasium's release and on which packages are installed.
_STATELESS = frozenset(
    {
        *("VectorWrapper", "VectorObservationWrapper", "VectorActionWrapper", "VectorRewardWrapper"),
        *("VectorizeTransformObservation", "DictInfoToList", "RecordVideo", "HumanRendering", "ArrayConversion"),
    }
)
"""Classes of Gymnasium whose `reset` and `step` carry nothing from step to step that changes numbers."""


def layers_of(env: AnyVectorEnv) -> list[Any]:
    """Returns the wrappers of a vector environment from the outermost to the environment itself, the last."""
    layers: list[Any] = [env]
    while layers[-1] is not env.unwrapped:
        layers.append(layers[-1].env)
    return layers


def check_pooling(owner: str, env: AnyVectorEnv) -> None:
    """Checks that no wrapper mixes the statistics of the copies.

    Raises:
        ValueError: one does.
    """
    for layer in layers_of(env)[:-1]:
        if isinstance(layer, POOLING):
            name = type(layer).__name__
            mended = single_wrapped(env, f"gymnasium.wrappers.{name}")
            raise ValueError(
                f"{owner}: each copy must have statistics of its own, but {name} mixes those of all copies and forgets "
                f"them when one is reset. Leave it out, and wrap each copy: env = {mended}. Or pass "
                "stable_baselines3.common.vec_env.VecNormalize(sab_agents.VectorToVecEnv(env)) of the rest."
            )


def check_masked_resets(owner: str, env: AnyVectorEnv) -> None:
    """Checks that every wrapper leaves the copies alone that are not in `options["reset_mask"]`.

    A wrapper does if its `reset` and `step` are Gymnasium's own and carry nothing, or if its class says so by the
    attribute `honours_reset_mask = True`. RecordEpisodeStatistics does if what it wraps leaves the mask in the options.

    Raises:
        ValueError: one is not known to.
    """
    *wrappers, base = layers_of(env)
    counting = [layer for layer in wrappers if type(layer) is RecordEpisodeStatistics]
    mask_stays = isinstance(base, DynamicsVectorEnv) and len(counting) == 1  # which removes the mask
    for layer in wrappers:
        if type(layer) is RecordEpisodeStatistics:
            if not mask_stays:
                name = "RecordEpisodeStatistics"
                raise ValueError(
                    f"{owner}: {name} must count each copy by itself, but forgets all copies when one is reset in "
                    f"{env}. Leave it out, since VecMonitor counts as well, or wrap each copy: "
                    f"env = {single_wrapped(env, f'gymnasium.wrappers.{name}')}."
                )
        elif not _honours_masks(type(layer)):
            name = type(layer).__name__
            raise ValueError(
                f"{owner}: {name} must leave the copies as they are that options['reset_mask'] does not name, but is "
                "not known to. Wrap each copy before they are vectorised instead; or, if its reset and step treat each "
                "copy by itself, say so by honours_reset_mask = True in the class."
            )


def _honours_masks(wrapper: type) -> bool:
    if getattr(wrapper, "honours_reset_mask", False):
        return True
    defined_in = [next(each for each in wrapper.__mro__ if name in vars(each)) for name in ("reset", "step")]
    return all(each.__module__.startswith("gymnasium.") and each.__name__ in _STATELESS for each in defined_in)


def single_wrapped(env: AnyVectorEnv, wrapper: str | None = None, copies: int | None = None) -> str:
    """Returns Python code for the same copies as single environments.

    Args:
        env: the vector environment.
        wrapper: code of a wrapper for each copy.
        copies: how many; None for as many as there are.
    """
    n = env.num_envs if copies is None else copies
    spec = env.spec
    registered = None if spec is None else gym.registry.get(spec.id)
    if spec is None or registered is None or registered.entry_point is None:
        kind = "AsyncVectorEnv" if isinstance(env.unwrapped, AsyncVectorEnv) else "SyncVectorEnv"
        made = f"{wrapper}(make())" if wrapper else "make()"
        return f"gymnasium.vector.{kind}([lambda: {made}] * {n}), where make() returns a new single environment"
    arguments = dict(spec.kwargs)
    mode = "async" if arguments.get("vectorization_mode") == "async" else "sync"
    for name in ("num_envs", "vectorization_mode", "vector_kwargs", "autoreset_mode"):
        arguments.pop(name, None)
    if registered.max_episode_steps == arguments.get("max_episode_steps"):
        arguments.pop("max_episode_steps", None)
    inner: Sequence[Any] = arguments.pop("wrappers", ())
    wrappers = [*(["*wrappers"] if inner else []), *([wrapper] if wrapper else [])]
    settings = {"num_envs": n, "vectorization_mode": mode, **arguments}
    code = [repr(spec.id), *(f"{name}={value!r}" for name, value in settings.items())]
    if wrappers:
        code.append(f"wrappers=[{', '.join(wrappers)}]")
    return f"gymnasium.make_vec({', '.join(code)})"
