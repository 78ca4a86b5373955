"""Observations of any space: counted from zero for a features extractor, and kept as the environments gave them.

Dimensions: N observations, F features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Self

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor
from torch import Tensor, nn

from sab_agents.ppo.compression import dtype_named

FIXED = (FlattenExtractor, CombinedExtractor, nn.Flatten, nn.ModuleDict)
"""Modules that have no parameters, no buffers and no training mode of their own."""
BLOCK = 256
"""Observations for which room is made at once."""
MOST = 1 << 24
"""Observations that have numbers of their own: streams carry these as float32, which is exact up to here."""


def is_fixed(extractor: nn.Module) -> bool:
    """Whether an extractor's features never change, so that they can be stored in place of observations.

    Parameters, running statistics or dropout change features; only modules that have none of them are known.
    """
    return all(type(module) in FIXED for module in extractor.modules())


def for_extractor(space: spaces.Space[Any], observations: Any) -> Any:
    """Returns observations (tensors, or a dict of them) as a features extractor of stable-baselines3 expects them.

    The integers of discrete spaces are counted from 0, whatever the space's `start`. Rows lie one after the other, so
    that features have the same bits whether or not images were transposed, and in a replay.
    """
    if isinstance(space, spaces.Dict):
        return {name: for_extractor(space[name], part) for name, part in observations.items()}
    laid = observations.flatten(1).view(observations.shape) if observations.dim() > 2 else observations.contiguous()
    if isinstance(space, spaces.Discrete) and space.start != 0:
        return laid - int(space.start)
    if isinstance(space, spaces.MultiDiscrete) and space.start.any():
        return laid - torch.as_tensor(space.start, device=laid.device)
    return laid


class _Part(NamedTuple):
    """Where one tensor of an observation lies in a row of bytes."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    first: int
    last: int


