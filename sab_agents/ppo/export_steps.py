"""One step of a policy in operations that can be exported: no compiled kernel, no branch on data, a fixed state.

Dimensions: B rows, I numbers in an input, F numbers in an output, H hidden size, L layers, N columns of a window.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Any, TypeVar

import torch
from gymnasium import spaces
from torch import Tensor, nn

from sab_agents.core import LSTM, SAB, LSTMAttention, Transformer
from sab_agents.core.lstm import LSTMState
from sab_agents.core.lstm_attention import LSTMAttentionState
from sab_agents.core.state import State
from sab_agents.core.transformer import TransformerState, sinusoids
from sab_agents.ppo.policies import RecurrentActorCriticPolicy
from sab_agents.ppo.rollout_cores import RolloutCore
from sab_agents.ppo.sab_core import SabRolloutCore
from sab_agents.streaming.acting import ActingState, after, computed_plainly
from sab_agents.streaming.writing import SlotWriter

Observation = Tensor | dict[str, Tensor]
ModuleT = TypeVar("ModuleT", bound=nn.Module)


class CoreStep(nn.Module, ABC):
    """A core's step that can be exported."""

    @abstractmethod
    def initial_state(self, rows: int) -> State:
        """The state at the start of an episode: zeros, of the shapes that every state has."""

    @abstractmethod
    def forward(self, x: Tensor, state: Any) -> tuple[Tensor, State]:
        """Outputs (B, F) and next state, from inputs (B, I) and a state that is reset where an episode starts."""


class SabStep(CoreStep):
    """A step as `SabRolloutCore.act` takes it, its outputs as `read_out` gives them.

    Args:
        core: with weights and rules.

    Raises:
        ValueError: its rule of eviction draws random numbers.
    """

    scale: Tensor

    def __init__(self, core: SabRolloutCore) -> None:
        super().__init__()
        rules = core.rules
        self.core: SAB = core.core
        self.register_buffer("scale", core.scale, persistent=False)
        self.decay = core.stream.decay
        self.writer = SlotWriter(
            rules["eviction"], rules["write"], rules["novelty"], self.core.rules.write_every, rules["seed"]
        )
        if self.writer.draws:
            raise ValueError(
                'export_policy: eviction must not draw random numbers, but is "reservoir", whose generator has no '
                'place in an exported graph. Train with "least_used" or "oldest".'
            )

    def initial_state(self, rows: int) -> ActingState:
        """Empty memories."""
        return ActingState.initial(self.core, rows)

    def forward(self, x: Tensor, state: ActingState) -> tuple[Tensor, ActingState]:
        """See `CoreStep.forward`."""
        found = computed_plainly(self.core, x, state, self.writer)
        return found.output * self.scale, after(found, state, self.writer, self.decay, generator=None)


