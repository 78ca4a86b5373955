"""Checkpoints: everything that training needs to resume bit-exactly, in one safetensors file.

safetensors holds tensors and a JSON header, nothing else: loading a file never runs code.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from sab_agents.distributed import Ranks
from sab_agents.train.configuration import build, flat
from sab_agents.train.errors import UserError, one_line
from sab_agents.train.output import write_atomically
from sab_agents.train.supervised.config import BUDGET_KEYS, WATCH_KEYS, WHERE_KEYS, TrainConfig

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from sab_agents.core.state import State
    from sab_agents.train.supervised.model import SequenceModel

FORMAT = "sab-agents/checkpoint"
VERSION = 2
# Settings that may change between a run and its continuation. A learning rate that decays over `steps` binds those too.
MAY_CHANGE = frozenset([*BUDGET_KEYS, *WATCH_KEYS, *WHERE_KEYS])


@dataclass
class Progress:
    """How far a run has come.

    Attributes:
        step: updates done.
        seconds: time spent on them, evaluation not counted.
        validation: the task's metrics at the last evaluation, empty before the first.
        state: what the last batch left to carry over, or None.
        skipped: updates, among those done, that changed nothing because their gradient was not finite.
    """

    step: int = 0
    seconds: float = 0.0
    validation: dict[str, float] = field(default_factory=dict)
    state: State | None = None
    skipped: int = 0


def save_checkpoint(
    path: Path,
    config: TrainConfig,
    model: SequenceModel,
    optimizer: Optimizer,
    progress: Progress,
    ranks: Ranks,
) -> None:
    """Writes the checkpoint, which replaces the previous one atomically: rank 0 does, with what each rank carries."""
    own = {"rng": torch.get_rng_state()}
    if progress.state is not None:
        own |= {f"state.{index}": value.cpu() for index, value in enumerate(progress.state.tensors())}
    carried = ranks.gathered(own)
    if not ranks.main:
        return
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state[parameter].items():
            tensors[f"adam.{key}.{name}"] = value
    for rank, part in enumerate(carried):
        tensors |= {f"{_of_rank(rank)}{name}": value for name, value in part.items()}
    facts = {
        "format": FORMAT,
        "version": VERSION,
        "step": progress.step,
        "seconds": progress.seconds,
        "validation": progress.validation,
        "skipped": progress.skipped,
        "config": config.settings(),
    }
    if not ranks.alone:
        facts["ranks"] = ranks.size
    write_atomically(path, _packed(tensors, facts))


def _of_rank(rank: int) -> str:
    """Returns what the names begin with of what only this rank carries."""
    return f"rank{rank}." if rank else ""


def save_model(path: Path, config: TrainConfig, model: SequenceModel) -> None:
    """Writes only the trained parameters."""
    facts = {"format": FORMAT, "version": VERSION, "config": config.settings()}
    write_atomically(path, _packed({f"model.{name}": value for name, value in model.state_dict().items()}, facts))


def load_model(path: Path, model: SequenceModel) -> None:
    """Loads the parameters of a checkpoint, or of `save_model`, into `model`.

    Raises:
        UserError: the file is missing, damaged, of another program, or of a model of another shape.
    """
    tensors, _ = _unpacked(path)
    _fill_model(path, model, tensors)


def load_checkpoint(
    path: Path, config: TrainConfig, model: SequenceModel, optimizer: Optimizer, ranks: Ranks
) -> Progress:
    """Loads a checkpoint into `model`, `optimizer` and torch's random state, and returns how far the run had come.

    Raises:
        UserError: the file is damaged, of another program, or of a run with other settings or another number of ranks.
    """
    tensors, facts = _unpacked(path)
    saved_by = facts.get("ranks", 1)
    if saved_by != ranks.size:
        start = f"torchrun --nproc-per-node={saved_by} -m sab_agents" if saved_by > 1 else "sab-agents"
        raise UserError(
            f"{path}: the run has {saved_by} ranks, but there are {ranks.size}, which would learn from other batches. "
            f"Continue it with {start} resume {path.parent}."
        )
    _check_settings(path, facts["config"], config)
    _fill_model(path, model, tensors)
    for name, parameter in model.named_parameters():
        state = {
            key.split(".", 2)[1]: _placed(value, like=parameter)
            for key, value in tensors.items()
            if key.startswith("adam.") and key.split(".", 2)[2] == name
        }
        if state:
            optimizer.state[parameter] = state
    own = _of_rank(ranks.rank)
    states = sum(key.startswith(f"{own}state.") for key in tensors)
    carried = [tensors[f"{own}state.{index}"] for index in range(states)]
    device = next(model.parameters()).device
    torch.set_rng_state(tensors[f"{own}rng"])
    return Progress(
        step=int(facts["step"]),
        seconds=float(facts["seconds"]),
        validation=dict(facts["validation"]),
        state=model.core.state_class(*carried).to(device) if carried else None,
        skipped=int(facts["skipped"]),
    )


def _placed(value: Tensor, like: Tensor) -> Tensor:
    # Adam keeps its step counter, a scalar, on the CPU.
    return value if value.dim() == 0 else value.to(like.device)


def _packed(tensors: dict[str, Tensor], facts: dict[str, Any]) -> bytes:
    plain = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    return save(plain, metadata={"facts": json.dumps(facts | {"tensors": sorted(plain)})})


def _unpacked(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {}).get("facts", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (a file, not a dict)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file. Train the run first, or name another run.") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: damaged or not a safetensors file ({one_line(error)}).") from error
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise UserError(f"{path}: a safetensors file, but not written by sab-agents train.")
    if facts.get("version") != VERSION:
        raise UserError(
            f"{path}: written in version {facts.get('version')} of the format, but this program reads {VERSION}."
        )
    if sorted(tensors) != facts["tensors"]:
        differing = ", ".join(sorted(set(tensors) ^ set(facts["tensors"])))
        raise UserError(f"{path}: not a whole checkpoint: {differing} missing or unexpected. Use another copy of it.")
    return tensors, facts


def _check_settings(path: Path, saved: dict[str, Any], config: TrainConfig) -> None:
    try:
        saved = flat(build(TrainConfig, TrainConfig.translated(saved)).settings())
    except (ValueError, UserError) as error:
        raise UserError(f"{path}: its settings cannot be read: {one_line(error)}") from error
    settings = flat(config.settings())
    for name in sorted(settings.keys() | saved.keys(), key=lambda name: (name != "core", name)):
        bound_by_decay = name == "steps" and config.final_learning_rate is not None
        if name in MAY_CHANGE and not bound_by_decay:
            continue
        if saved.get(name) != settings.get(name):
            raise UserError(
                f"{path}: the run has {name} = {saved.get(name)!r}, but the config says {settings.get(name)!r}. "
                f"Resume with the run's own settings, or choose another --out."
            )


def _fill_model(path: Path, model: SequenceModel, tensors: dict[str, Tensor]) -> None:
    saved = {name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")}
    own = model.state_dict()
    for name in sorted(own.keys() | saved.keys()):
        shapes = [tuple(part[name].shape) if name in part else "nothing" for part in (saved, own)]
        if shapes[0] != shapes[1]:
            raise UserError(f"{path}: holds {shapes[0]} for {name}, but the config's model has {shapes[1]}.")
    model.load_state_dict(saved)
