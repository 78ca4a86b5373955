"""A causal Transformer that runs step by step or over whole sequences, and sees its present episode only.

Dimensions: T steps, B rows, I input size, H hidden size, L layers, n columns carried in the cache.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.backends.cuda import flash_sdp_enabled
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from sab_agents.checks import at_least
from sab_agents.core.base import Core
from sab_agents.core.registry import register_core
from sab_agents.core.state import State
from sab_agents.core.timeline import first_used, fixed_columns, same_episode
from sab_agents.kernels import is_known, steps_in_episode, transforms_active


@dataclass(frozen=True)
class TransformerState(State):
    """What `Transformer` carries; n is the length of the longest episode under way, at most the context.

    Attributes:
        keys: (B, L, n, H) each layer's keys of past steps; empty columns hold zeros.
        values: (B, L, n, H) each layer's values of past steps; empty columns hold zeros.
        positions: (B, n) int64, step of the episode, counted from 1, that a column holds; 0 in empty columns.
        step: (B,) int64, steps taken since the episode's start.
    """

    keys: Tensor
    values: Tensor
    positions: Tensor
    step: Tensor


@register_core("transformer", "causal Transformer", policy="Transformer", endless=False)
class Transformer(Core[TransformerState]):
    """A causal Transformer encoder (Vaswani et al., 2017) with layer norm before each block (Xiong et al., 2020).

    Sinusoidal positions count from the episode's start. Each step attends, in every layer, to itself and to earlier
    steps of its episode; the MLPs have 4H GELU units. The state caches each layer's keys and values, so that running
    step by step equals running the whole sequence.

    Args:
        input_size: I.
        hidden_size: H, also the size of an output; a multiple of `heads`.
        layers: L.
        heads: attention heads of H / heads numbers each.
        context: most recent steps, the present one included, that a step attends to in each layer; None for all.
        batch_first: sequences are (B, T, …) instead of (T, B, …).
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        TypeError: a size is not an int.
        ValueError: a size is below 1, or `hidden_size` is not divisible by `heads`.

    Examples:
        >>> import torch
        >>> from sab_agents import Transformer
        >>> transformer = Transformer(input_size=10, hidden_size=32, context=16)
        >>> output, state = transformer(torch.randn(20, 4, 10))  # (T, B, I)
        >>> output.shape
        torch.Size([20, 4, 32])
    """

    state_class = TransformerState

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        layers: int = 2,
        heads: int = 4,
        context: int | None = None,
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, hidden_size, batch_first=batch_first)
        input_size, hidden_size = self.input_size, self.hidden_size
        self.layers = at_least("Transformer", "layers", layers, 1)
        self.heads = at_least("Transformer", "heads", heads, 1)
        self.context = None if context is None else at_least("Transformer", "context", context, 1)
        if hidden_size % heads:
            raise ValueError(
                f"Transformer: hidden_size must be divisible by heads, but hidden_size is {hidden_size} and heads is "
                f"{heads}. Use hidden_size={heads * math.ceil(hidden_size / heads)}, or other heads."
            )
        self.embed = nn.Linear(input_size, hidden_size, device=device, dtype=dtype)
        self.blocks = nn.ModuleList(_Block(hidden_size, heads, device, dtype) for _ in range(layers))
        self.norm = nn.LayerNorm(hidden_size, device=device, dtype=dtype)

    def extra_repr(self) -> str:
        """Shows what no submodule does."""
        return f"heads={self.heads}, context={self.context}"

    def initial_state(self, batch_size: int) -> TransformerState:
        """The state of `batch_size` rows at the start of an episode: all zeros, with n = 0 cached columns.

        Raises:
            TypeError: `batch_size` is not an int.
            ValueError: `batch_size` is below 1.
        """
        batch_size = self._checked_rows(batch_size)
        cache = self.embed.weight.new_zeros(batch_size, self.layers, 0, self.hidden_size)
        step = torch.zeros(batch_size, dtype=torch.int64, device=cache.device)
        return TransformerState(cache, cache, step.new_zeros(batch_size, 0), step)

    def _check_state(self, name: str, state: TransformerState) -> None:
        super()._check_state(name, state)
        rows = (state.batch_size,)
        columns = tuple(state.positions.shape[1:])
        cache = (*rows, self.layers, *columns, self.hidden_size)
        state.check_shapes(name, {"positions": (*rows, *columns), "keys": cache, "values": cache, "step": rows})

    def _run(self, x: Tensor, state: TransformerState, episode_start: Tensor | None) -> tuple[Tensor, TransformerState]:
        step = steps_in_episode(state.step, episode_start, x.shape[0])
        seen = same_episode(state.positions > 0, step)
        positions = torch.cat([state.positions, step.transpose(0, 1)], dim=1)
        if self.context is not None:
            age = step.transpose(0, 1).unsqueeze(-1) - positions.unsqueeze(1)
            seen = seen & (age < self.context)
        y = self.embed(x) + sinusoids(step - 1, self.hidden_size).to(x.dtype)
        y = y.transpose(0, 1)
        caches = []
        for layer, block in enumerate(self.blocks):
            y, keys, values = block(y, state.keys[:, layer], state.values[:, layer], seen)
            caches.append((keys, values))
        output = self.norm(y).transpose(0, 1)
        keys, values = (torch.stack(tensors, dim=1) for tensors in zip(*caches, strict=True))
        return output, _kept(TransformerState(keys, values, positions, step[-1]), seen[:, -1])

    def fixed_state(self, batch_size: int, max_steps: int | None = None) -> TransformerState:
        """Returns zeros with a column for each step of the context but the present one; see `Core.fixed_state`."""
        columns = fixed_columns("Transformer", self.context, max_steps)
        state = self.initial_state(batch_size)
        cache = state.keys.new_zeros(batch_size, self.layers, columns, self.hidden_size)
        return TransformerState(cache, cache.clone(), state.positions.new_zeros(batch_size, columns), state.step)

    def plain_step(self, x: Tensor, state: TransformerState) -> tuple[Tensor, TransformerState]:
        """Runs one step in operations that can be exported; the newest column is the last. See `Core.plain_step`."""
        step = state.step + 1
        positions = torch.cat([state.positions, step.unsqueeze(1)], dim=1)
        seen = positions > 0
        if self.context is not None:
            seen = seen & (step.unsqueeze(1) - positions < self.context)
        y = (self.embed(x) + sinusoids(state.step, self.hidden_size).to(x.dtype)).unsqueeze(1)
        caches = []
        for layer, block in enumerate(self.blocks):
            y, keys, values = block(y, state.keys[:, layer], state.values[:, layer], seen.unsqueeze(1))
            caches.append((keys[:, 1:], values[:, 1:]))
        keys, values = (torch.stack(tensors, dim=1) for tensors in zip(*caches, strict=True))
        return self.norm(y).squeeze(1), TransformerState(keys, values, positions[:, 1:], step)


class _Block(nn.Module):
    """One layer: attention and an MLP, each added to what it reads through a layer norm."""

    def __init__(self, size: int, heads: int, device: torch.device | str | None, dtype: torch.dtype | None) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(size, device=device, dtype=dtype)
        self.query_key_value = nn.Linear(size, 3 * size, device=device, dtype=dtype)
        self.project = nn.Linear(size, size, device=device, dtype=dtype)
        self.norm_mlp = nn.LayerNorm(size, device=device, dtype=dtype)
        self.mlp = nn.Sequential(
            nn.Linear(size, 4 * size, device=device, dtype=dtype),
            nn.GELU(),
            nn.Linear(4 * size, size, device=device, dtype=dtype),
        )

    def forward(self, y: Tensor, keys: Tensor, values: Tensor, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns y (B, T, H), and the n cached keys and values (B, n, H) with those of the T steps appended."""
        query, key, value = self.query_key_value(self.norm_attention(y)).chunk(3, dim=-1)
        keys, values = torch.cat([keys, key], dim=1), torch.cat([values, value], dim=1)
        q, k, v = (tensor.unflatten(-1, (self.heads, -1)).transpose(1, 2) for tensor in (query, keys, values))
        attended = _attended(q, k, v, seen.unsqueeze(1))
        y = y + self.project(attended.transpose(1, 2).flatten(2))
        return y + self.mlp(self.norm_mlp(y)), keys, values


