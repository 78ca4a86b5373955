"""What every core shares: the call signature of an nn.LSTM-like module, and the checks at its boundary.

Dimensions: T steps, B rows, I input size, H hidden size.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Generic, NoReturn, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.rnn import PackedSequence
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from sab_agents.checks import above_zero, at_least
from sab_agents.core.state import State, register_state
from sab_agents.kernels import all_finite

StateT = TypeVar("StateT", bound=State)


class Core(nn.Module, ABC, Generic[StateT]):
    """A recurrent module that reads a sequence, carries a state, and knows where episodes start.

    Subclasses implement `initial_state` and `_run`; `forward` and `step` check their arguments and call `_run`.

    Args:
        input_size: I, numbers in one input.
        hidden_size: H.
        output_size: numbers in one output.
        batch_first: sequences are (B, T, …) instead of (T, B, …), as in `nn.LSTM`. `step` is not affected.
    """

    state_class: type[StateT]

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if "state_class" in vars(cls):
            register_state(cls.state_class)

    def __init__(self, input_size: int, hidden_size: int, output_size: int, *, batch_first: bool = False) -> None:
        super().__init__()
        self.input_size = at_least(type(self).__name__, "input_size", input_size, 1)
        self.hidden_size = at_least(type(self).__name__, "hidden_size", hidden_size, 1)
        self.output_size = int(output_size)  # which may be NumPy's
        self.batch_first = batch_first

    @abstractmethod
    def initial_state(self, batch_size: int) -> StateT:
        """The state of `batch_size` rows at the start of an episode."""

    def _checked_rows(self, batch_size: int) -> int:
        """Returns the rows that `initial_state` was asked for, as an int or as an export's symbol for one."""
        if isinstance(batch_size, torch.SymInt):
            return batch_size
        return at_least(f"{type(self).__name__}.initial_state", "batch_size", batch_size, 1)

    @abstractmethod
    def _run(self, x: Tensor, state: StateT, episode_start: Tensor | None) -> tuple[Tensor, StateT]:
        """Computes checked, time-major arguments: x (T, B, I) with T ≥ 1, episode_start (T, B) bool or None."""

    def forward(
        self, x: Tensor, state: StateT | None = None, episode_start: Tensor | None = None
    ) -> tuple[Tensor, StateT]:
        """Runs a whole sequence.

        Args:
            x: (T, B, I) inputs, or (B, T, I) with `batch_first`.
            state: carried from an earlier call; None starts every row's episode.
            episode_start: (T, B) bool, or (B, T) with `batch_first`: True where x is an episode's first observation.

        Returns:
            (T, B, output_size) outputs, or (B, T, output_size), and the state after the last step.

        Raises:
            TypeError: an argument is not a tensor or not this core's state.
            ValueError: shapes, dtypes or devices do not fit, or x is not finite.

        Under `torch.autocast` on a CPU, x may have any floating-point dtype, and all is computed in the parameters'.
        """
        x, state, episode_start = self._checked_sequence(x, state, episode_start)
        if x.shape[0] == 0:
            output = x.new_zeros(0, x.shape[1], self.output_size)
        else:
            with _without_autocast():
                output, state = self._run(x, state, episode_start)
        return (output.transpose(0, 1) if self.batch_first else output), state

    def step(
        self, x: Tensor, state: StateT | None = None, episode_start: Tensor | None = None
    ) -> tuple[Tensor, StateT]:
        """Runs one step: x (B, I), episode_start (B,) bool; returns (B, output_size) and the new state.

        Equals `forward` on a sequence of length 1, and raises as it does.
        """
        name = f"{type(self).__name__}.step"
        x, state = self._checked(name, x, state, ndim=2, form="(B, I)")
        if episode_start is not None:
            episode_start = self._checked_episode_start(name, episode_start, x, (x.shape[0],)).unsqueeze(0)
        with _without_autocast():
            output, state = self._run(x.unsqueeze(0), state, episode_start)
        return output.squeeze(0), state

    def fixed_state(self, batch_size: int, max_steps: int | None = None) -> StateT:  # noqa: ARG002
        """Returns the state at the start of an episode, in a size that `plain_step` keeps: zeros.

        Args:
            batch_size: B.
            max_steps: steps of the longest episode, for a core whose state grows with it: `plain_step` forgets the
                oldest steps beyond them. Others ignore it.

        Raises:
            ValueError: the state grows and `max_steps` is None.
        """
        return self.initial_state(batch_size)

    def plain_step(self, x: Tensor, state: StateT) -> tuple[Tensor, StateT]:
        """Runs one step in operations that can be exported: no native kernel, no branch on data, no change of size.

        Args:
            x: (B, I) inputs.
            state: of `fixed_state`, or what the last call returned; it is reset where an episode starts.

        Returns:
            (B, output_size) and the new state, those of `step`.
        """
        output, state = self._run(x.unsqueeze(0), state, None)
        return output.squeeze(0), state

    def __prepare_scriptable__(self) -> NoReturn:
        """Raises TypeError: `torch.jit.script`, which calls this first, knows neither states nor kernels."""
        raise TypeError(
            f"{type(self).__name__}: torch.jit.script does not know its states. Use torch.export, or export a trained "
            "policy by `sab-agents export`."
        )

    def _have_types(self, x: Any, state: Any, episode_start: Any) -> bool:
        """Whether the arguments of a step have the types that they must have; what else there is, `_checked` knows."""
        known = isinstance(x, Tensor) and isinstance(state, self.state_class)
        if torch.is_autocast_enabled("cpu"):  # which `_checked` knows to take
            return False
        return known and (episode_start is None or isinstance(episode_start, Tensor))

    @property
    def like(self) -> Tensor:
        """A parameter, for the dtype and device of all; `parameters()` would take as long as a step to find one."""
        for module in (self, *self._modules.values()):
            if module is not None:
                for parameter in module._parameters.values():
                    if parameter is not None:
                        return parameter
        return next(self.parameters())

    def _checked_sequence(
        self, x: Tensor, state: StateT | None, episode_start: Tensor | None
    ) -> tuple[Tensor, StateT, Tensor | None]:
        name = f"{type(self).__name__}.forward"
        form = "(B, T, I)" if self.batch_first else "(T, B, I)"
        x, state = self._checked(name, x, state, ndim=3, form=form)
        if episode_start is not None:
            episode_start = self._checked_episode_start(name, episode_start, x, tuple(x.shape[:2]))
        if self.batch_first:
            x = x.transpose(0, 1)
            episode_start = None if episode_start is None else episode_start.transpose(0, 1)
        return x, state, episode_start

    def _checked(self, name: str, x: Any, state: StateT | None, *, ndim: int, form: str) -> tuple[Tensor, StateT]:
        if not isinstance(x, Tensor) or x.layout is not torch.strided:
            raise TypeError(f"{name}: x must be a dense tensor of shape {form}, but is {_kind(x)}.")
        if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            raise TypeError(
                f"{name}: torch.jit.trace would fix sizes and branches of this call. Use torch.export on plain_step, "
                "or export a trained policy by `sab-agents export`."
            )
        if x.dim() != ndim or x.shape[-1] != self.input_size:
            raise ValueError(
                f"{name}: x must have shape {form} with I = {self.input_size}, but has {tuple(x.shape)}."
                + (" Use x.unsqueeze to add the missing axis." if x.dim() == ndim - 1 else "")
            )
        weight = self.like
        if x.is_cpu and x.is_floating_point() and torch.is_autocast_enabled("cpu"):
            x = x.to(weight.dtype)
        if x.dtype != weight.dtype or x.device != weight.device:
            raise ValueError(
                f"{name}: x must be {weight.dtype} on {weight.device} like the parameters, "
                f"but is {x.dtype} on {x.device}. Use x.to({weight.dtype}) or move the module."
            )
        if not all_finite(x):
            raise ValueError(f"{name}: x must be finite, but holds NaN or infinity. Clean the input first.")
        batch_size = x.shape[0] if ndim == 2 or self.batch_first else x.shape[1]
        if batch_size == 0:
            raise ValueError(f"{name}: x must have at least one row, but has shape {tuple(x.shape)}. Skip the call.")
        if state is None:
            return x, self.initial_state(batch_size)
        if not isinstance(state, self.state_class):
            raise TypeError(
                f"{name}: state must be a {self.state_class.__name__}, but is {type(state).__name__}. "
                f"Pass the state that this module returned."
            )
        if state.batch_size != batch_size:
            raise ValueError(
                f"{name}: x has {batch_size} rows but state has {state.batch_size}. "
                f"Build the state with initial_state({batch_size}), one row per environment."
            )
        self._check_state(name, state)
        return x, state

    def _check_state(self, name: str, state: StateT) -> None:
        """Refuses a state of another dtype, device or size; subclasses add their own sizes."""
        weight = self.like
        for tensor in state.tensors():
            wrong_dtype = tensor.is_floating_point() and tensor.dtype != weight.dtype
            if wrong_dtype or tensor.device != weight.device:
                raise ValueError(
                    f"{name}: state must be {weight.dtype} on {weight.device} like the parameters, "
                    f"but is {tensor.dtype} on {tensor.device}. Use state.to(device, dtype)."
                )

    def _checked_episode_start(self, name: str, episode_start: Any, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        if not isinstance(episode_start, Tensor) or episode_start.dtype != torch.bool:
            kind = episode_start.dtype if isinstance(episode_start, Tensor) else type(episode_start).__name__
            raise TypeError(
                f"{name}: episode_start must be a bool tensor of shape {shape}, but is {kind}. "
                f"Use torch.as_tensor(episode_start, dtype=torch.bool)."
            )
        if tuple(episode_start.shape) != shape:
            raise ValueError(
                f"{name}: episode_start must have shape {shape}, one flag per step and row of x, "
                f"but has {tuple(episode_start.shape)}."
            )
        return episode_start.to(x.device)


def _without_autocast() -> AbstractContextManager[Any]:
    """Returns a context in which a CPU computes in the parameters' dtype: a state in bfloat16 would forget."""
    return torch.autocast("cpu", enabled=False) if torch.is_autocast_enabled("cpu") else nullcontext()


def _kind(x: Any) -> str:
    """What an argument is that should be a dense tensor, and how to make it one."""
    if isinstance(x, PackedSequence):
        return "a PackedSequence. Use torch.nn.utils.rnn.pad_packed_sequence, and ignore outputs beyond a row's end"
    if isinstance(x, Tensor):
        return f"of layout {x.layout}. Use x.to_dense()"
    return type(x).__name__ + (". Use torch.from_numpy" if type(x).__module__ == "numpy" else "")


def recompute_weights(*modules: nn.Module | None) -> None:
    """Recomputes the weights that are computed when a module is called, for modules whose weights are used directly.

    Those are the weights of pruned modules, and of the `weight_norm` and `spectral_norm` that are registered as hooks.
    A parametrisation (`torch.nn.utils.parametrize`) computes a weight whenever it is asked for.
    """
    for module in modules:
        if module is None:
            continue
        for hook in tuple(module._forward_pre_hooks.values()):
            if isinstance(hook, BasePruningMethod | SpectralNorm | WeightNorm):
                hook(module, ())


class leaves_of:  # noqa: N801 - it is used as a function
    """Gives leaves in place of computed weights, to a function that adds to the `.grad` of what it gets.

    What it left there is backpropagated at the end to the parameters that the weights were computed from. A class,
    because a generator takes twice as long and every step of an agent enters several.

    Args:
        weights: parameters, or what is computed from parameters.
    """

    __slots__ = ("_leaves", "_weights")

    def __init__(self, weights: Sequence[Tensor]) -> None:
        self._weights = tuple(weights)

    def __enter__(self) -> tuple[Tensor, ...]:
        leaves = []
        for weight in self._weights:
            leaf = weight
            if not weight.is_leaf:
                leaf = weight.detach().requires_grad_()
                leaf.grad = torch.zeros_like(leaf)
            leaves.append(leaf)
        self._leaves = tuple(leaves)
        return self._leaves

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            return
        for weight, leaf in zip(self._weights, self._leaves, strict=True):
            if leaf is not weight and leaf.grad is not None:
                weight.backward(leaf.grad)  # type: ignore[no-untyped-call]


def draw_input_weights(core: nn.Module, gain: float | None) -> None:
    """Draws the input weights of all layers of an LSTM or a GRU uniform in ±gain · √(3 / I); None leaves them.

    Raises:
        ValueError: the gain is not a number above 0.
    """
    if gain is None:
        return
    above_zero(type(core).__name__, "input_gain", gain)
    for name, parameter in core.named_parameters():
        if "weight_ih" in name:
            bound = gain * math.sqrt(3 / parameter.shape[1])
            nn.init.uniform_(parameter, -bound, bound)
