"""Agents in files: a zip of safetensors and JSON, so that loading one never runs code."""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

VERSION = 1
_SETTINGS, _TENSORS = "settings.json", "tensors.safetensors"


def write_agent(path: str | Path, kind: str, settings: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Writes `path`, with .zip added where it has no suffix; replaces an older file in one step.

    Raises:
        TypeError: a setting is not of a kind that JSON knows.
    """
    target = with_suffix(path)
    try:
        text = json.dumps({"format": f"sab-agents/{kind}", "version": VERSION, **settings})
    except TypeError as error:
        raise TypeError(
            f"save: settings must be numbers, strings, lists or dicts, so that loading runs no code ({error})."
        ) from error
    plain = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(_SETTINGS, text)
        file.writestr(_TENSORS, save(plain))
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    with unfinished.open("wb") as out:
        out.write(buffer.getvalue())
        out.flush()
        os.fsync(out.fileno())
    os.replace(unfinished, target)


def read_agent(path: str | Path, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What `write_agent` wrote as this kind: settings and tensors.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or not ours.
    """
    source = with_suffix(path)
    try:
        with zipfile.ZipFile(source) as file:
            settings: dict[str, Any] = json.loads(file.read(_SETTINGS))
            tensors: dict[str, Tensor] = load(file.read(_TENSORS))
    except FileNotFoundError:
        raise FileNotFoundError(f"{source}: no such file. Save an agent there first, or name another file.") from None
    except (zipfile.BadZipFile, KeyError, ValueError, SafetensorError, OSError) as error:
        raise ValueError(f"{source}: damaged, or not a file that sab-agents saved ({error}).") from error
    if settings.get("format") != f"sab-agents/{kind}" or settings.get("version") != VERSION:
        raise ValueError(
            f"{source}: must be sab-agents/{kind} in version {VERSION}, but is {settings.get('format')!r} "
            f"in version {settings.get('version')!r}. Load it with the program that wrote it."
        )
    return settings, tensors


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, under the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def with_suffix(path: str | Path) -> Path:
    """The path, with .zip added where it has no suffix."""
    path = Path(path)
    return path if path.suffix else path.with_name(path.name + ".zip")


def space_to_json(space: spaces.Space[Any]) -> dict[str, Any]:
    """A space as JSON.

    Raises:
        TypeError: the space is not Box, Discrete, MultiBinary or MultiDiscrete.
    """
    if isinstance(space, spaces.Box):
        bounds = {"low": space.low.tolist(), "high": space.high.tolist()}
        return {"kind": "Box", **bounds, "dtype": str(space.dtype)}
    if isinstance(space, spaces.Discrete):
        return {"kind": "Discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiBinary):
        return {"kind": "MultiBinary", "n": list(space.shape)}
    if isinstance(space, spaces.MultiDiscrete):
        return {"kind": "MultiDiscrete", "nvec": space.nvec.tolist()}
    raise TypeError(f"StreamAC.save: a space must be Box, Discrete, MultiBinary or MultiDiscrete, but is {space}.")


def space_from_json(facts: dict[str, Any]) -> spaces.Space[Any]:
    """The space that `space_to_json` described."""
    kind, values = facts["kind"], {name: value for name, value in facts.items() if name != "kind"}
    if kind == "Box":
        dtype = np.dtype(values["dtype"])
        low, high = (np.array(values[bound], dtype=dtype) for bound in ("low", "high"))
        return spaces.Box(low, high, dtype=dtype.type)
    makers: dict[str, Any] = {
        "Discrete": spaces.Discrete,
        "MultiBinary": spaces.MultiBinary,
        "MultiDiscrete": spaces.MultiDiscrete,
    }
    space: spaces.Space[Any] = makers[kind](**values)
    return space
