"""The file format of saved agents: a zip of safetensors and JSON, so that loading a file never runs code.

An archive holds settings, from which an object is built, and a state, which it takes back: a flat dictionary of tensors
and of values that JSON can hold, as the owners' `state_dict` returns it. `under` and `within` nest states by name.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any, Protocol

import safetensors.torch as safetensors
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

VERSION = 1
CONTEXTS = "contexts"
"""What `save` can leave out beside arguments: what credit replays of a memory with slots."""
_SETTINGS, _TENSORS = "settings.json", "tensors.safetensors"
Target = str | Path | io.BufferedIOBase
"""A path, or a file that is open for bytes."""


def save(path: Target, kind: str, settings: dict[str, Any], state: dict[str, Any]) -> None:
    """Writes an archive; an older file is replaced in one step.

    Args:
        path: the file, `.zip` is added to a name without suffix; or a file that is open for writing bytes.
        kind: what the archive holds, which `load` asks for.
        settings: values that JSON can hold; see `sab_agents.checkpoint.settings`.
        state: tensors, and values that JSON can hold, by name.

    Raises:
        TypeError: a setting or a value of the state is of a type that JSON does not know.
    """
    values = {name: value for name, value in state.items() if not isinstance(value, Tensor)}
    described = {**settings, "state": values} if values else settings
    try:
        text = json.dumps({"format": f"sab-agents/{kind}", "version": VERSION, **described})
    except TypeError as error:
        raise TypeError(
            f"save: settings must be numbers, strings, lists or dicts, so that loading runs no code ({error})."
        ) from error
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    copied = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(_SETTINGS, text)
        file.writestr(_TENSORS, safetensors.save(copied))
    if not isinstance(path, str | Path):
        path.write(buffer.getvalue())
        return
    target = with_suffix(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    try:
        with unfinished.open("wb") as out:
            out.write(buffer.getvalue())
            out.flush()
            os.fsync(out.fileno())
        os.replace(unfinished, target)
    except BaseException:  # a full disk, or a signal
        unfinished.unlink(missing_ok=True)
        raise


def load(path: Target, kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the settings and the state of an archive that `save` wrote as this kind.

    Earlier versions wrote the values of a state among the settings, and its tensors are the state.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, of another kind or version, or not written by this library.
    """
    source = with_suffix(path) if isinstance(path, str | Path) else path
    try:
        with zipfile.ZipFile(source) as file:
            _check_origin(source, file)
            settings: dict[str, Any] = json.loads(file.read(_SETTINGS))
            tensors: dict[str, Tensor] = safetensors.load(file.read(_TENSORS))
    except FileNotFoundError:
        raise FileNotFoundError(f"{source}: no such file. Save an agent there first, or name another file.") from None
    except (zipfile.BadZipFile, KeyError, json.JSONDecodeError, UnicodeDecodeError, SafetensorError, OSError) as error:
        raise ValueError(f"{source}: damaged, or not a file that sab-agents saved ({error}).") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{source}: damaged, or not a file that sab-agents saved (its settings are no JSON object).")
    if settings.get("format") != f"sab-agents/{kind}" or settings.get("version") != VERSION:
        raise ValueError(
            f"{source}: must be sab-agents/{kind} in version {VERSION}, but is {settings.get('format')!r} "
            f"in version {settings.get('version')!r}. Load it with the program that wrote it."
        )
    return settings, {**settings.pop("state", {}), **tensors}


def _check_origin(source: object, file: zipfile.ZipFile) -> None:
    """Raises ValueError if the file was pickled by stable-baselines3 or sb3-contrib."""
    if "_stable_baselines3_version" in file.namelist():
        raise ValueError(
            f"{source}: must be a file that sab-agents saved, but was saved by stable-baselines3 or sb3-contrib, and "
            "loading such a file runs code out of it. Load it with the class that saved it, or train a new agent."
        )


def under(prefix: str, state: dict[str, Any]) -> dict[str, Any]:
    """Returns a state with a prefix and a dot in front of its names."""
    return {f"{prefix}.{name}": value for name, value in state.items()}


def within(prefix: str, state: dict[str, Any]) -> dict[str, Any]:
    """Returns what `under` has put under a prefix, by its former names."""
    return {name[len(prefix) + 1 :]: value for name, value in state.items() if name.startswith(f"{prefix}.")}


def left_out(
    owner: str, known: Collection[str], what: str, exclude: Iterable[str] | None, include: Iterable[str] | None
) -> set[str]:
    """Returns the parts that a file leaves out: the names that are excluded and not included, as in stable-baselines3.

    Args:
        owner: the algorithm that is saved.
        known: the names of a file's parts.
        what: these in a few words.
        exclude: names to leave out; unknown ones are in no file anyway.
        include: names to keep although they are in `exclude`.

    Raises:
        TypeError: `exclude` or `include` is one text, whose letters would be taken for names.
        ValueError: `include` names what a file does not hold.
    """
    for given, names in (("exclude", exclude), ("include", include)):
        if isinstance(names, str):
            raise TypeError(f"{owner}.save: {given} must be a list of names, but is {names!r}. Use [{names!r}].")
    included = set(include or ())
    if unknown := sorted(included.difference(known)):
        raise ValueError(
            f"{owner}.save: include must name {what}, but has {', '.join(unknown)}. Save what is your own next to the "
            "file."
        )
    return set(exclude or ()) - included


class HasState(Protocol):
    """Whatever is saved by its state."""

    def state_dict(self) -> dict[str, Any]:
        """Returns tensors, and values that JSON can hold, by name."""


@contextmanager
def all_or_nothing(owner: HasState, load: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """Gives an object back the state that it had, if it cannot take the state that it is loading.

    Args:
        owner: of the state.
        load: takes a state of the owner.

    Raises:
        ValueError: the state does not fit.
    """
    held = owner.state_dict()
    before = {
        name: each.detach().clone() if isinstance(each, Tensor) else deepcopy(each) for name, each in held.items()
    }
    try:
        yield
    except (KeyError, IndexError, TypeError, AttributeError, RuntimeError, ValueError) as error:
        load(before)
        if isinstance(error, ValueError):
            raise
        raise ValueError(
            f"{type(owner).__name__}.load_state_dict: this is not the state of an object with the same settings "
            f"({type(error).__name__}: {error}). Pass what its state_dict returned."
        ) from error


def on_device(state: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Returns the tensors on a device, but for the states of random generators (uint8), which stay on the CPU."""
    return {name: value if value.dtype is torch.uint8 else value.to(device) for name, value in state.items()}


def with_suffix(path: str | Path) -> Path:
    """Returns the path, with `.zip` added to a name without suffix."""
    path = Path(path)
    return path if path.suffix else path.with_name(path.name + ".zip")


def frozen(named: Iterable[tuple[str, nn.Parameter]]) -> list[str]:
    """Returns the names of the parameters that are not learnt, for the settings of an archive."""
    return [name for name, parameter in named if not parameter.requires_grad]


def freeze(named: Iterable[tuple[str, nn.Parameter]], names: Collection[str]) -> None:
    """Freezes the parameters of these names."""
    for name, parameter in named:
        if name in names:
            parameter.requires_grad_(False)
