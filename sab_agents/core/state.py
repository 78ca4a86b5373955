"""What a core carries from one call to the next: one owner for every tensor, with one way to reset it.

Dimensions: B rows (batch or parallel streams), H hidden size, S slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True, repr=False)
class State:
    """Base of every core's state: a fixed set of tensors whose first axis is the row.

    A state is a value: its methods return a new state and leave the old one as it was. All zeros (False for flags)
    is the state at the start of an episode, for every core.
    """

    __match_args__: ClassVar[tuple[str, ...]]
    _grows_behind: ClassVar[bool] = False  # where `joined` adds empty columns

    def __repr__(self) -> str:
        shapes = (f"{name}={tuple(getattr(self, name).shape)}" for name in self.__match_args__)
        return f"{type(self).__name__}({', '.join(shapes)})"  # the numbers would fill screens

    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors in the order of the dataclass's fields."""
        return tuple([getattr(self, name) for name in self.__match_args__])  # the fields' names, faster than `fields`

    @property
    def batch_size(self) -> int:
        """Number of rows B."""
        return self.tensors()[0].shape[0]

    def check_shapes(self, name: str, shapes: dict[str, tuple[int, ...]]) -> None:
        """Raises ValueError if a tensor does not have its shape in `shapes`; `name` says who asks."""
        for field, shape in shapes.items():
            received = tuple(getattr(self, field).shape)
            if received != shape:
                raise ValueError(
                    f"{name}: state.{field} must have shape {shape}, but has {received}. "
                    f"Pass a state that this module, or one built with the same sizes, returned."
                )

    def _replace(self, tensors: list[Tensor]) -> Self:
        return type(self)(*tensors)

    def detach(self) -> Self:
        """The same values, cut from the autograd graph."""
        return self._replace([tensor.detach() for tensor in self.tensors()])

    def clone(self) -> Self:
        """An independent copy."""
        return self._replace([tensor.clone() for tensor in self.tensors()])

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """Moves every tensor to `device`; `dtype` changes the floating-point tensors only."""
        return self._replace(
            [
                tensor.to(device=device, dtype=dtype if tensor.is_floating_point() else tensor.dtype)
                for tensor in self.tensors()
            ]
        )

    def chosen(self, rows: Tensor) -> Self:
        """The given rows alone, (b,) int64 or (B,) bool."""
        return self._replace([tensor[rows] for tensor in self.tensors()])

    @classmethod
    def joined(cls, states: Sequence[Self]) -> Self:
        """The rows of several states, one after the other.

        Where one's memory has fewer columns than another's, it gets empty ones: in front, so that the newest stay last;
        behind in a `SABState`, whose slots are found by the number of writes before them.
        """
        columns = zip(*(state.tensors() for state in states), strict=True)
        return states[0]._replace([_stacked(tensors, states[0]._grows_behind) for tensors in columns])

    def reset(self, rows: Tensor) -> Self:
        """Puts the given rows at the start of an episode, and cuts them from the autograd graph.

        Args:
            rows: (B,) bool, True for each row to reset.

        Raises:
            ValueError: `rows` is not a bool tensor of shape (B,).
        """
        expected = f"{type(self).__name__}.reset: rows must be a bool tensor of shape ({self.batch_size},), but is"
        if not isinstance(rows, Tensor):
            raise ValueError(f"{expected} of type {type(rows).__name__}. Use torch.as_tensor(rows, dtype=torch.bool).")
        if rows.dtype != torch.bool or rows.shape != self.tensors()[0].shape[:1]:
            raise ValueError(f"{expected} {rows.dtype} of shape {tuple(rows.shape)}. Pass one flag per row.")
        rows = rows.to(self.tensors()[0].device)

        def cleared(tensor: Tensor) -> Tensor:
            mask = rows.view(-1, *[1] * (tensor.dim() - 1))
            return tensor & ~mask if tensor.dtype == torch.bool else tensor.masked_fill(mask, 0)

        return self._replace([cleared(tensor) for tensor in self.tensors()])

    def to_numpy(self) -> tuple[npt.NDArray[Any], ...]:
        """The state as a flat tuple of numpy arrays, detached, for `predict` and for pickling."""
        return tuple([tensor.numpy(force=True) for tensor in self.tensors()])

    @classmethod
    def from_numpy(cls, arrays: tuple[npt.NDArray[np.generic], ...], device: torch.device | str | None = None) -> Self:
        """The state that `to_numpy` flattened; on a CPU it may share the arrays' memory.

        Raises:
            ValueError: the number of arrays is not that of this state's tensors.
        """
        names = cls.__match_args__
        if len(arrays) != len(names):
            raise ValueError(
                f"{cls.__name__}.from_numpy: needs {len(names)} arrays ({', '.join(names)}), but got {len(arrays)}. "
                f"Pass what {cls.__name__}.to_numpy() returned."
            )
        return cls(*(as_tensor(array, device) for array in arrays))


def as_tensor(array: Any, device: torch.device | str | None = None) -> Tensor:
    """Returns an array as a tensor, which shares its memory if torch can write to that."""
    flags = getattr(array, "flags", None)
    if flags is not None and flags.writeable and flags.c_contiguous:
        tensor = torch.from_numpy(array)
        return tensor if device is None or tensor.device == device else tensor.to(device)
    return torch.tensor(array, device=device)


def register_state(state_class: type[State]) -> None:
    """Makes a class of states known to `torch.export`, `torch.func` and `torch.load`.

    They take and return its tensors, and load it without `weights_only=False`: it holds tensors alone. A class that is
    known already, such as that of a core's base class, stays as it is.
    """
    if state_class not in _REGISTERED:
        _REGISTERED.add(state_class)
        name = f"{state_class.__module__}.{state_class.__qualname__}"
        torch.export.register_dataclass(state_class, serialized_type_name=name)
        torch.serialization.add_safe_globals([state_class])


_REGISTERED: set[type[State]] = set()


def _stacked(tensors: Sequence[Tensor], behind: bool) -> Tensor:
    """Tensors (B, …) one after the other, filled up with zeros in front of every other axis, or behind."""
    whole = [max(sizes) for sizes in zip(*(tensor.shape[1:] for tensor in tensors), strict=True)]

    def filled_up(tensor: Tensor) -> Tensor:
        missing = [size - own for size, own in zip(whole, tensor.shape[1:], strict=True)]
        if not any(missing):
            return tensor
        return functional.pad(
            tensor, [side for size in reversed(missing) for side in ((0, size) if behind else (size, 0))]
        )

    return torch.cat([filled_up(tensor) for tensor in tensors])


@dataclass(frozen=True, repr=False)
class SABState(State):
    """Everything that `SAB` carries: the LSTM's state, the memory, and where each row stands in its episode.

    Attributes:
        h: (B, H) hidden state after the last step.
        c: (B, H) cell state after the last step.
        memory: (B, S, H) stored hidden states; empty slots hold zeros.
        filled: (B, S) bool, which slots hold a memory.
        written_at: (B, S) int64, 0-based step of the episode at which each slot was written; 0 in empty slots.
        step: (B,) int64, steps taken since the episode's start.
    """

    _grows_behind: ClassVar[bool] = True

    h: Tensor
    c: Tensor
    memory: Tensor
    filled: Tensor
    written_at: Tensor
    step: Tensor

    @property
    def slots(self) -> int:
        """Number of slots S that are allocated, filled or not."""
        return self.memory.shape[1]
