"""The policies by name: three for each registered core that names them, for vectors, images and dicts of observations.

    from sab_agents.ppo.kinds import MlpSabPolicy, CnnLstmPolicy, POLICIES

The classes are made from `sab_agents.core.CORES` when they are first asked for, so that a core that is registered later
has its policies at once.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor, FlattenExtractor, NatureCNN

from sab_agents.core.registry import CORES, CoreSpec
from sab_agents.ppo.cores import known_settings
from sab_agents.ppo.policies import RecurrentActorCriticPolicy

EXTRACTORS: Mapping[str, type[BaseFeaturesExtractor]] = MappingProxyType(
    {"Mlp": FlattenExtractor, "Cnn": NatureCNN, "MultiInput": CombinedExtractor}
)
"""The features extractor of a policy by the first part of its name."""

OBSERVATIONS: Mapping[str, str] = MappingProxyType(
    {"Mlp": "vectors", "Cnn": "images", "MultiInput": "dicts of observations"}
)


class _Policies(Mapping[str, type[RecurrentActorCriticPolicy]]):
    """Every policy by the name that `RecurrentPPO` takes; each class is made once, when it is first asked for."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[CoreSpec, type[RecurrentActorCriticPolicy]]] = {}

    def __getitem__(self, name: str) -> type[RecurrentActorCriticPolicy]:
        kind, spec = _names()[name]
        if name not in self._made or self._made[name][0] is not spec:
            base = RecurrentActorCriticPolicy if kind == "Mlp" else self[f"Mlp{spec.policy}Policy"]
            self._made[name] = spec, _policy_class(name, base, kind, spec)
        return self._made[name][1]

    def __iter__(self) -> Iterator[str]:
        return iter(_names())

    def __len__(self) -> int:
        return len(_names())


POLICIES: Mapping[str, type[RecurrentActorCriticPolicy]] = _Policies()


def _names() -> dict[str, tuple[str, CoreSpec]]:
    """Returns the first part and the core of every policy by its name, in the order in which cores are registered."""
    return {f"{kind}{spec.policy}Policy": (kind, spec) for spec in CORES.values() if spec.policy for kind in EXTRACTORS}


def _policy_class(
    name: str, base: type[RecurrentActorCriticPolicy], kind: str, spec: CoreSpec
) -> type[RecurrentActorCriticPolicy]:
    settings = ", ".join(f"`{each}`" for each in known_settings(spec))
    summary = (inspect.getdoc(spec.make) or spec.summary).splitlines()[0]
    doc = (
        f"Actor and critic that see {OBSERVATIONS[kind]} and remember by {spec.summary}.\n\n"
        f"Arguments are those of `RecurrentActorCriticPolicy`. The core is `{spec.make.__name__}`: {summary}\n"
        f"Settings in `core_kwargs`: {settings or 'none'}. PPO's own defaults are in `sab_agents.ppo.cores`.\n"
    )
    return type(name, (base,), {"__doc__": doc, "__module__": __name__, "spec": spec, "extractor": EXTRACTORS[kind]})


def __getattr__(name: str) -> Any:
    """Returns the policy of that name, so that it can be imported and pickled as a class of this module."""
    if name in POLICIES:
        return POLICIES[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *POLICIES])
