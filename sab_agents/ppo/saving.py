"""RecurrentPPO in archives of safetensors and JSON: what a file holds, and how an algorithm is built of it."""

from __future__ import annotations

import platform
import random
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import stable_baselines3
import torch
from stable_baselines3.common.distributions import StateDependentNoiseDistribution
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.utils import check_for_correct_spaces
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from sab_agents.checkpoint import archive
from sab_agents.checkpoint.archive import CONTEXTS, left_out, under, within
from sab_agents.checkpoint.settings import agrees, from_json, to_json
from sab_agents.core.recipes import DEFAULT
from sab_agents.distributed import Ranks
from sab_agents.ppo.collector import Collector
from sab_agents.ppo.compression import compressed, expanded
from sab_agents.ppo.cores import former_core_kwargs
from sab_agents.ppo.policies import SPACES, RecurrentActorCriticPolicy
from sab_agents.vec_env.copying import copyable
from sab_agents.vec_env.make import as_vec_env
from sab_agents.vec_env.usable import FOR_PPO

KIND = "recurrent-ppo"
"""What the archive of an algorithm is called."""
# The constructor's arguments, and the attributes that hold them.
ATTRIBUTES = {
    "policy": "policy_class",
    "stats_window_size": "_stats_window_size",
    **{
        name: name
        for name in (
            *("learning_rate", "n_steps", "batch_size", "n_epochs", "gamma", "gae_lambda", "clip_range"),
            *("clip_range_vf", "normalize_advantage", "ent_coef", "vf_coef", "max_grad_norm", "use_sde"),
            *("sde_sample_freq", "target_kl", "tensorboard_log", "policy_kwargs", "verbose", "seed"),
            "observe_previous",
        )
    },
}
ARGUMENTS = {attribute: argument for argument, attribute in ATTRIBUTES.items()}
COUNTS = (
    *("num_timesteps", "_total_timesteps", "_num_timesteps_at_start", "_episode_num", "_n_updates"),
    *("_current_progress_remaining", "skipped_updates"),
)
BUFFERS = ("ep_info_buffer", "ep_success_buffer")
PLACE = ("_last_obs", "_last_episode_starts")
NAMES = frozenset({*ATTRIBUTES, *ARGUMENTS, *COUNTS, *BUFFERS, *PLACE, CONTEXTS})
NOISE = ("exploration_mat", "exploration_matrices")


