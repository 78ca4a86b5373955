"""Settings and spaces as JSON: classes go by name, and only those of a few modules are looked up, so no code is run."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from stable_baselines3.common import torch_layers
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, LinearSchedule
from torch import nn, optim

MODULES: dict[str, ModuleType] = {
    "torch.nn": nn,
    "torch.optim": optim,
    "stable_baselines3.common.torch_layers": torch_layers,
}
"""Where classes are looked up; anything else must be passed again when a file is loaded."""


def to_json(value: Any) -> Any:
    """Returns a setting as JSON; what JSON cannot hold becomes a note of what is missing.

    Numbers, strings, lists, tuples and dicts are kept, as are stable-baselines3's schedules, the classes of `MODULES`,
    and spaces. A dict becomes {"is": "dict", "items": …}, so that it cannot be taken for one of the other notes.

    Raises:
        TypeError: a space is not Box, Discrete, MultiBinary, MultiDiscrete or a Dict of these.
    """
    if type(value) is FloatSchedule:
        value = value.value_schedule
    if type(value) is ConstantSchedule:
        value = value.val
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return [to_json(item) for item in value]
    return _space_to_json(value) if isinstance(value, spaces.Space) else _tagged(value)


def _tagged(value: Any) -> dict[str, Any]:
    if isinstance(value, tuple):
        return {"is": "tuple", "items": [to_json(item) for item in value]}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"is": "dict", "items": {key: to_json(item) for key, item in value.items()}}
    if type(value) is LinearSchedule:
        bounds = [value.start, value.end, value.end_fraction]
        return {"is": "linear schedule", "items": [float(bound) for bound in bounds]}
    if isinstance(value, type) and (name := _name_of(value)) is not None:
        return {"is": "class", "name": name}
    named = value if hasattr(value, "__qualname__") else type(value)
    return {"is": "missing", "what": f"{named.__module__}.{named.__qualname__}"}


def from_json(saved: Any, where: str, argument: str = "") -> Any:
    """Returns the setting or the space of which `to_json` was taken.

    Args:
        saved: what it returned.
        where: the setting's name, for an error.
        argument: the argument of `load` to pass if the setting is missing.

    Raises:
        ValueError: the setting is missing, or names a class of another module than `MODULES`.
    """
    if isinstance(saved, list):
        return [from_json(item, where, argument) for item in saved]
    if not isinstance(saved, dict):
        return saved
    return _space_from_json(saved) if "kind" in saved else _untagged(saved, where, argument)


def _untagged(saved: dict[str, Any], where: str, argument: str) -> Any:
    match saved["is"]:
        case "tuple":
            return tuple(from_json(item, where, argument) for item in saved["items"])
        case "dict":
            return {key: from_json(item, f"{where}[{key!r}]", argument) for key, item in saved["items"].items()}
        case "linear schedule":
            return LinearSchedule(*saved["items"])
        case "class":
            return _class_named(saved["name"], where)
    raise ValueError(
        f"load: {where} must be passed again, since it was {saved['what']}, and a file that runs no code cannot hold "
        f"it. Call load(…, {argument}=…)."
    )


def agrees(saved: Any, passed: Any) -> bool:
    """Whether a setting that is passed again equals the saved one (both as JSON), as far as that one could be kept."""
    if isinstance(saved, dict) and isinstance(passed, dict):
        if saved.get("is") == "missing":
            return True
        if saved.get("is") == passed.get("is") == "dict":
            one, other = saved["items"], passed["items"]
            return one.keys() == other.keys() and all(agrees(one[key], other[key]) for key in one)
    return bool(saved == passed)


def _name_of(kind: type) -> str | None:
    names = (name for name, module in MODULES.items() if getattr(module, kind.__name__, None) is kind)
    module = next(names, None)
    return None if module is None else f"{module}.{kind.__name__}"


def _class_named(name: str, where: str) -> type:
    module, _, attribute = name.rpartition(".")
    kind = getattr(MODULES.get(module), attribute, None)
    if not (isinstance(kind, type) and issubclass(kind, nn.Module | optim.Optimizer)):
        raise ValueError(
            f"load: {where} must be a class of {', '.join(MODULES)}, but is {name!r}. Take a file that was saved by "
            "this library, unchanged, with versions of these packages that have the class."
        )
    return kind


def _space_to_json(space: spaces.Space[Any]) -> dict[str, Any]:
    if isinstance(space, spaces.Dict):
        return {"kind": "Dict", "spaces": {name: _space_to_json(part) for name, part in space.spaces.items()}}
    if isinstance(space, spaces.Box):
        bounds = {"low": _bound(space.low), "high": _bound(space.high)}
        return {"kind": "Box", **bounds, "shape": list(space.shape), "dtype": str(space.dtype)}
    if isinstance(space, spaces.Discrete):
        return {"kind": "Discrete", "n": int(space.n), "start": int(space.start), **_dtype(space)}
    if isinstance(space, spaces.MultiBinary):
        return {"kind": "MultiBinary", "n": space.n if isinstance(space.n, int) else list(space.shape)}
    if isinstance(space, spaces.MultiDiscrete):
        return {"kind": "MultiDiscrete", "nvec": space.nvec.tolist(), "start": space.start.tolist(), **_dtype(space)}
    raise TypeError(f"save: a space must be Box, Discrete, MultiBinary, MultiDiscrete or Dict, but is {space}.")


def _space_from_json(saved: dict[str, Any]) -> spaces.Space[Any]:
    kind, values = saved["kind"], {name: value for name, value in saved.items() if name != "kind"}
    if kind == "Dict":
        return spaces.Dict({name: _space_from_json(part) for name, part in values["spaces"].items()})
    if kind == "Box":
        dtype = np.dtype(values["dtype"])
        low, high = (np.array(values[bound], dtype=dtype) for bound in ("low", "high"))
        shape = tuple(values.get("shape", low.shape))
        return spaces.Box(np.broadcast_to(low, shape), np.broadcast_to(high, shape), dtype=dtype.type)
    makers: dict[str, Any] = {
        "Discrete": spaces.Discrete,
        "MultiBinary": spaces.MultiBinary,
        "MultiDiscrete": spaces.MultiDiscrete,
    }
    space: spaces.Space[Any] = makers[kind](**values)
    return space


def _bound(bound: npt.NDArray[Any]) -> Any:
    """Returns a bound as a single number if it is the same everywhere, as an image's is, otherwise as a list."""
    same = bound.size > 0 and bool((bound == bound.flat[0]).all())
    return bound.flat[0].item() if same else bound.tolist()


def _dtype(space: spaces.Space[Any]) -> dict[str, str]:
    return {} if space.dtype == np.int64 else {"dtype": str(space.dtype)}
