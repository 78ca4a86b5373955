"""Streams through the cores without slots, with the interface of `SABStream`: what SAB is compared with.

Dimensions: T steps of a window, B rows, I input size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sab_agents.checks import at_least
from sab_agents.core.base import Core
from sab_agents.core.lstm import LSTM
from sab_agents.core.state import State
from sab_agents.kernels import Replay, graph_replay
from sab_agents.streaming.checks import checked_step
from sab_agents.streaming.rerun import Credit
from sab_agents.streaming.window import PlainStep, Window


class PlainStream:
    """Runs B streams through any core; gradient reaches back to the window's first step and no farther.

    Args:
        core: for example an `LSTM`. A core whose state grows with the stream cannot run endlessly.
        rows: B.
        encoder: makes inputs (N, I) of observations (N, …); None takes observations as they are.
        observation_shape: of one observation; None is (I,).

    Raises:
        TypeError: `rows` is not an int.
        ValueError: `rows` is below 1.
    """

    def __init__(
        self,
        core: Core[Any],
        rows: int = 1,
        *,
        encoder: nn.Module | None = None,
        observation_shape: tuple[int, ...] | None = None,
    ) -> None:
        self.core = core
        self.encoder = nn.Identity() if encoder is None else encoder
        self._encodes = encoder is not None
        self.rows = at_least("PlainStream", "rows", rows, 1)
        self.observation_shape = (core.input_size,) if observation_shape is None else tuple(observation_shape)
        self.reset()

    def reset(self) -> None:
        """Puts every row at the start of an episode and forgets all that was recorded."""
        self.state: State = self.core.initial_state(self.rows)
        self._before: Any = self.state
        self._window = Window()

    @property
    def before(self) -> State:
        """The state before the window."""
        state: State = self._before
        return state

    @property
    def steps(self) -> int:
        """Steps in the present window, T."""
        return self._window.steps

    def step(self, observation: Tensor, episode_start: Tensor | None = None) -> Tensor:
        """See `SABStream.step`; the output has the core's own size."""
        step = self.propose(observation, episode_start)
        self.take(step)
        return step.output

    def propose(self, observation: Tensor, episode_start: Tensor | None = None) -> PlainStep:
        """See `SABStream.propose`."""
        like = self.state.tensors()[0]
        observation, start = checked_step(
            "PlainStream", observation, episode_start, self.rows, self.observation_shape, like
        )
        with torch.no_grad():
            output, state = self.core.step(self.encoder(observation), self.state, start)
        return PlainStep(observation, start, output, state)

    def take(self, step: PlainStep) -> None:
        """See `SABStream.take`."""
        self._window.append(observation=step.observation.clone(), start=step.start)
        self.state = step.state

    def window(self) -> Tensor:
        """See `SABStream.window`."""
        if not self.steps:
            raise RuntimeError("PlainStream.window: no step was taken since the last advance(). Call step() first.")
        observation = self._window.stacked("observation")
        x = self.encoder(observation.flatten(0, 1)).view(*observation.shape[:2], -1)
        output: Tensor = self.core(x, self._before, self._window.stacked("start"))[0]
        return output

    def run(self) -> Replay:
        """See `SABStream.run`."""
        if self._encodes or not self.steps or not isinstance(self.core, LSTM):
            return graph_replay(self.window())
        observation, start = (self._window.stacked(name) for name in ("observation", "start"))
        return self.core.replay(observation, self._before, start)

    def credit(self) -> Credit:
        """Nothing: there are no slots."""
        return Credit(torch.zeros(self.rows, 0), 0, 0)

    def advance(self) -> None:
        """See `SABStream.advance`."""
        self._before, self._window = self.state, Window()

    def refresh(self) -> None:
        """Nothing: there are no slots."""

    def state_dict(self) -> dict[str, Tensor]:
        """See `SABStream.state_dict`."""
        found = {f"state.{index}": tensor for index, tensor in enumerate(self.state.tensors())}
        found |= {f"before.{index}": tensor for index, tensor in enumerate(self._before.tensors())}
        found |= {f"window.{name}": value for name, value in self._window.state_dict().items()}
        return {name: value.detach().clone() for name, value in found.items()}

    def load_state_dict(self, saved: dict[str, Tensor]) -> None:
        """Goes on where `state_dict` was taken from a stream of the same settings."""
        count = len(self.state.tensors())
        self.state = type(self.state)(*(saved[f"state.{index}"].clone() for index in range(count)))
        self._before = type(self.state)(*(saved[f"before.{index}"].clone() for index in range(count)))
        window = {name.removeprefix("window."): saved[name] for name in saved if name.startswith("window.")}
        self._window = Window.from_state_dict(window)
