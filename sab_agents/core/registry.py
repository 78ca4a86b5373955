"""Cores by name: a core that is registered here is known to every part of the library that builds one.

These are `build_core`, the command line, `OnlineLearner`, the policies of `StreamAC` and `RecurrentPPO`, and export.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

from sab_agents.checks import did_you_mean
from sab_agents.core.base import Core

CoreT = TypeVar("CoreT", bound=type[Core[Any]])

COMMON = frozenset({"batch_first", "device", "dtype"})
"""Keyword arguments of every core, which are not settings of one."""


@dataclass(frozen=True)
class CoreSpec:
    """A core as a configuration names it.

    Attributes:
        name: as `build_core` takes it.
        make: its class.
        settings: names of the keyword arguments that it takes beside its sizes.
        policy: the part of a policy's name that stands for it, as in "Mlp" + "Lstm" + "Policy"; empty if it has none.
        endless: whether its state stays bounded, so that it can run through an endless stream.
        summary: one line for people.
    """

    name: str
    make: type[Core[Any]]
    settings: tuple[str, ...]
    policy: str
    endless: bool
    summary: str


_CORES: dict[str, CoreSpec] = {}
CORES: Mapping[str, CoreSpec] = MappingProxyType(_CORES)
"""Every registered core by its name."""


def register_core(
    name: str, summary: str, *, policy: str = "", endless: bool = True, omit: tuple[str, ...] = ()
) -> Callable[[CoreT], CoreT]:
    """Registers a class of cores under a name; a class may have several names with different settings.

    Args:
        name: as `build_core` takes it.
        summary: one line for people.
        policy: the part of a policy's name that stands for the core; empty if it has no policies.
        endless: whether its state stays bounded, so that it can run through an endless stream.
        omit: keyword arguments of the class that are not settings under this name.

    Returns:
        A decorator, which returns the class unchanged.

    Raises:
        ValueError: the name, or the policy's name, is registered already.
    """

    def register(make: CoreT) -> CoreT:
        if name in _CORES or (policy and any(spec.policy == policy for spec in _CORES.values())):
            raise ValueError(f"register_core: name and policy must be new, but {name!r} or {policy!r} is registered.")
        settings = tuple(each for each in _keyword_arguments(make) if each not in COMMON and each not in omit)
        _CORES[name] = CoreSpec(name, make, settings, policy, endless, summary)
        return make

    return register


def core_spec(name: str) -> CoreSpec:
    """Returns the registered core of that name.

    Raises:
        ValueError: the name is unknown.
    """
    if name not in _CORES:
        raise ValueError(f"core: unknown core {name!r}. {did_you_mean(str(name), _CORES)}")
    return _CORES[name]


def build_core(name: str, input_size: int, hidden_size: int, **settings: Any) -> Core[Any]:
    """Returns a new core of that name.

    Args:
        name: a key of `CORES`.
        input_size: I.
        hidden_size: H.
        settings: of that core, `CORES[name].settings`, and `batch_first`, `device` and `dtype`.

    Raises:
        TypeError: the core has no such setting.
        ValueError: the name is unknown, or a setting's value is out of range.

    Examples:
        >>> from sab_agents import build_core
        >>> core = build_core("lstm_tbptt", 10, 32, bptt_steps=5)
        >>> type(core).__name__, core.output_size
        ('LSTM', 32)
    """
    spec = core_spec(name)
    for setting in settings:
        if setting not in spec.settings and setting not in COMMON:
            raise TypeError(f"{name}: unknown setting {setting!r}. {did_you_mean(setting, spec.settings)}")
    return spec.make(input_size, hidden_size, **settings)


def _keyword_arguments(make: type[Any]) -> list[str]:
    """Returns the names of the constructor's keyword arguments; `**settings` stands for those of the base class."""
    names: list[str] = []
    for base in make.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
        names += [each.name for each in parameters if each.kind is each.KEYWORD_ONLY and each.name not in names]
        if not any(each.kind is each.VAR_KEYWORD for each in parameters):
            break
    return names
