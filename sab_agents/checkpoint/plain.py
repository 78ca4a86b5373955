"""Settings as JSON and back without code: classes go by name, and only those of a few modules are looked up."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from stable_baselines3.common import torch_layers
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, LinearSchedule
from torch import nn, optim

MODULES: dict[str, ModuleType] = {
    "torch.nn": nn,
    "torch.optim": optim,
    "stable_baselines3.common.torch_layers": torch_layers,
}
"""Where classes are looked up; anything else must be passed again when a file is loaded."""


def to_plain(value: Any) -> Any:
    """A setting as JSON; what JSON cannot hold is noted as missing, with what it was."""
    if type(value) is FloatSchedule:
        value = value.value_schedule
    if type(value) is ConstantSchedule:
        value = value.val
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return [to_plain(item) for item in value]
    return _tagged(value)


def _tagged(value: Any) -> dict[str, Any]:
    if isinstance(value, tuple):
        return {"is": "tuple", "items": [to_plain(item) for item in value]}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"is": "dict", "items": {key: to_plain(item) for key, item in value.items()}}
    if type(value) is LinearSchedule:
        numbers = [value.start, value.end, value.end_fraction]
        return {"is": "linear schedule", "items": [float(number) for number in numbers]}
    if isinstance(value, type) and (name := _name_of(value)) is not None:
        return {"is": "class", "name": name}
    named = value if hasattr(value, "__qualname__") else type(value)
    return {"is": "missing", "what": f"{named.__module__}.{named.__qualname__}"}


def from_plain(plain: Any, where: str, argument: str) -> Any:
    """The setting that `to_plain` noted.

    Args:
        plain: what it returned.
        where: the setting's name, for an error.
        argument: what to pass to `load` where the setting is missing.

    Raises:
        ValueError: it is missing, or names a class of another module than `MODULES`.
    """
    if isinstance(plain, list):
        return [from_plain(item, where, argument) for item in plain]
    if not isinstance(plain, dict):
        return plain
    match plain["is"]:
        case "tuple":
            return tuple(from_plain(item, where, argument) for item in plain["items"])
        case "dict":
            return {key: from_plain(item, f"{where}[{key!r}]", argument) for key, item in plain["items"].items()}
        case "linear schedule":
            return LinearSchedule(*plain["items"])
        case "class":
            return _class_named(plain["name"], where)
    raise ValueError(
        f"load: {where} must be passed again, since it was {plain['what']}, and a file that runs no code cannot hold "
        f"it. Call load(…, {argument}=…)."
    )


def agrees(plain: Any, given: Any) -> bool:
    """Whether a setting that is passed again is the one that was noted, as far as that could be noted."""
    if isinstance(plain, dict) and isinstance(given, dict):
        if plain["is"] == "missing":
            return True
        if plain["is"] == given["is"] == "dict":
            own, other = plain["items"], given["items"]
            return own.keys() == other.keys() and all(agrees(own[key], other[key]) for key in own)
    return bool(plain == given)


def _name_of(kind: type) -> str | None:
    names = (name for name, module in MODULES.items() if getattr(module, kind.__name__, None) is kind)
    module = next(names, None)
    return None if module is None else f"{module}.{kind.__name__}"


def _class_named(name: str, where: str) -> type:
    module, _, attribute = name.rpartition(".")
    found = getattr(MODULES.get(module), attribute, None)
    if not (isinstance(found, type) and issubclass(found, nn.Module | optim.Optimizer)):
        raise ValueError(
            f"load: {where} must be a class of {', '.join(MODULES)}, but is {name!r}. Take a file that was saved by "
            "this library, unchanged, with versions of these packages that have the class."
        )
    return found
