"""A trained policy's step as a file that runs without this library: `torch.export` or ONNX, state in and out.

Dimensions: B rows.
"""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import preprocess_obs
from torch import Tensor, nn

from sab_agents.checks import at_least
from sab_agents.core.state import State
from sab_agents.ppo.observations import for_extractor
from sab_agents.ppo.policies import RecurrentActorCriticPolicy
from sab_agents.ppo.recurrent_ppo import RecurrentPPO

METADATA = "sab_agents"
"""The name under which a file says what it holds: in an ONNX model's metadata, and as an extra file of a `.pt2`."""

EXAMPLE_ROWS = 2  # torch.export takes 0 and 1 for constants

Observation = Tensor | dict[str, Tensor]
ModuleT = TypeVar("ModuleT", bound=nn.Module)


def export_policy(
    model: RecurrentPPO | RecurrentActorCriticPolicy,
    path: str | Path,
    *,
    batch_size: int | None = None,
    max_steps: int | None = None,
) -> Path:
    """Writes one step of a policy: observation, state and episode start in; action and next state out.

    The action is the likeliest, within the bounds of a Box, as that of `policy.predict(…, deterministic=True)`. Nothing
    is carried inside: the state is zeros at first, and each call's new state is the next call's state. If
    `episode_start` is True, the row's state counts as zeros.

    In ONNX the inputs are named `observation` (of a Dict: `observation_KEY` for each key), `state_NAME` for each tensor
    of the state, and `episode_start`; the outputs `action` and `new_state_NAME`. A `.pt2` holds a `PolicyStep` and
    takes the same as (observation, state, episode_start), where state is a tuple and a Dict observation a dict.
    In both the metadata `sab_agents` (JSON) names the policy, and the state with shapes (without rows) and dtypes.

    The file holds the policy alone: an observation that a wrapper normalises or stacks must be passed normalised or
    stacked.

    Args:
        model: trained, or its policy.
        path: ends in `.onnx` or in `.pt2`.
        batch_size: rows of every call; None for any number.
        max_steps: steps of the longest episode, for a policy whose state grows: `AttentionLstm`, and `Transformer`
            without a `context`. Beyond it the oldest steps are forgotten.

    Returns:
        The path.

    Raises:
        TypeError: the model or a size is of the wrong type.
        ValueError: the suffix is unknown, a size is out of range, `max_steps` is missing, or the eviction is random.
        ImportError: ONNX is asked for and not installed.

    Examples:
        >>> import tempfile
        >>> from sab_agents import RecurrentPPO
        >>> from sab_agents.ppo import export_policy
        >>> model = RecurrentPPO("MlpSabPolicy", "CartPole-v1", policy_kwargs={"lstm_hidden_size": 16})
        >>> export_policy(model, tempfile.mkdtemp() + "/cartpole.pt2").name
        'cartpole.pt2'
    """
    path = Path(path)
    if path.suffix not in {".onnx", ".pt2"}:
        raise ValueError(f'export_policy: path must end in ".onnx" or ".pt2", but is {str(path)!r}.')
    policy = model.policy if isinstance(model, RecurrentPPO) else model
    if not isinstance(policy, RecurrentActorCriticPolicy):
        raise TypeError(
            f"export_policy: model must be a RecurrentPPO or one of its policies, but is {type(model).__name__}."
        )
    if batch_size is not None:
        batch_size = at_least("export_policy", "batch_size", batch_size, 1)
    if max_steps is not None:
        max_steps = at_least("export_policy", "max_steps", max_steps, 1)
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


