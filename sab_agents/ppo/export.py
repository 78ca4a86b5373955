"""A trained policy's step as a file that runs without this library: `torch.export` or ONNX, state in and out."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from sab_agents.checks import at_least
from sab_agents.ppo.export_steps import PolicyStep
from sab_agents.ppo.policies import RecurrentActorCriticPolicy
from sab_agents.ppo.recurrent_ppo import RecurrentPPO

METADATA = "sab_agents"
"""The name under which a file says what it holds: in an ONNX model's metadata, and as an extra file of a `.pt2`."""

EXAMPLE_ROWS = 2  # torch.export takes 0 and 1 for constants


def export_policy(
    model: RecurrentPPO | RecurrentActorCriticPolicy,
    path: str | Path,
    *,
    batch_size: int | None = None,
    max_steps: int | None = None,
) -> Path:
    """Writes one step of a policy: observation, state and episode start in; action and next state out.

    The action is the likeliest, within the bounds of a Box; the numbers are those of
    `policy.predict(…, deterministic=True)`. Nothing is carried inside: the state is zeros at first, and each call's new
    state is the next call's state. Where `episode_start` is True, the row's state counts as zeros.

    In ONNX the inputs are named `observation` (of a Dict: `observation_KEY` for each key), `state_NAME` for each tensor
    of the state, and `episode_start`; the outputs `action` and `new_state_NAME`. A `.pt2` holds a `PolicyStep` and
    takes the same as (observation, state, episode_start), where state is a tuple and a Dict observation a dict.
    In both the metadata `sab_agents` (JSON) names the policy, and the state with shapes (without rows) and dtypes.

    What a policy does not do is not in the file either: an observation that a wrapper normalises or stacks must be
    so before.

    Args:
        model: trained, or its policy.
        path: ends in `.onnx` or in `.pt2`.
        batch_size: rows of every call; None for any number.
        max_steps: steps of the longest episode, for a policy whose state grows: `AttentionLstm`, and `Transformer`
            without a `context`. Beyond it the oldest steps are forgotten.

    Returns:
        The path.

    Raises:
        TypeError: the model, a size or the policy's core is of another kind.
        ValueError: the suffix is unknown, a size is out of range, `max_steps` is missing, or the eviction is random.
        ImportError: ONNX is asked for and not installed.
    """
    path = Path(path)
    if path.suffix not in {".onnx", ".pt2"}:
        raise ValueError(f'export_policy: path must end in ".onnx" or ".pt2", but is {str(path)!r}.')
    policy = model.policy if isinstance(model, RecurrentPPO) else model
    if not isinstance(policy, RecurrentActorCriticPolicy):
        raise TypeError(
            f"export_policy: model must be a RecurrentPPO or one of its policies, but is {type(model).__name__}."
        )
    for name, size in (("batch_size", batch_size), ("max_steps", max_steps)):
        if size is not None:
            at_least("export_policy", name, size, 1)
    if path.suffix == ".onnx":
        _require_onnx()
    step = PolicyStep(policy, max_steps)
    program = exported(step, batch_size)
    metadata = json.dumps({"policy": type(policy).__name__, "max_steps": max_steps, "state": _description(step)})
    if path.suffix == ".pt2":
        torch.export.save(program, path, extra_files={METADATA: metadata})
    else:
        _write_onnx(step, program, path, metadata)
    return path


def exported(step: PolicyStep, batch_size: int | None = None) -> torch.export.ExportedProgram:
    """A policy's step as a graph for `batch_size` rows, or for any number."""
    rows = EXAMPLE_ROWS if batch_size is None else batch_size
    observation = _zeros(step.observation_space, rows)
    state = step.initial_state(rows).clone().tensors()  # one tensor twice would be taken for one input
    start = torch.zeros(rows, dtype=torch.bool)
    shapes = None
    if batch_size is None:
        batch = {0: torch.export.Dim("batch", min=1)}
        of_observation = dict.fromkeys(observation, batch) if isinstance(observation, dict) else batch
        shapes = {"observation": of_observation, "state": (batch,) * len(state), "episode_start": batch}
    with torch.no_grad():
        return torch.export.export(step, (observation, state, start), dynamic_shapes=shapes)


def _write_onnx(step: PolicyStep, program: torch.export.ExportedProgram, path: Path, metadata: str) -> None:
    space, state = step.observation_space, [field.name for field in fields(step.initial_state(1))]
    observations = [f"observation_{key}" for key in space.spaces] if isinstance(space, spaces.Dict) else ["observation"]
    inputs = [*observations, *(f"state_{name}" for name in state), "episode_start"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's exporter uses what torch has deprecated
        found: Any = torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            input_names=inputs,
            output_names=["action", *(f"new_state_{name}" for name in state)],
            # The axis is dynamic or not in the program; its name is asked for once, and is that of all inputs.
            dynamic_shapes=({0: "batch"}, *[None] * (len(inputs) - 1)),
            custom_translation_table=_translations(),
        )
    found.model.metadata_props[METADATA] = metadata
    found.save(path)


def _require_onnx() -> None:
    for package in ("onnx", "onnxscript"):
        try:
            import_module(package)
        except ImportError as error:
            raise ImportError(
                f"export_policy: an .onnx file needs {package}, which is not installed. "
                "Install it with: pip install 'sab-agents[export]'"
            ) from error


def _translations() -> dict[Any, Callable[..., Any]]:
    """What torch's exporter has no ONNX for."""
    op: Any = import_module("onnxscript").opset18

    def distances(x: Any, y: Any, p: float, compute_mode: int | None) -> Any:  # noqa: ARG001
        """`torch.cdist` of (…, P, H) and (…, R, H); all of ours are Euclidean."""
        between = op.Sub(op.Unsqueeze(x, op.Constant(value_ints=[-2])), op.Unsqueeze(y, op.Constant(value_ints=[-3])))
        return op.ReduceL2(between, op.Constant(value_ints=[-1]), keepdims=0)

    def stable_sort(x: Any, *, stable: bool, dim: int = -1, descending: bool = False) -> Any:  # noqa: ARG001
        """`torch.sort`; of equal numbers TopK takes the one with the lower index first, as its definition says."""
        count = op.Gather(op.Shape(x), op.Constant(value_ints=[dim]))
        return op.TopK(x, count, axis=dim, largest=int(descending))

    return {torch.ops.aten._cdist_forward.default: distances, torch.ops.aten.sort.stable: stable_sort}


def _description(step: PolicyStep) -> dict[str, dict[str, Sequence[int] | str]]:
    """Of each tensor of the state: its shape without rows, and its dtype as numpy names it."""
    state = step.initial_state(1)
    tensors = {field.name: getattr(state, field.name) for field in fields(state)}
    return {
        name: {"shape": list(tensor.shape[1:]), "dtype": tensor.numpy().dtype.name} for name, tensor in tensors.items()
    }


def _zeros(space: spaces.Space[Any], rows: int) -> Tensor | dict[str, Tensor]:
    """Observations in the space's own dtype."""
    if isinstance(space, spaces.Dict):
        return {key: _zeros(part, rows) for key, part in space.spaces.items()}  # type: ignore[misc]
    return torch.as_tensor(np.zeros((rows, *(space.shape or ())), space.dtype))
