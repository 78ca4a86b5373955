"""Everything of a RecurrentPPO that learning changes, as JSON facts and tensors."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from stable_baselines3.common.distributions import StateDependentNoiseDistribution
from torch import Tensor
from torch.optim import Optimizer

from sab_agents.checkpoint.archive import part
from sab_agents.checkpoint.plain import from_plain, to_plain

if TYPE_CHECKING:
    from sab_agents.ppo.saving import SavedAlgorithm

COUNTS = (
    *("num_timesteps", "_total_timesteps", "_num_timesteps_at_start", "_episode_num", "_n_updates"),
    *("_current_progress_remaining", "skipped_updates"),
)
BUFFERS = ("ep_info_buffer", "ep_success_buffer")
PLACE = ("_last_obs", "_last_episode_starts")
_NOISE = ("exploration_mat", "exploration_matrices")


def snapshot(model: SavedAlgorithm, names: Collection[str]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Facts and tensors: of the attributes above those that `names` has, and all else that `restore` needs."""
    optimizer, numbers = optimizer_to_plain(model.policy.optimizer)
    facts: dict[str, Any] = {
        "n_envs": model.n_envs,
        "counts": {name: to_plain(getattr(model, name)) for name in COUNTS if name in names},
        "buffers": {name: _buffer(getattr(model, name)) for name in BUFFERS if name in names},
        "optimizer": optimizer,
    }
    tensors = {f"policy.{name}": value for name, value in model.policy.state_dict().items()}
    tensors |= {f"optimizer.{name}": value for name, value in numbers.items()}
    tensors |= {f"memory.{name}": value for name, value in model.collector.carried().items()}
    noise = model.policy.action_dist
    if isinstance(noise, StateDependentNoiseDistribution):
        tensors |= {f"noise.{name}": getattr(noise, name) for name in _NOISE}
    if model._last_obs is not None and set(PLACE) <= set(names):
        if isinstance(model._last_obs, dict):
            tensors |= {f"last_obs.{name}": _tensor(array) for name, array in model._last_obs.items()}
        else:
            tensors["last_obs"] = _tensor(model._last_obs)
        tensors["last_episode_starts"] = _tensor(model._last_episode_starts)
    facts["random"], states = _random_states(model.device)
    return facts, tensors | {f"random.{name}": value for name, value in states.items()}


def restore(model: SavedAlgorithm, facts: dict[str, Any], tensors: dict[str, Tensor], *, same_place: bool) -> None:
    """Puts what `snapshot` gave into an algorithm that was built with the same arguments and spaces.

    Args:
        model: to be filled.
        facts: of `snapshot`.
        tensors: of `snapshot`.
        same_place: it goes on where the saved one stood: takes back the random states of Python, numpy and torch too.

    Raises:
        ValueError: the policy or its optimiser is another.
    """
    try:
        model.policy.load_state_dict(part(tensors, "policy."))
        model.policy.optimizer.load_state_dict(optimizer_state(facts["optimizer"], part(tensors, "optimizer.")))
    except (RuntimeError, KeyError) as error:
        raise ValueError(
            f"load: the policy must be the one that was saved, but has other parameters ({error}). Pass the policy and "
            "policy_kwargs that it was saved with."
        ) from error
    if model.n_envs == facts["n_envs"]:
        _restore_place(model, tensors)
    noise = model.policy.action_dist
    for name, value in part(tensors, "noise.").items():
        setattr(noise, name, value.to(model.device))
    for name in COUNTS:
        if name in facts["counts"]:
            setattr(model, name, facts["counts"][name])
    for name in BUFFERS:
        if facts["buffers"].get(name) is not None:
            entries = from_plain(facts["buffers"][name], name, name)
            setattr(model, name, deque(entries, maxlen=model._stats_window_size))
    if same_place:
        _restore_random(model.device, facts["random"], part(tensors, "random."))


def _restore_place(model: SavedAlgorithm, tensors: dict[str, Tensor]) -> None:
    """The memory, and where the environments stood; both only have a meaning for as many of them."""
    kept_on_cpu = ("generator", "acting")
    carried = part(tensors, "memory.")
    model.collector.restore(
        {name: value if name.endswith(kept_on_cpu) else value.to(model.device) for name, value in carried.items()}
    )
    if "last_episode_starts" in tensors:
        rows = {name: value.numpy() for name, value in part(tensors, "last_obs.").items()}
        model._last_obs = rows or tensors["last_obs"].numpy()
        model._last_episode_starts = tensors["last_episode_starts"].numpy()


def optimizer_to_plain(optimizer: Optimizer) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """An optimiser's settings and numbers, and its tensors by parameter's index and name."""
    state = optimizer.state_dict()
    facts: dict[str, Any] = {"groups": to_plain(state["param_groups"]), "state": {}}
    tensors: dict[str, Tensor] = {}
    for index, entries in state["state"].items():
        numbers = {name: to_plain(value) for name, value in entries.items() if not isinstance(value, Tensor)}
        facts["state"][str(index)] = numbers
        tensors |= {f"{index}.{name}": value for name, value in entries.items() if isinstance(value, Tensor)}
    return facts, tensors


def optimizer_state(facts: dict[str, Any], tensors: dict[str, Tensor]) -> dict[str, Any]:
    """What `Optimizer.load_state_dict` takes, of what `optimizer_to_plain` gave."""
    groups = from_plain(facts["groups"], "policy.optimizer", "policy_kwargs")
    state = {
        int(index): {name: from_plain(value, "policy.optimizer", "policy_kwargs") for name, value in numbers.items()}
        for index, numbers in facts["state"].items()
    }
    for name, value in tensors.items():
        index, key = name.split(".", 1)
        state[int(index)][key] = value
    return {"state": state, "param_groups": groups}


def _buffer(entries: deque[Any] | None) -> list[Any] | None:
    """Facts of the last episodes, without what JSON cannot hold."""
    if entries is None:
        return None
    simple = bool | int | float | str | np.generic
    return [
        to_plain({name: value for name, value in entry.items() if isinstance(value, simple)})
        if isinstance(entry, dict)
        else float(entry)
        for entry in entries
    ]


def _tensor(array: Any) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


def _random_states(device: torch.device) -> tuple[dict[str, Any], dict[str, Tensor]]:
    version, numbers, gauss = random.getstate()
    name, keys, *rest = np.random.get_state(legacy=True)
    states = {"python": torch.tensor(numbers), "numpy": _tensor(np.asarray(keys, dtype=np.int64))}
    states["torch"] = torch.get_rng_state()
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return {"python": [version, gauss], "numpy": [name, *rest]}, states


def _restore_random(device: torch.device, facts: dict[str, Any], states: dict[str, Tensor]) -> None:
    version, gauss = facts["python"]
    random.setstate((version, tuple(states["python"].tolist()), gauss))
    name, *rest = facts["numpy"]
    np.random.set_state((name, states["numpy"].numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if "cuda" in states and device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
