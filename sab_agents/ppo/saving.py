"""RecurrentPPO in files: safetensors and JSON, so that loading one never runs code."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from typing import Any, ClassVar, Self

import numpy as np
import stable_baselines3
import torch
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.utils import check_for_correct_spaces

from sab_agents.checkpoint.archive import Target, part, read_agent, space_from_json, space_to_json, write_agent
from sab_agents.checkpoint.plain import agrees, from_plain, to_plain
from sab_agents.ppo.collector import Collector
from sab_agents.ppo.policies import RecurrentActorCriticPolicy
from sab_agents.ppo.snapshot import BUFFERS, COUNTS, PLACE, optimizer_state, restore, snapshot
from sab_agents.vec_env.make import as_vec_env

KIND = "recurrent-ppo"
# The constructor's arguments, and the attributes that hold them.
_ATTRIBUTES = {
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
_ARGUMENTS = {attribute: argument for argument, attribute in _ATTRIBUTES.items()}
_NAMES = frozenset({*_ATTRIBUTES, *_ARGUMENTS, *COUNTS, *BUFFERS, *PLACE})


class SavedAlgorithm(OnPolicyAlgorithm):
    """What `RecurrentPPO` adds to stable-baselines3's base class in order to be saved without code."""

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]]
    policy: RecurrentActorCriticPolicy
    collector: Collector
    skipped_updates: int

    def save(self, path: Target, exclude: Iterable[str] | None = None, include: Iterable[str] | None = None) -> None:
        """Writes everything that `learn` needs to go on, but for the environment, which is the caller's.

        The file holds safetensors and JSON, and no code. Classes of torch.nn, torch.optim and stable-baselines3's
        torch_layers, and its schedules, are kept by name; others, such as an extractor of your own or a function for
        the learning rate, must be passed to `load` again. An older file is replaced in one step.

        A file that is saved between rollouts (outside of `learn`) goes on to the bit. One that a callback saves inside
        a rollout goes on from that step, without learning from the rollout's steps before it.

        Args:
            path: .zip is added where it has no suffix; or a file that is open for writing bytes.
            exclude: names of arguments, counts and buffers to leave out; `load` takes the defaults in their place.
            include: names to keep although they are in `exclude`.

        Raises:
            ValueError: `include` names what a file does not hold.
        """
        included = set(include or ())
        if unknown := sorted(included - _NAMES):
            raise ValueError(
                f"{type(self).__name__}.save: include must name arguments, counts or buffers of the algorithm, but has "
                f"{', '.join(unknown)}. Save what is your own next to the file."
            )
        names = _NAMES - (set(exclude or ()) - included)
        arguments = {
            argument: to_plain(self._policy_name() if argument == "policy" else getattr(self, attribute))
            for argument, attribute in _ATTRIBUTES.items()
            if {argument, attribute} <= names
        }
        facts, tensors = snapshot(self, names)
        settings = {
            "arguments": arguments,
            "observation_space": space_to_json(self.observation_space),
            "action_space": space_to_json(self.action_space),
            "versions": _versions(),
        }
        write_agent(path, KIND, settings | facts, tensors)

    @classmethod
    def load(
        cls,
        path: Target,
        env: Any = None,
        device: torch.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        **changes: Any,
    ) -> Self:
        """The algorithm that `save` wrote.

        Args:
            path: as for `save`.
            env: to go on learning in, of the same spaces; None to act only, or to use `set_env` later.
            device: of the parameters.
            custom_objects: values to take in place of the file's, by attribute; names that it does not hold are
                passed over.
            print_system_info: print the versions of what wrote the file, and of what reads it.
            force_reset: `learn` starts new episodes. False goes on to the bit, random states included, for an
                environment, as `get_env` returns it, that stands where the saved one stood; call `learn(…,
                reset_num_timesteps=False)` then.
            changes: arguments that are to differ from the saved ones, or that the file could not hold.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is damaged or not ours; `env` has other spaces; something must be passed again; or
                `policy_kwargs` differ from the saved ones.
        """
        settings, tensors = read_agent(path, KIND)
        if print_system_info:
            print(f"Saved with: {settings['versions']}\nLoaded with: {_versions()}")
        arguments = _arguments(settings["arguments"], custom_objects or {}, changes)
        spaces = [space_from_json(settings[name]) for name in ("observation_space", "action_space")]
        vectorised = as_vec_env(env, observe_previous=arguments.get("observe_previous", False))
        wrapped = None if env is None else cls._wrap_env(vectorised, arguments.get("verbose", 0))
        if wrapped is not None:
            check_for_correct_spaces(wrapped, *spaces)
            if not force_reset and wrapped.num_envs != settings["n_envs"]:
                raise ValueError(
                    f"{cls.__name__}.load: env must be as it was to go on in it, but has {wrapped.num_envs} copies in "
                    f"place of {settings['n_envs']}. Pass force_reset=True to begin new episodes."
                )
        model = cls(**arguments, env=None, device=device, _init_setup_model=False)  # type: ignore[arg-type]
        model.observation_space, model.action_space = spaces
        model.n_envs = settings["n_envs"] if wrapped is None else wrapped.num_envs
        model._setup_model()
        restore(model, settings, tensors, same_place=not force_reset)
        if wrapped is not None:
            model.set_env(wrapped, force_reset=force_reset)
            if force_reset and model.seed is not None:
                wrapped.seed(model.seed)
        return model

    def set_parameters(
        self, load_path_or_dict: Any, exact_match: bool = True, device: torch.device | str = "auto"
    ) -> None:
        """Takes over the parameters of a file that `save` wrote, or of a dict as `get_parameters` returns it.

        Args:
            load_path_or_dict: the path, the file, or the dict.
            exact_match: all parameters must be given.
            device: taken for stable-baselines3's sake; parameters stay on the algorithm's.

        Raises:
            RuntimeError: parameters are missing, or have other shapes.
            ValueError: an object's name is unknown or missing, or the file is not ours.
        """
        if not isinstance(load_path_or_dict, dict):
            settings, tensors = read_agent(load_path_or_dict, KIND)
            optimizer = optimizer_state(settings["optimizer"], part(tensors, "optimizer."))
            load_path_or_dict = {"policy": part(tensors, "policy."), "policy.optimizer": optimizer}
        super().set_parameters(load_path_or_dict, exact_match, device)

    def _policy_name(self) -> Any:
        """The policy's name, or the class where it has none."""
        names = (name for name, known in self.policy_aliases.items() if known is self.policy_class)
        return next(names, self.policy_class)


def _arguments(saved: dict[str, Any], replaced: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The constructor's arguments: those of the file, where none replaces them."""
    if "policy_kwargs" in changes:
        given = to_plain(changes["policy_kwargs"] or {})
        if not agrees(saved.get("policy_kwargs", given), given):
            raise ValueError(
                f"load: policy_kwargs must be those that were saved, {saved['policy_kwargs']['items']}, but are "
                f"{given['items']}. Pass the same, or none."
            )
    named = {_ARGUMENTS[name]: value for name, value in replaced.items() if name in _ARGUMENTS}
    named |= {name: value for name, value in replaced.items() if name in _ATTRIBUTES}
    given = named | changes
    if "policy" not in given and "policy" not in saved:
        raise ValueError("load: policy must be passed, since the file was saved without it. Call load(…, policy=…).")
    kept = {name: from_plain(value, name, name) for name, value in saved.items() if name not in given}
    return kept | given


def _versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "stable-baselines3": stable_baselines3.__version__,
        "numpy": np.__version__,
    }