class LstmStep(CoreStep):
    """A step of an LSTM of any number of layers.

    Args:
        core: with the weights.
    """

    def __init__(self, core: LSTM) -> None:
        super().__init__()
        self.core = core

    def initial_state(self, rows: int) -> LSTMState:
        """Zeros."""
        return self.core.initial_state(rows)

    def forward(self, x: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        """See `CoreStep.forward`."""
        hidden, cells = [], []
        for layer, weights in enumerate(self.core.lstm.all_weights):
            x, c = torch.lstm_cell(x, (state.h[:, layer], state.c[:, layer]), *weights)
            hidden.append(x)
            cells.append(c)
        return x, LSTMState(torch.stack(hidden, dim=1), torch.stack(cells, dim=1), state.step + 1)


class AttentionLstmStep(CoreStep):
    """A step of an LSTM with attention to the last N hidden states, the newest in the last column.

    Args:
        core: with the weights.
        columns: N.
    """

    def __init__(self, core: LSTMAttention, columns: int) -> None:
        super().__init__()
        self.core, self.columns = core, columns
        self.lstm = LstmStep(core.lstm)

    def initial_state(self, rows: int) -> LSTMAttentionState:
        """Zeros, with N columns."""
        state = self.core.initial_state(rows)
        memory, filled = (each.new_zeros(rows, self.columns, *each.shape[2:]) for each in (state.memory, state.filled))
        return LSTMAttentionState(state.h, state.c, memory, filled, state.step)

    def forward(self, x: Tensor, state: LSTMAttentionState) -> tuple[Tensor, LSTMAttentionState]:
        """See `CoreStep.forward`."""
        before = LSTMState(state.h.unsqueeze(1), state.c.unsqueeze(1), state.step)
        h, lstm = self.lstm(x, before)
        summary = self.core.attend(h.unsqueeze(1), state.memory, state.filled.unsqueeze(1)).squeeze(1)
        memory = torch.cat([state.memory[:, 1:], h.unsqueeze(1)], dim=1)
        filled = torch.cat([state.filled[:, 1:], torch.ones_like(state.filled[:, :1])], dim=1)
        output = torch.cat([h, summary], dim=1)
        return output, LSTMAttentionState(lstm.h.squeeze(1), lstm.c.squeeze(1), memory, filled, lstm.step)


class TransformerStep(CoreStep):
    """A step of a Transformer with attention to the last N steps and the present one, the newest in the last column.

    Args:
        core: with the weights.
        columns: N.
    """

    def __init__(self, core: Transformer, columns: int) -> None:
        super().__init__()
        self.core, self.columns = core, columns

    def initial_state(self, rows: int) -> TransformerState:
        """Zeros, with N columns."""
        state = self.core.initial_state(rows)
        keys, values = (
            each.new_zeros(rows, each.shape[1], self.columns, each.shape[3]) for each in (state.keys, state.values)
        )
        return TransformerState(keys, values, state.positions.new_zeros(rows, self.columns), state.step)

    def forward(self, x: Tensor, state: TransformerState) -> tuple[Tensor, TransformerState]:
        """See `CoreStep.forward`."""
        core, step = self.core, state.step + 1
        positions = torch.cat([state.positions, step.unsqueeze(1)], dim=1)
        seen = positions > 0
        if core.context is not None:
            seen = seen & (step.unsqueeze(1) - positions < core.context)
        y = (core.embed(x) + sinusoids(state.step, core.hidden_size).to(x.dtype)).unsqueeze(1)
        caches = []
        for layer, block in enumerate(core.blocks):
            y, keys, values = block(y, state.keys[:, layer], state.values[:, layer], seen.unsqueeze(1))
            caches.append((keys[:, 1:], values[:, 1:]))
        keys, values = (torch.stack(tensors, dim=1) for tensors in zip(*caches, strict=True))
        return core.norm(y).squeeze(1), TransformerState(keys, values, positions[:, 1:], step)


def core_step(core: RolloutCore, max_steps: int | None) -> CoreStep:
    """The step of a policy's core.

    Args:
        core: of the actor.
        max_steps: steps of the longest episode, for a core whose state grows.

    Raises:
        TypeError: there is no such step for this kind of core.
        ValueError: its state grows and `max_steps` is None, or its step is random.
    """
    network: Any = core.core
    if isinstance(core, SabRolloutCore):
        return SabStep(core)
    if isinstance(network, LSTM):
        return LstmStep(network)
    if not isinstance(network, LSTMAttention | Transformer):
        raise TypeError(
            f"export_policy: the core must be SAB, LSTM, LSTMAttention or Transformer, but is {type(network).__name__}."
        )
    context = network.context if isinstance(network, Transformer) else None
    known = [steps for steps in (context, max_steps) if steps is not None]
    if not known:
        raise ValueError(
            f"export_policy: the state of {type(network).__name__} grows with the episode, but an exported state has a "
            "fixed size. Pass max_steps, the steps of the longest episode: beyond it, the oldest steps are forgotten."
        )
    columns = max(1, min(known) - 1)  # the present step needs none
    return (
        AttentionLstmStep(network, columns) if isinstance(network, LSTMAttention) else TransformerStep(network, columns)
    )


def _copied(module: ModuleT) -> ModuleT:
    return copy.deepcopy(module).cpu()


class PolicyStep(nn.Module):
    """One step of a policy as a function: observation, state and episode start to action and next state.

    The action is the likeliest, within the space's bounds: that of `policy.predict(…, deterministic=True)`.

    Args:
        policy: whose weights are copied, to the CPU.
        max_steps: see `core_step`.

    Raises:
        TypeError: see `core_step`.
        ValueError: see `core_step`.
    """

    low: Tensor
    high: Tensor

    def __init__(self, policy: RecurrentActorCriticPolicy, max_steps: int | None = None) -> None:
        super().__init__()
        self.observation_space, self.action_space = policy.observation_space, policy.action_space
        self.encoder = _copied(policy.encoders[0])
        self.core = _copied(core_step(policy.actor_core, max_steps))
        self.mlp, self.head = _copied(policy.mlp_extractor.policy_net), _copied(policy.action_net)
        self.squashed = policy.squash_output
        if isinstance(self.action_space, spaces.Box):
            self.register_buffer("low", torch.as_tensor(self.action_space.low), persistent=False)
            self.register_buffer("high", torch.as_tensor(self.action_space.high), persistent=False)
        self.eval()

    def initial_state(self, rows: int) -> State:
        """The state at the start of an episode: zeros; its fields name the tensors."""
        return self.core.initial_state(rows)

    def forward(
        self, observation: Observation, state: tuple[Tensor, ...], episode_start: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Takes a step of B rows.

        Args:
            observation: (B, …) in the space's dtype, or a dict of such; images with channels first, as the policy's
                own observation space says.
            state: the tensors of `initial_state`, or what the last call returned.
            episode_start: (B,) bool, True where the observation is an episode's first.

        Returns:
            Actions (B, …), and the next state.
        """
        before = type(self.initial_state(1))(*state).reset(episode_start)
        output, after_it = self.core(self.encoder(self.encoder.packing.pack(observation)), before)
        return self._likeliest(self.head(self.mlp(output))), after_it.tensors()

    def _likeliest(self, numbers: Tensor) -> Tensor:
        """Actions (B, …) from the head's numbers (B, …)."""
        space = self.action_space
        if isinstance(space, spaces.Discrete):
            return numbers.argmax(dim=1)
        if isinstance(space, spaces.MultiDiscrete):
            parts = torch.split(numbers, space.nvec.ravel().tolist(), dim=1)
            return torch.stack([part.argmax(dim=1) for part in parts], dim=1)
        if isinstance(space, spaces.MultiBinary):
            return (numbers > 0).to(numbers.dtype)
        actions = numbers.reshape(-1, *(space.shape or ()))
        if self.squashed:
            return self.low + 0.5 * (torch.tanh(actions) + 1.0) * (self.high - self.low)
        return torch.clamp(actions, self.low, self.high)