class Layout(NamedTuple):
    """How an observation is laid out in a row of bytes, in the environment's own dtypes.

    Attributes:
        parts: the tensors, those of large elements first, so that each begins at a multiple of its element.
        size: bytes of a row.
        single: whether an observation is one tensor and not a dict.
    """

    parts: tuple[_Part, ...]
    size: int
    single: bool

    @classmethod
    def of(cls, observations: Tensor | Mapping[str, Tensor]) -> Self:
        """Returns the layout of observations like these (N, …)."""
        single = isinstance(observations, Tensor)
        named: Mapping[str, Tensor] = {"": observations} if isinstance(observations, Tensor) else observations
        parts, first = [], 0
        for name, tensor in sorted(named.items(), key=lambda item: -item[1].element_size()):
            shape = tuple(tensor.shape[1:])
            last = first + math.prod(shape) * tensor.element_size()
            parts.append(_Part(name, tensor.dtype, shape, first, last))
            first = last
        widest = max(tensor.element_size() for tensor in named.values())
        return cls(tuple(parts), -(-first // widest) * widest, single)

    def pack(self, observations: Tensor | Mapping[str, Tensor]) -> Tensor:
        """Returns observations as rows of bytes, (N, size) uint8."""
        named: Mapping[str, Tensor] = {"": observations} if isinstance(observations, Tensor) else observations
        rows = len(named[self.parts[0].name])
        packed = named[self.parts[0].name].new_zeros(rows, self.size, dtype=torch.uint8)
        for name, _, _, first, last in self.parts:
            packed[:, first:last] = named[name].reshape(rows, -1).contiguous().view(torch.uint8)
        return packed

    def unpack(self, packed: Tensor) -> Any:
        """Returns the observations that were packed."""
        named = {
            name: packed[:, first:last].view(dtype).view(-1, *shape) for name, dtype, shape, first, last in self.parts
        }
        return named[""] if self.single else named

    def described(self) -> list[list[Any]]:
        """Returns name, dtype and shape of each tensor, as JSON holds them; see `from_described`."""
        return [
            [None if self.single else part.name, str(part.dtype).removeprefix("torch."), list(part.shape)]
            for part in self.parts
        ]

    @classmethod
    def from_described(cls, described: list[list[Any]]) -> Self:
        """Returns the layout of which `described` was taken."""
        like = {
            name: torch.empty(1, *shape, dtype=dtype_named(dtype), device="meta") for name, dtype, shape in described
        }
        return cls.of(like.get(None, like))


class Frames:
    """Observations as the environments gave them, by number, for as long as a memory or a rollout refers to them.

    Each is held once, whoever refers to it. Number 0 is the first observation of all: it stands where there is none.
    """

    def __init__(self) -> None:
        self._layout: Layout | None = None
        self._blocks: list[Tensor] = []
        self._free: list[int] = []  # the least one last

    @property
    def nbytes(self) -> int:
        """Bytes for which there is room."""
        return sum(block.nbytes for block in self._blocks)

    def add(self, observations: Any) -> Tensor:
        """Keeps N observations and returns their numbers, (N,) int64.

        Raises:
            RuntimeError: too many are kept.
            ValueError: a dtype or shape is not that of the observations before.
        """
        layout = Layout.of(observations)
        if self._layout is None:
            self._layout = layout
        if layout != self._layout:
            raise ValueError(
                f"RecurrentPPO: observations must keep their dtype and shape, {self._layout.described()}, but are "
                f"{layout.described()}. Convert them in the environment."
            )
        packed = layout.pack(observations)
        if not self._blocks:
            self._extend(packed)
            self._free.pop()
            self._blocks[0][0] = packed[0]
        while len(self._free) < len(packed):
            self._extend(packed)
        taken = [self._free.pop() for _ in range(len(packed))]
        numbers = torch.tensor(taken, device=packed.device)
        for number, block, chosen in self._by_block(numbers):
            block[number] = packed[chosen]
        return numbers

    def get(self, numbers: Tensor) -> Any:
        """Returns observations by their numbers (N,)."""
        assert self._layout is not None
        return self._layout.unpack(self._packed(numbers.long()))

    def _packed(self, numbers: Tensor) -> Tensor:
        """Returns the bytes (N, size) of observations."""
        first = self._blocks[0]
        packed = first.new_empty(len(numbers), first.shape[1])
        for number, block, chosen in self._by_block(numbers):
            packed[chosen] = block[number]
        return packed

    def _by_block(self, numbers: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Returns for each block that numbers (N,) lie in: the places in it, the block, and which of the N they are."""
        if len(self._blocks) == 1:
            return [(numbers, self._blocks[0], torch.arange(len(numbers), device=numbers.device))]
        found, index_of = [], numbers // BLOCK
        for index in sorted({*index_of.tolist()}):
            (chosen,) = (index_of == index).nonzero(as_tuple=True)
            found.append((numbers[chosen] - index * BLOCK, self._blocks[index], chosen))
        return found

    def _extend(self, like: Tensor) -> None:
        """Makes room for another block of rows like these."""
        first = len(self._blocks) * BLOCK
        if first >= MOST:
            raise RuntimeError(
                f"RecurrentPPO: at most {MOST} observations can be kept. Take fewer steps in a rollout (n_steps), "
                "environments or slots (capacity)."
            )
        self._blocks.append(like.new_empty(BLOCK, like.shape[1]))
        self._free = [*reversed(range(first, first + BLOCK)), *self._free]

    def keep(self, numbers: Tensor) -> None:
        """Forgets all observations but these, given by their numbers."""
        kept = {0, *numbers.long().tolist()}
        while self._blocks and max(kept) < (len(self._blocks) - 1) * BLOCK:
            self._blocks.pop()
        self._free = [number for number in reversed(range(len(self._blocks) * BLOCK)) if number not in kept]

    def state_dict(self, numbers: Tensor) -> dict[str, Any]:
        """Returns some of the observations, given by their numbers, and their layout; nothing before the first."""
        if self._layout is None:
            return {}
        held = torch.tensor(sorted({0, *numbers.long().tolist()}))
        packed = self._packed(held.to(self._blocks[0].device))
        return {"layout": self._layout.described(), "numbers": held, "bytes": packed}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Takes back what `state_dict` returned."""
        self._layout, self._blocks, self._free = None, [], []
        if not state:
            return
        self._layout, numbers, packed = Layout.from_described(state["layout"]), state["numbers"], state["bytes"]
        packed = packed.to(device)
        while len(self._blocks) * BLOCK <= int(numbers.max()):
            self._extend(packed)
        for number, block, chosen in self._by_block(numbers.to(device)):
            block[number] = packed[chosen]
        self.keep(numbers)


class PastEncoder(nn.Module):
    """Encodes observations from before a rollout, given by number: in evaluation mode, as when they were acted on.

    Args:
        frames: that hold them.
        encode: from observations to features (N, F).
        modules: returns the modules that take part in it and have a mode.
    """

    def __init__(self, frames: Frames, encode: Callable[[Any], Tensor], modules: Callable[[], list[nn.Module]]) -> None:
        super().__init__()
        self._frames, self._encode, self._list_modules = frames, encode, modules

    def forward(self, numbers: Tensor) -> Tensor:
        """Returns the features (N, F) of observations by their numbers (N, 1)."""
        learning = [module for module in self._list_modules() if module.training]
        for module in learning:
            module.training = False
        try:
            return self._encode(self._frames.get(numbers.squeeze(1)))
        finally:
            for module in learning:
                module.training = True