class SavedAlgorithm(OnPolicyAlgorithm):
    """What `RecurrentPPO` adds to stable-baselines3's base class in order to be saved without code."""

    policy_aliases: ClassVar[Mapping[str, type[BasePolicy]]]  # type: ignore[assignment]
    policy: RecurrentActorCriticPolicy
    collector: Collector
    skipped_updates: int
    ranks: Ranks

    def seed_of_rank(self, seed: int) -> int:
        """Returns the seed of this process, whose environments follow those of the ranks before."""
        return seed + self.ranks.rank * self.n_envs

    @staticmethod
    def _wrap_env(env: Any, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        return copyable(OnPolicyAlgorithm._wrap_env(env, verbose, monitor_wrapper))

    def save(
        self, path: archive.Target, exclude: Iterable[str] | None = None, include: Iterable[str] | None = None
    ) -> None:
        """Writes everything that `learn` needs to resume, but for the environment, which is the caller's.

        The file holds safetensors and JSON, and no code. Classes of torch.nn, torch.optim and stable-baselines3's
        torch_layers, and its schedules, are kept by name; others, such as an extractor of your own or a function for
        the learning rate, must be passed to `load` again. An older file is replaced in one step.

        Learning resumes bit-exactly from a file that was saved between rollouts (outside of `learn`). From one that a
        callback saves inside a rollout it resumes at that step, without learning from the rollout's steps before it.

        Of ranks that learn together each writes a file, since each has environments, a memory and random states of its
        own: agent.zip is rank 0's, agent.rank1.zip beside it that of rank 1, and so on.

        Args:
            path: `.zip` is added to a name without suffix; or a file that is open for writing bytes, each rank's own.
            exclude: names of arguments, counts and buffers to leave out; `load` takes the defaults in their place.
                "contexts" leaves out the observations from which a memory with slots is credited, most of the file of
                an agent that sees images. After `load` that memory is read as before, but gradient that reaches it goes
                no farther, until its slots are written again.
            include: names to keep although they are in `exclude`.

        Raises:
            ValueError: `include` names what a file does not hold.
        """
        parts = "arguments, counts or buffers of the algorithm"
        names = NAMES - left_out(type(self).__name__, NAMES, parts, exclude, include)
        arguments = {
            argument: to_json(self._policy_name() if argument == "policy" else getattr(self, attribute))
            for argument, attribute in ATTRIBUTES.items()
            if {argument, attribute} <= names
        }
        spaces = {name: to_json(getattr(self, name)) for name in SPACES}
        frozen = archive.frozen(self.policy.named_parameters())
        archive.save(
            file_of_rank(path, self.ranks.rank) if isinstance(path, str | Path) else path,
            KIND,
            {"arguments": arguments, "recipe": DEFAULT, **spaces, "versions": _versions(), "frozen": frozen},
            self.state_dict(names),
        )

    @classmethod
    def load(
        cls,
        path: archive.Target,
        env: Any = None,
        device: torch.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        **changes: Any,
    ) -> Self:
        """Returns the algorithm that `save` wrote; on other ranks than 0, from their own file if they wrote one.

        Args:
            path: as for `save`.
            env: to continue learning in, with the same spaces; None to act only, or to use `set_env` later.
            device: of the parameters.
            custom_objects: values that replace the file's, by attribute; names that it does not hold are ignored.
            print_system_info: print the versions of what wrote the file, and of what reads it.
            force_reset: `learn` starts new episodes. False resumes bit-exactly, random states included, in an
                environment, as `get_env` returns it, that is where the saved one was; call `learn(…,
                reset_num_timesteps=False)` then.
            changes: arguments that are to differ from the saved ones, or that the file could not hold.

        Raises:
            FileNotFoundError: there is no such file, or none of this rank to resume from bit-exactly.
            TypeError: `env` is no environment, or an argument is unknown.
            ValueError: the file is damaged or not ours; `env` has other spaces; something must be passed again; or
                `policy_kwargs` differ from the saved ones.
        """
        rank = Ranks.join(device).rank
        if rank and isinstance(path, str | Path):
            own = file_of_rank(path, rank)
            path = own if own.exists() or not force_reset else path
        settings, state = _loaded(path)
        if print_system_info:
            print(f"Saved with: {settings['versions']}\nLoaded with: {_versions()}")
        arguments = _arguments(settings["arguments"], custom_objects or {}, changes)
        if "recipe" not in settings:
            arguments = cls._of_former(arguments)
        spaces = [from_json(settings[name], name) for name in SPACES]
        wrapped = None
        if env is not None:
            previous = arguments.get("observe_previous", False)
            vectorised = as_vec_env(env, f"{cls.__name__}.load", FOR_PPO, observe_previous=previous)
            wrapped = cls._wrap_env(vectorised, arguments.get("verbose", 0))
            check_for_correct_spaces(wrapped, *spaces)
            if not force_reset and wrapped.num_envs != state["n_envs"]:
                raise ValueError(
                    f"{cls.__name__}.load: env must be as it was to resume in it, but has {wrapped.num_envs} copies in "
                    f"place of {state['n_envs']}. Pass force_reset=True to begin new episodes."
                )
        model = cls(**arguments, env=None, device=device, _init_setup_model=False)  # type: ignore[arg-type]
        model.observation_space, model.action_space = spaces
        model.n_envs = state["n_envs"] if wrapped is None else wrapped.num_envs
        model._setup_model()
        archive.freeze(model.policy.named_parameters(), settings.get("frozen", ()))
        model.load_state_dict(state, same_place=not force_reset)
        if wrapped is not None:
            model.set_env(wrapped, force_reset=force_reset)
            if force_reset and model.seed is not None:
                wrapped.seed(model.seed_of_rank(model.seed))
        return model

    @classmethod
    def _of_former(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        """Returns the arguments of a file that was written before there were recipes."""
        policy = arguments["policy"]
        kind: Any = cls.policy_aliases[policy] if isinstance(policy, str) else policy
        of_policy = dict(arguments.get("policy_kwargs") or {})
        core = {**(of_policy.get("lstm_kwargs") or {}), **(of_policy.get("core_kwargs") or {})}
        of_policy["core_kwargs"] = former_core_kwargs(kind.spec, core)
        return {**arguments, "policy_kwargs": of_policy}

    def state_dict(self, names: Collection[str] = NAMES) -> dict[str, Any]:
        """Returns everything that learning changes: tensors, and values that JSON can hold, by name.

        Args:
            names: which counts and buffers to keep, and whether to keep where the environments are.
        """
        state: dict[str, Any] = {
            "n_envs": self.n_envs,
            **under("policy", self.policy.distinct_parameters()),
            **under("optimizer", _flat_optimizer(self.policy.optimizer.state_dict())),
            **under("memory", _compressed_contexts(self.collector.state_dict(contexts=CONTEXTS in names))),
            **under("count", {name: to_json(getattr(self, name)) for name in COUNTS if name in names}),
            **under("buffer", {name: _entries(getattr(self, name)) for name in BUFFERS if name in names}),
            **under("random", _random_states(self.device)),
        }
        if isinstance(noise := self.policy.action_dist, StateDependentNoiseDistribution):
            state |= under("noise", {name: getattr(noise, name) for name in NOISE})
        if self._last_obs is not None and set(PLACE) <= set(names):
            if isinstance(self._last_obs, dict):
                state |= under("last_obs", {name: _tensor(array) for name, array in self._last_obs.items()})
            else:
                state["last_obs"] = _tensor(self._last_obs)
            state["last_episode_starts"] = _tensor(self._last_episode_starts)
        return state

    def load_state_dict(self, state: dict[str, Any], *, same_place: bool = False) -> None:
        """Takes back what `state_dict` returned of an algorithm with the same arguments and spaces.

        The memory and the environments' place are only taken back for the same number of environments.

        Args:
            state: what it returned.
            same_place: resume where the saved algorithm was: take back the random states of Python, numpy and torch.

        Raises:
            ValueError: the policy or its optimiser is another.
        """
        try:
            self.policy.load_state_dict(within("policy", state))
            self.policy.optimizer.load_state_dict(_nested_optimizer(within("optimizer", state)))
        except (RuntimeError, KeyError) as error:
            raise ValueError(
                f"load: the policy must be the one that was saved, but has other parameters ({error}). Pass the policy "
                "and policy_kwargs that it was saved with."
            ) from error
        if self.n_envs == state["n_envs"]:
            self.collector.load_state_dict(expanded(within("memory", state)))
            if "last_episode_starts" in state:
                rows = {name: value.numpy() for name, value in within("last_obs", state).items()}
                self._last_obs = rows or state["last_obs"].numpy()
                self._last_episode_starts = state["last_episode_starts"].numpy()
        for name, value in within("noise", state).items():
            setattr(self.policy.action_dist, name, value.to(self.device))
        for name, value in within("count", state).items():
            setattr(self, name, value)
        for name, entries in within("buffer", state).items():
            if entries is not None:
                setattr(self, name, deque(from_json(entries, name), maxlen=self._stats_window_size))
        if same_place:
            _set_random_states(self.device, within("random", state))

    def set_parameters(
        self, load_path_or_dict: Any, exact_match: bool = True, device: torch.device | str = "auto"
    ) -> None:
        """Takes over the parameters of a file that `save` wrote, or of a dict as `get_parameters` returns it.

        Args:
            load_path_or_dict: the path, the file, or the dict.
            exact_match: all parameters must be there.
            device: accepted for stable-baselines3's sake; parameters stay on the algorithm's device.

        Raises:
            RuntimeError: parameters are missing, or have other shapes.
            ValueError: an object's name is unknown or missing, or the file is not ours.
        """
        if not isinstance(load_path_or_dict, dict):
            _, state = _loaded(load_path_or_dict)
            optimizer = _nested_optimizer(within("optimizer", state))
            load_path_or_dict = {"policy": within("policy", state), "policy.optimizer": optimizer}
        super().set_parameters(load_path_or_dict, exact_match, device)

    def _policy_name(self) -> Any:
        """Returns the policy's name, or the class if it has none."""
        names = (name for name, known in self.policy_aliases.items() if known is self.policy_class)
        return next(names, self.policy_class)


def file_of_rank(path: str | Path, rank: int) -> Path:
    """Returns the file of a rank, which is beside that of rank 0."""
    of_main = archive.with_suffix(path)
    return of_main.with_name(f"{of_main.stem}.rank{rank}{of_main.suffix}") if rank else of_main


def _compressed_contexts(memory: dict[str, Any]) -> dict[str, Any]:
    """Returns what a collector carries, with contexts and observations compressed."""
    large = {name: memory[name] for name in memory if ".contexts." in name or name.startswith("frames.")}
    return {**{name: value for name, value in memory.items() if name not in large}, **compressed(large)}


def _arguments(saved: dict[str, Any], replaced: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Returns the constructor's arguments: those of the file, unless others replace them."""
    if "policy_kwargs" in changes:
        passed = to_json(changes["policy_kwargs"] or {})
        if not agrees(saved.get("policy_kwargs", passed), passed):
            raise ValueError(
                f"load: policy_kwargs must be those that were saved, {saved['policy_kwargs']['items']}, but are "
                f"{passed['items']}. Pass the same, or none."
            )
    named = {ARGUMENTS[name]: value for name, value in replaced.items() if name in ARGUMENTS}
    named |= {name: value for name, value in replaced.items() if name in ATTRIBUTES}
    passed = named | changes
    if "policy" not in passed and "policy" not in saved:
        raise ValueError("load: policy must be passed, since the file was saved without it. Call load(…, policy=…).")
    kept = {name: from_json(value, name, name) for name, value in saved.items() if name not in passed}
    return kept | passed


def _loaded(path: archive.Target) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the settings and the state of a file; names of earlier versions are translated."""
    settings, state = archive.load(path, KIND)
    if "counts" not in settings:
        return settings, state
    optimizer = {"groups": settings["optimizer"]["groups"]}
    for index, entries in settings["optimizer"]["state"].items():
        optimizer |= under(index, entries)
    translated = {
        "n_envs": settings["n_envs"],
        **under("count", settings["counts"]),
        **under("buffer", settings["buffers"]),
        **under("optimizer", optimizer),
        **under("random", {f"{name}_rest": rest for name, rest in settings["random"].items()}),
    }
    return settings, {**translated, **state}


def _flat_optimizer(state: dict[str, Any]) -> dict[str, Any]:
    """Returns the state of an optimiser with the entries of each parameter under its index."""
    flat: dict[str, Any] = {"groups": to_json(state["param_groups"])}
    for index, entries in state["state"].items():
        flat |= under(str(index), {k: v if isinstance(v, Tensor) else to_json(v) for k, v in entries.items()})
    return flat


def _nested_optimizer(flat: dict[str, Any]) -> dict[str, Any]:
    """Returns the state of which `_flat_optimizer` was taken."""
    where, argument = "policy.optimizer", "policy_kwargs"
    state: dict[int, dict[str, Any]] = {}
    for name, value in flat.items():
        index, _, key = name.partition(".")
        if key:
            entries = state.setdefault(int(index), {})
            entries[key] = value if isinstance(value, Tensor) else from_json(value, where, argument)
    return {"state": state, "param_groups": from_json(flat["groups"], where, argument)}


def _entries(buffer: deque[Any] | None) -> list[Any] | None:
    """Returns the facts of the last episodes, without what JSON cannot hold."""
    if buffer is None:
        return None
    simple = bool | int | float | str | np.generic
    return [
        to_json({name: value for name, value in entry.items() if isinstance(value, simple)})
        if isinstance(entry, dict)
        else float(entry)
        for entry in buffer
    ]


def _tensor(array: Any) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


def _random_states(device: torch.device) -> dict[str, Any]:
    """Returns the states of the global random generators of Python, numpy and torch."""
    version, numbers, gauss = random.getstate()
    name, keys, *rest = np.random.get_state(legacy=True)
    states: dict[str, Any] = {
        "python": torch.tensor(numbers),
        "python_rest": [version, gauss],
        "numpy": _tensor(np.asarray(keys, dtype=np.int64)),
        "numpy_rest": [name, *rest],
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def _set_random_states(device: torch.device, states: dict[str, Any]) -> None:
    version, gauss = states["python_rest"]
    random.setstate((version, tuple(states["python"].tolist()), gauss))
    name, *rest = states["numpy_rest"]
    np.random.set_state((name, states["numpy"].numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if "cuda" in states and device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)


def _versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "stable-baselines3": stable_baselines3.__version__,
        "numpy": np.__version__,
    }
