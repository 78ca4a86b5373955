"""An OnlineLearner in a file, to the bit, and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from sab_agents.checkpoint.archive import part, read_agent, write_agent
from sab_agents.online.credit_ledger import CreditLedger

if TYPE_CHECKING:
    from sab_agents.online.online_learner import OnlineLearner

    LearnerT = TypeVar("LearnerT", bound=OnlineLearner)

KIND = "online-learner"


def write_learner(path: str | Path, learner: OnlineLearner) -> None:
    """Writes settings and counts as JSON, everything else as tensors."""
    optimizer = learner.optimizer.state_dict()
    tensors: dict[str, Tensor] = {f"parameter.{index}": parameter for index, parameter in enumerate(learner.parameters)}
    tensors |= {f"stream.{name}": value for name, value in learner.stream.state_dict().items()}
    tensors |= {
        f"optimizer.{index}.{name}": torch.as_tensor(value)
        for index, entries in optimizer["state"].items()
        for name, value in entries.items()
    }
    tensors |= {f"label.{name}": value for name, value in learner.labels.state_dict().items()}
    facts: dict[str, Any] = {
        "settings": learner.settings,
        "counts": [learner.steps, learner.updates, learner.skipped],
        "open_steps": len(learner.labels.steps),
        "names": learner._inputs.names,
        "groups": optimizer["param_groups"],
        "ledger": learner.ledger.to_json(),
    }
    write_agent(path, KIND, facts, tensors)


def read_learner(make: type[LearnerT], path: str | Path, **code: Any) -> LearnerT:
    """Builds a learner from the file's settings and fills it; `code` is what a file cannot hold."""
    facts, tensors = read_agent(path, KIND)
    settings = facts["settings"]
    if settings["observation_shape"] is not None:
        settings["observation_shape"] = tuple(settings["observation_shape"])
    learner = make(**settings, **code)
    _fill(path, learner.parameters, part(tensors, "parameter."))
    _fill_optimizer(path, learner, facts["groups"], part(tensors, "optimizer."))
    device = learner.head.weight.device
    kept_on_cpu = {"writer.generator"}
    stream = part(tensors, "stream.")
    learner.stream.load_state_dict(
        {name: value if name in kept_on_cpu else value.to(device) for name, value in stream.items()}
    )
    learner.steps, learner.updates, learner.skipped = facts["counts"]
    learner.labels.load_state_dict(facts["open_steps"], part(tensors, "label."))
    learner._inputs.names = facts["names"]
    learner.ledger = CreditLedger.from_json(facts["ledger"])
    return learner


def _fill(path: str | Path, parameters: list[nn.Parameter], saved: dict[str, Tensor]) -> None:
    own = [tuple(parameter.shape) for parameter in parameters]
    given = [tuple(saved[str(index)].shape) for index in range(len(saved))]
    if own != given:
        raise ValueError(
            f"{path}: holds parameters of shapes {given}, but the learner has {own}. "
            f"Pass the encoder that it was saved with."
        )
    with torch.no_grad():
        for index, parameter in enumerate(parameters):
            parameter.copy_(saved[str(index)])


def _fill_optimizer(path: str | Path, learner: OnlineLearner, groups: list[Any], saved: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in saved.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = value
    try:
        learner.optimizer.load_state_dict({"state": state, "param_groups": groups})
    except (ValueError, KeyError) as error:
        raise ValueError(f"{path}: saved with another optimizer ({error}). Pass the one it was saved with.") from error
