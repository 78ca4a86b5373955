"""Where the copies of an environment are in their episodes, so that a run resumes there bit-exactly."""

from __future__ import annotations

from typing import Any

from stable_baselines3.common.vec_env import VecEnv, VecMonitor

from sab_agents.envs.forms import DynamicsVectorEnv
from sab_agents.vec_env.vector import VectorToVecEnv

COUNTED = ("episode_returns", "episode_lengths")


def place_of(env: VecEnv) -> dict[str, Any] | None:
    """Returns the state of copies that `make_vec_env` made, and which have begun; None if they cannot tell it.

    Those of this library without wrappers can.

    Returns:
        Arrays, and values that JSON can hold, by name.
    """
    copies = _copies(env)
    if copies is None:
        return None
    counted = {name: getattr(env, name).copy() for name in COUNTED}
    return {**counted, **{f"copies.{name}": value for name, value in copies.state_dict().items()}}


def return_to(env: VecEnv, place: dict[str, Any]) -> None:
    """Brings copies of the same environment to the place of others: they continue bit-exactly.

    Args:
        env: for which `place_of` returns a state.
        place: what it returned.

    Raises:
        ValueError: it is that of other copies.
    """
    copies = _copies(env)
    assert copies is not None, "return_to: the environment has no place"
    env.reset()
    own = {name: value for name, value in place.items() if name.startswith("copies.")}
    copies.load_state_dict({name.removeprefix("copies."): value for name, value in own.items()})
    for name in COUNTED:
        getattr(env, name)[:] = place[name]


def _copies(env: VecEnv) -> DynamicsVectorEnv | None:
    if not isinstance(env, VecMonitor) or not isinstance(env.venv, VectorToVecEnv):
        return None
    return env.venv.env if isinstance(env.venv.env, DynamicsVectorEnv) else None
