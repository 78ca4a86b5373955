"""What every stream of a core can do, whatever carries credit to the steps before the present window.

A stream runs B endless rows of one core. It takes steps without gradient, replays the steps since the last update (the
*window*) with gradient, passes credit on to what lies before the window, and ends the window. There is one class for
each way in which credit reaches the past: `SABStream` through memory slots, `RealTimeStream` by real-time recurrent
learning, `TruncatedStream` not at all.

Dimensions: T steps of a window, B rows, b rows of a replay, S slots, I input size, F output size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, Protocol, TypeVar

import torch
from torch import Tensor, nn

from sab_agents.checks import at_least
from sab_agents.core.base import Core
from sab_agents.kernels import Replay, all_finite
from sab_agents.streaming.window import ClosedWindow, Credit, Window

P = ParamSpec("P")
Result = TypeVar("Result")

Encode = Callable[[Tensor], Tensor]
"""From observations (N, …) to inputs of the core (N, I); gradient flows into its parameters."""


class Step(Protocol):
    """A step that was computed and not yet taken."""

    @property
    def output(self) -> Tensor:
        """(B, F)."""


class Stream(ABC):
    """B endless rows of one core.

        output = stream.step(observation)            # any number of times
        replay = stream.replay()                     # the same outputs, and what takes their gradient
        replay.backward(gradient)
        stream.credit()
        optimizer.step()
        stream.advance()                             # the window is over, learnt from or not

    Args:
        core: whose parameters are used as they are at each call.
        rows: B.
        encoder: makes inputs (N, I) of observations (N, …); it is replayed with the core. None passes observations on.
        observation_shape: of one observation; None is (I,).

    Raises:
        TypeError: `rows` is not an int.
        ValueError: `rows` is below 1.

    Attributes:
        state: after the last step: everything that `act` carries.
    """

    state: Any
    _window: Window

    def __init__(
        self,
        core: Core[Any],
        rows: int = 1,
        *,
        encoder: nn.Module | None = None,
        observation_shape: tuple[int, ...] | None = None,
    ) -> None:
        self.core: Any = core
        self.rows = at_least(type(self).__name__, "rows", rows, 1)
        self.encoder = nn.Identity() if encoder is None else encoder
        self.observation_shape = (core.input_size,) if observation_shape is None else tuple(observation_shape)
        self._encodes = encoder is not None

    @property
    @abstractmethod
    def before(self) -> Any:
        """The state before the window."""

    @property
    @abstractmethod
    def steps(self) -> int:
        """T, the steps in the window."""

    def recorded(self) -> dict[str, Tensor]:
        """Returns what was recorded of the window's steps, (T, B, …) by name; views, which later steps overwrite."""
        return self._window.state_dict()

    @abstractmethod
    def reset(self) -> None:
        """Puts every row at the start of an episode and forgets everything that was recorded."""

    @abstractmethod
    def peek(self, observation: Tensor, episode_start: Tensor | None = None, x: Tensor | None = None) -> Step:
        """Computes the next step and leaves the stream as it is; arguments and errors are those of `step`.

        Of what was computed only the output may be used after the next call.
        """

    @abstractmethod
    def take(self, step: Any) -> None:
        """Takes the step that `peek` computed last, and records it."""

    def step(self, observation: Tensor, episode_start: Tensor | None = None, x: Tensor | None = None) -> Tensor:
        """Takes one step without gradient and records it.

        Args:
            observation: (B, …).
            episode_start: (B,) bool, rows whose episode begins with the observation; None for none.
            x: (B, I) what the encoder makes of the observation, if the caller has it already.

        Returns:
            (B, F) outputs.

        Raises:
            ValueError: a shape, dtype or device does not fit, or the observation is not finite. Nothing has changed.
        """
        step = self.peek(observation, episode_start, x)
        self.take(step)
        return step.output

    def take_steps(self, observations: Tensor, starts: Tensor) -> None:
        """Takes T steps as `step` does, one after the other, for a caller who needs no outputs.

        Args:
            observations: (T, B, …).
            starts: (T, B) bool, episode starts.

        Raises:
            ValueError: as `step`; the steps before the one that is wrong have been taken.
        """
        for observation, start in zip(observations, starts, strict=True):
            self.step(observation, start)

    @abstractmethod
    def window(self) -> Tensor:
        """Replays the steps since the last `advance` and returns (T, B, F) what `step` returned for them, with a graph.

        Raises:
            RuntimeError: there is none.
        """

    @abstractmethod
    def replay(self) -> Replay:
        """Replays the window for a caller who needs no graph. The gradient must be there before the next step is taken.

        If no graph is needed to compute the gradient, none is built, and hooks of the parameters are not called.

        Raises:
            RuntimeError: as `window`.
        """

    @abstractmethod
    def credit(self, gradient: Tensor | None = None) -> Credit:
        """Passes the gradient that reached what lies before the window on to the steps that made it.

        Args:
            gradient: (B, S, H) of the memory before the window, of a core with slots; None takes what `backward` left.

        Raises:
            RuntimeError: the window was not replayed.
        """

    @abstractmethod
    def advance(self) -> None:
        """Ends the window, learnt from or not."""

    @abstractmethod
    def close(self) -> ClosedWindow:
        """Ends the window as `advance` does, and returns it, to be learnt from later and more than once.

        Raises:
            RuntimeError: no step was taken since the last time.
        """

    def discard(self) -> None:
        """Ends a window from which nobody will learn. What it remembers stays."""
        self.advance()

    @abstractmethod
    def refresh(self) -> None:
        """Recomputes what is remembered of the past with today's weights, where anything but the state is."""

    @abstractmethod
    def step_and_replay(self, observation: Tensor, episode_start: Tensor | None = None) -> Tensor:
        """Takes a step, replays the present segment with today's weights and returns its last output, (B, F).

        A segment that is full, or whose episode is over, ends as by `advance`. For a learner who learns from the output
        of every step: see `backward`. Arguments and errors are those of `step`.
        """

    @abstractmethod
    def backward(self, gradient: Tensor) -> None:
        """Backpropagates from the last output of `step_and_replay` into the segment, and credits what lies before.

        Args:
            gradient: (B, F) of that output.

        Raises:
            RuntimeError: there is no such output.
            TypeError: the gradient is not a tensor.
            ValueError: it has another shape or dtype than the output.
        """

    def _require_gradient(self, gradient: Tensor) -> None:
        """Raises TypeError or ValueError if this is no gradient of an output of `step_and_replay`."""
        name, shape, like = type(self).__name__, (self.rows, self.core.output_size), self._held()
        if not isinstance(gradient, Tensor):
            raise TypeError(
                f"{name}.backward: the gradient must be a tensor of shape {shape}, but is {type(gradient).__name__}."
            )
        if gradient.shape != shape or gradient.dtype is not like.dtype or gradient.device != like.device:
            raise ValueError(
                f"{name}.backward: the gradient must be {like.dtype} of shape {shape} on {like.device}, as the output, "
                f"but is {gradient.dtype} of shape {tuple(gradient.shape)} on {gradient.device}."
            )

    @abstractmethod
    def initial_state(self, rows: int) -> Any:
        """Returns the state of `rows` rows at the start of an episode, for `act`."""

    @abstractmethod
    def act(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Takes one step of independent rows apart from the stream, without gradient.

        The rules are those of `step`: the same state and inputs leave the same memory.

        Args:
            x: (b, I) inputs.
            state: of the rows, reset where an episode starts.

        Returns:
            (b, F) outputs and the state after the step.
        """

    def unroll(self, x: Tensor, state: Any, start: Tensor) -> tuple[Tensor, Any]:
        """Takes T steps of independent rows apart from the stream, with gradient unless that is disabled.

        Args:
            x: (T, b, I) inputs.
            state: of the rows.
            start: (T, b) bool, episode starts.

        Returns:
            (T, b, F) outputs and the state after the steps. Without gradient they are those of `act`, bit for bit.
        """
        if torch.is_grad_enabled():
            unrolled: tuple[Tensor, Any] = self.core(x, state, start)
            return unrolled
        return stepped(self.act, x, state, start)

    def remembered(self) -> Tensor:
        """Returns the observations (M, …) that may be replayed: of pieces that hold a slot, and of the window."""
        return torch.empty(0, *self.observation_shape)

    def fixed_state(self, rows: int, max_steps: int | None = None) -> Any:
        """Returns the state that `initial_state` returns, in a size that `plain_act` keeps.

        Args:
            rows: of the state.
            max_steps: steps of the longest episode, for a core whose state grows with it.

        Raises:
            ValueError: the state grows and `max_steps` is None.
        """
        return self.core.fixed_state(rows, max_steps)

    def plain_act(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Takes one step as `act` does, in operations that `torch.export` can trace; see `Core.plain_step`.

        Args:
            x: (b, I) inputs.
            state: of `fixed_state`, or what the last call returned, reset where an episode starts.

        Returns:
            (b, F) outputs and the state after the step.
        """
        acted: tuple[Tensor, Any] = self.core.plain_step(x, state)
        return acted

    @abstractmethod
    def state_dict(self) -> dict[str, Tensor]:
        """Returns everything that is carried, the open window included, as tensors under plain names.

        The parameters of core and encoder are not among them.
        """

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Resumes where `state_dict` was called on a stream with the same settings.

        Raises:
            ValueError: a tensor is missing, unexpected, or of another shape or dtype. Nothing has changed.
        """
        self._require_followed(self.core.like)
        state = self._updated(state)
        self._refuse_others(state)
        self._load(state)

    def _refuse_others(self, state: dict[str, Tensor]) -> None:
        """Raises ValueError if the tensors are not those of a stream like this one."""
        prefix = "window."
        recorded = {name for name in state if name.startswith(prefix)}
        at_times = {name: like for name, like in self._carried_at_times().items() if name in state}
        carried = self._carried_like() | at_times
        forms = {name: (tuple(like.shape), like.dtype) for name, like in carried.items()}
        if recorded:
            steps = len(state[min(recorded)])
            record = {f"{prefix}{name}": like for name, like in self._recorded_like().items()}
            forms |= {name: ((steps, *like.shape), like.dtype) for name, like in record.items()}
        for name in sorted(forms.keys() | state.keys()):
            form, value = forms.get(name), state.get(name)
            if form is None or value is None or not _has_form(value, *form):
                raise ValueError(
                    f"{type(self).__name__}.load_state_dict: {name} must be {_described(form)}, but is "
                    f"{_described(None if value is None else (tuple(value.shape), value.dtype))}. "
                    f"Load into a stream with the same core, rows and settings."
                )

    def _require_followed(self, like: Tensor) -> None:
        """Converts what is carried and the open window if the core was converted to another dtype or device.

        Args:
            like: one of the core's weights.
        """
        held = self._held()
        if like.dtype is not held.dtype or like.device != held.device:
            self._load({name: _moved(value, like) for name, value in self.state_dict().items()})

    @abstractmethod
    def _held(self) -> Tensor:
        """Returns a tensor of the dtype and on the device of what is carried."""

    def _updated(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Returns what `state_dict` gives today, from what an earlier version gave."""
        return state

    @abstractmethod
    def _carried_like(self) -> dict[str, Tensor]:
        """Returns tensors like those of `state_dict` but the window's; an axis of size 0 may have any size there."""

    def _carried_at_times(self) -> dict[str, Tensor]:
        """Returns tensors like those that `state_dict` has at times only."""
        return {}

    @abstractmethod
    def _recorded_like(self) -> dict[str, Tensor]:
        """Returns tensors (B, …) like those that are recorded of a step."""

    @abstractmethod
    def _load(self, state: dict[str, Tensor]) -> None:
        """Takes a checked state that `state_dict` returned."""

    def _encoded(self, observation: Tensor) -> Tensor:
        """Returns what the encoder makes of observations, without gradient."""
        if not self._encodes:
            return observation
        with torch.no_grad():
            x: Tensor = self.encoder(observation)
        return x


def in_own_modes(method: Callable[P, Result]) -> Callable[P, Result]:
    """Makes a method of a learner compute as ever under `no_grad`, `inference_mode` and autocast on a CPU.

    Without gradients some would learn nothing, without a word; a state in bfloat16 would forget.
    """

    @wraps(method)
    def called(*args: P.args, **kwargs: P.kwargs) -> Result:
        usual = torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
        if usual and not torch.is_autocast_enabled("cpu"):
            return method(*args, **kwargs)
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast("cpu", enabled=False):
            return method(*args, **kwargs)

    return called


def stepped(
    step: Callable[[Tensor, Any], tuple[Tensor, Any]], x: Tensor, state: Any, start: Tensor
) -> tuple[Tensor, Any]:
    """Returns the outputs (T, b, F) of steps that are taken one after the other, and the state after them.

    Args:
        step: takes inputs (b, I) and a state to outputs (b, F) and the next state.
        x: (T, b, I).
        state: of the rows.
        start: (T, b) bool, where the state is reset.
    """
    outputs = []
    for each, starts in zip(x, start, strict=True):
        output, state = step(each, state.reset(starts) if bool(starts.any()) else state)
        outputs.append(output)
    return torch.stack(outputs), state


def _has_form(value: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> bool:
    sizes = zip(value.shape, shape, strict=False)
    return value.dtype is dtype and value.dim() == len(shape) and all(size in (own, 0) for own, size in sizes)


def _described(form: tuple[tuple[int, ...], torch.dtype] | None) -> str:
    return "absent" if form is None else f"of shape {form[0]} and dtype {form[1]}"


def _moved(value: Tensor, like: Tensor) -> Tensor:
    return value.to(device=like.device, dtype=like.dtype if value.is_floating_point() else value.dtype)


def checked_step(
    name: str, observation: Any, episode_start: Any, rows: int, shape: tuple[int, ...], like: Tensor
) -> tuple[Tensor, Tensor]:
    """Returns the observation and the flags of episode starts, (rows,) bool, of one step.

    Raises:
        ValueError: a shape, dtype or device does not fit, or the observation is not finite.
    """
    whole = (rows, *shape)
    if not isinstance(observation, Tensor) or tuple(observation.shape) != whole:
        received = tuple(observation.shape) if isinstance(observation, Tensor) else type(observation).__name__
        raise ValueError(
            f"{name}.step: observation must be a tensor of shape {whole}, one row for each stream, but is {received}."
        )
    if observation.dtype != like.dtype or observation.device != like.device:
        raise ValueError(
            f"{name}.step: observation must be {like.dtype} on {like.device} like the parameters, "
            f"but is {observation.dtype} on {observation.device}. Convert it first."
        )
    if not all_finite(observation):
        raise ValueError(f"{name}.step: observation must be finite, but holds NaN or infinity. Clean it first.")
    if episode_start is None:
        return observation, torch.zeros(rows, dtype=torch.bool, device=like.device)
    if (
        not isinstance(episode_start, Tensor)
        or episode_start.dtype != torch.bool
        or tuple(episode_start.shape) != (rows,)
    ):
        received = (
            f"{episode_start.dtype} of shape {tuple(episode_start.shape)}"
            if isinstance(episode_start, Tensor)
            else type(episode_start).__name__
        )
        raise ValueError(f"{name}.step: episode_start must be a bool tensor of shape ({rows},), but is {received}.")
    return observation, episode_start.to(like.device)
