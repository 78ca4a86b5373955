"""Agents in files: a zip of safetensors and JSON, so that loading one never runs code."""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

VERSION = 1
_SETTINGS, _TENSORS = "settings.json", "tensors.safetensors"
Target = str | Path | io.BufferedIOBase
"""A path, or a file that is open for bytes."""


def write_agent(path: Target, kind: str, settings: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Writes `path`, with .zip added where it has no suffix; replaces an older file in one step.

    Args:
        path: where to; or a file that is open for writing bytes.
        kind: of the agent, which `read_agent` asks for.
        settings: what JSON can hold.
        tensors: by name.

    Raises:
        TypeError: a setting is not of a kind that JSON knows.
    """
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
    if not isinstance(path, str | Path):
        path.write(buffer.getvalue())
        return
    target = with_suffix(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    with unfinished.open("wb") as out:
        out.write(buffer.getvalue())
        out.flush()
        os.fsync(out.fileno())
    os.replace(unfinished, target)


def read_agent(path: Target, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What `write_agent` wrote as this kind: settings and tensors.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or not ours.
    """
    source = with_suffix(path) if isinstance(path, str | Path) else path
    try:
        with zipfile.ZipFile(source) as file:
            _refuse_pickles(source, file)
            settings: dict[str, Any] = json.loads(file.read(_SETTINGS))
            tensors: dict[str, Tensor] = load(file.read(_TENSORS))
    except FileNotFoundError:
        raise FileNotFoundError(f"{source}: no such file. Save an agent there first, or name another file.") from None
    except (zipfile.BadZipFile, KeyError, json.JSONDecodeError, UnicodeDecodeError, SafetensorError, OSError) as error:
        raise ValueError(f"{source}: damaged, or not a file that sab-agents saved ({error}).") from error
    if settings.get("format") != f"sab-agents/{kind}" or settings.get("version") != VERSION:
        raise ValueError(
            f"{source}: must be sab-agents/{kind} in version {VERSION}, but is {settings.get('format')!r} "
            f"in version {settings.get('version')!r}. Load it with the program that wrote it."
        )
    return settings, tensors


def _refuse_pickles(source: object, file: zipfile.ZipFile) -> None:
    if "_stable_baselines3_version" in file.namelist():
        raise ValueError(
            f"{source}: must be a file that sab-agents saved, but was saved by stable-baselines3 or sb3-contrib, and "
            "loading such a file runs code out of it. Load it with the class that saved it, or train an agent anew."
        )


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
        TypeError: the space is not Box, Discrete, MultiBinary, MultiDiscrete or a Dict of these.
    """
    if isinstance(space, spaces.Dict):
        return {"kind": "Dict", "spaces": {name: space_to_json(part) for name, part in space.spaces.items()}}
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


def space_from_json(facts: dict[str, Any]) -> spaces.Space[Any]:
    """The space that `space_to_json` described."""
    kind, values = facts["kind"], {name: value for name, value in facts.items() if name != "kind"}
    if kind == "Dict":
        return spaces.Dict({name: space_from_json(part) for name, part in values["spaces"].items()})
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
    """A bound as one number where it is the same everywhere, as an image's is, and as a list otherwise."""
    same = bound.size > 0 and bool((bound == bound.flat[0]).all())
    return bound.flat[0].item() if same else bound.tolist()


def _dtype(space: spaces.Space[Any]) -> dict[str, str]:
    return {} if space.dtype == np.int64 else {"dtype": str(space.dtype)}