def _attended(q: Tensor, k: Tensor, v: Tensor, seen: Tensor) -> Tensor:
    """Softmax attention of q (B, heads, T, H / heads) to the keys and values that are seen, (B, 1, T, n + T)."""
    if transforms_active():  # for most of which torch's fused attention has no rule
        with sdpa_kernel(SDPBackend.MATH):
            return functional.scaled_dot_product_attention(q, k, v, attn_mask=seen)
    if torch.is_grad_enabled() and is_known(q) and flash_sdp_enabled():  # type: ignore[no-untyped-call]
        q, k, v = _DifferentiableOnce.apply(q, k, v)  # type: ignore[no-untyped-call]
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=seen)


class _DifferentiableOnce(torch.autograd.Function):
    """Returns its arguments. Torch would meet a second derivative with the name of one of its internals."""

    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> tuple[Tensor, ...]:  # noqa: ARG004
        return tuple(tensor.view_as(tensor) for tensor in tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:  # noqa: ARG004
        return _Refused.apply(*gradients)  # type: ignore[no-untyped-call]


class _Refused(_DifferentiableOnce):
    """Returns its arguments, which cannot be differentiated."""

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        raise NotImplementedError(
            "Transformer: second derivatives need attention that is not fused. Run the forward pass in "
            "`with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):`."
        )


def _kept(state: TransformerState, filled: Tensor) -> TransformerState:
    """The state with zeros outside filled (B, n), and without the leading columns that no row uses."""
    first = first_used(filled)
    empty = ~filled[:, first:]
    empty_cache = empty.view(empty.shape[0], 1, -1, 1)
    return TransformerState(
        state.keys[:, :, first:].masked_fill(empty_cache, 0),
        state.values[:, :, first:].masked_fill(empty_cache, 0),
        state.positions[:, first:].masked_fill(empty, 0),
        state.step,
    )


def sinusoids(positions: Tensor, size: int) -> Tensor:
    """Sinusoidal encodings (…, size) of integer positions (…), in float32: half precision would blur far positions."""
    half = math.ceil(size / 2)
    rates = torch.exp(torch.arange(half, dtype=torch.float32, device=positions.device) * (-math.log(10000.0) / half))
    angles = positions.unsqueeze(-1).float() * rates
    return torch.cat([angles.sin(), angles.cos()], dim=-1)[..., :size]