class PolicyStep(nn.Module):
    """One step of a policy as a function: observation, state and episode start to action and next state.

    The action is the likeliest, within the space's bounds: that of `policy.predict(…, deterministic=True)`.

    Args:
        policy: whose weights are copied, to the CPU.
        max_steps: steps of the longest episode, for a core whose state grows.

    Raises:
        ValueError: the state grows and `max_steps` is None; or the policy overrides `extract_features`.
    """

    low: Tensor
    high: Tensor
    output_scale: Tensor | None

    def __init__(self, policy: RecurrentActorCriticPolicy, max_steps: int | None = None) -> None:
        super().__init__()
        self.observation_space, self.action_space = policy.observation_space, policy.action_space
        if policy.overrides_features:
            raise ValueError(
                f"export_policy: the features must be those of an extractor, but {type(policy).__name__} overrides "
                "extract_features. Move its code into a features_extractor_class."
            )
        self.normalize_images = policy.normalize_images
        self.extractor = _copied(policy.pi_features_extractor)
        self.core = _copied(policy.actor_core)
        self.stream = policy.core_settings.make_stream(self.core)
        self.max_steps = max_steps
        scale = policy.output_scale
        self.register_buffer("output_scale", None if scale is None else scale.cpu().clone(), persistent=False)
        self.mlp, self.head = _copied(policy.mlp_extractor.policy_net), _copied(policy.action_net)
        self.squashed = policy.squash_output
        if isinstance(self.action_space, spaces.Box):
            self.register_buffer("low", torch.as_tensor(self.action_space.low), persistent=False)
            self.register_buffer("high", torch.as_tensor(self.action_space.high), persistent=False)
        self.eval()
        self.initial_state(1)

    def initial_state(self, rows: int) -> State:
        """Returns the state at the start of an episode: zeros; its fields name the tensors."""
        state: State = self.stream.fixed_state(rows, self.max_steps)
        return state

    def forward(
        self, observation: Observation, state: tuple[Tensor, ...], episode_start: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Takes a step of B rows.

        Args:
            observation: (B, …) in the space's dtype, or a dict of them; images with channels first, as in the policy's
                own observation space.
            state: the tensors of `initial_state`, or what the last call returned.
            episode_start: (B,) bool, True where the observation is an episode's first.

        Returns:
            Actions (B, …), and the next state.
        """
        before = type(self.initial_state(1))(*state).reset(episode_start)
        numbered = for_extractor(self.observation_space, observation)
        seen: Any = preprocess_obs(numbered, self.observation_space, normalize_images=self.normalize_images)
        output, after = self.stream.plain_act(self.extractor(seen), before)
        if self.output_scale is not None:
            output = output * self.output_scale
        return self._likeliest(self.head(self.mlp(output))), after.tensors()

    def _likeliest(self, parameters: Tensor) -> Tensor:
        """Returns the likeliest actions (B, …) of distributions with these parameters, the head's outputs (B, …)."""
        space = self.action_space
        if isinstance(space, spaces.Discrete):
            return parameters.argmax(dim=1) + int(space.start)
        if isinstance(space, spaces.MultiDiscrete):
            parts = torch.split(parameters, space.nvec.ravel().tolist(), dim=1)
            return torch.stack([part.argmax(dim=1) for part in parts], dim=1) + torch.as_tensor(space.start)
        if isinstance(space, spaces.MultiBinary):
            return (parameters > 0).to(parameters.dtype)
        actions = parameters.reshape(-1, *(space.shape or ()))
        if self.squashed:
            return self.low + 0.5 * (torch.tanh(actions) + 1.0) * (self.high - self.low)
        return torch.clamp(actions, self.low, self.high)


def _copied(module: ModuleT) -> ModuleT:
    return copy.deepcopy(module).cpu()


def exported(step: PolicyStep, batch_size: int | None = None) -> torch.export.ExportedProgram:
    """Returns a policy's step as a graph for `batch_size` rows, or for any number."""
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
        written: Any = torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            input_names=inputs,
            output_names=["action", *(f"new_state_{name}" for name in state)],
            # Whether the axis is dynamic is known from the program; its name is given once, for all inputs.
            dynamic_shapes=({0: "batch"}, *[None] * (len(inputs) - 1)),
            custom_translation_table=_translations(),
        )
    written.model.metadata_props[METADATA] = metadata
    written.save(path)


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
    """Returns ONNX for the operations that torch's exporter does not translate."""
    op: Any = import_module("onnxscript").opset18

    def distances(x: Any, y: Any, p: float, compute_mode: int | None) -> Any:  # noqa: ARG001
        """`torch.cdist` of (…, P, H) and (…, R, H); all of ours are Euclidean."""
        between = op.Sub(op.Unsqueeze(x, op.Constant(value_ints=[-2])), op.Unsqueeze(y, op.Constant(value_ints=[-3])))
        return op.ReduceL2(between, op.Constant(value_ints=[-1]), keepdims=0)

    def stable_sort(x: Any, *, stable: bool, dim: int = -1, descending: bool = False) -> Any:  # noqa: ARG001
        """`torch.sort`; of equal values TopK takes the one with the lower index first, by its definition."""
        count = op.Gather(op.Shape(x), op.Constant(value_ints=[dim]))
        return op.TopK(x, count, axis=dim, largest=int(descending))

    return {torch.ops.aten._cdist_forward.default: distances, torch.ops.aten.sort.stable: stable_sort}


def _description(step: PolicyStep) -> dict[str, dict[str, Sequence[int] | str]]:
    """Returns of each tensor of the state its shape without rows, and its dtype by numpy's name."""
    state = step.initial_state(1)
    tensors = {field.name: getattr(state, field.name) for field in fields(state)}
    return {
        name: {"shape": list(tensor.shape[1:]), "dtype": tensor.numpy().dtype.name} for name, tensor in tensors.items()
    }


def _zeros(space: spaces.Space[Any], rows: int) -> Tensor | dict[str, Tensor]:
    """Returns observations of zeros, or of a discrete space's first numbers, in the space's own dtype."""
    if isinstance(space, spaces.Dict):
        return {key: _zeros(part, rows) for key, part in space.spaces.items()}  # type: ignore[misc]
    start: Any = space.start if isinstance(space, spaces.Discrete | spaces.MultiDiscrete) else 0
    return torch.as_tensor(np.zeros((rows, *(space.shape or ())), space.dtype) + np.asarray(start, space.dtype))
