"""Processes that learn together, each from data of its own: what they share, and how they agree.

`torchrun` starts them and sets the environment variables by which they find each other. A rank is one of them.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, distributed

TIMEOUT = timedelta(minutes=30)
"""Time after which a rank that does not answer counts as lost; one that dies is noticed at once."""
RENDEZVOUS = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""The environment variables that `torchrun` sets, and that `torch.distributed` reads."""

Value = TypeVar("Value")


class RankLost(RuntimeError):  # noqa: N818 (what it says, as KeyboardInterrupt does)
    """Another rank has died, or did not answer in time: all of them have to be started again."""


def launched() -> bool:
    """Returns whether this process was started as one of several, by `torchrun` or by what sets the same variables."""
    return all(name in os.environ for name in RENDEZVOUS) and int(os.environ["WORLD_SIZE"]) > 1


@dataclass(frozen=True)
class Ranks:
    """This process among those that learn together; alone by default, and then every method leaves all as it is.

    All ranks must call the same methods in the same order. A method that waits for the others raises `RankLost` if one
    of them has died, or does not answer in time.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def join(cls, device: torch.device | str) -> Self:
        """Joins the other processes: those of `torch.distributed` if it is initialised, else those of `torchrun`.

        The latter are joined over nccl for GPUs and gloo for CPUs, once in a process; each takes the GPU of its local
        rank. Call `torch.distributed.init_process_group` before for other settings, such as another timeout.

        Args:
            device: where parameters will be, as in torch, or "auto" for a GPU if available.

        Returns:
            The ranks; one alone without `torchrun`.

        Raises:
            ValueError: `device` names one GPU for several ranks of a machine.
        """
        if not distributed.is_available():
            return cls()
        if not distributed.is_initialized():
            if not launched():
                return cls()
            on_gpu = torch.cuda.is_available() and (device == "auto" or torch.device(device).type == "cuda")
            if on_gpu:
                _take_gpu(device)
            distributed.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=TIMEOUT)
            atexit.register(_leave)
        return cls(distributed.get_rank(), distributed.get_world_size())

    @property
    def main(self) -> bool:
        """Whether this is rank 0, which logs and prints."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        """Whether there is no other rank."""
        return self.size == 1

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Gives every rank the values of rank 0's tensors, in place."""
        if self.alone:
            return
        with self._together("the first values"), torch.no_grad():
            for tensor in tensors:
                whole = tensor.detach().contiguous()
                distributed.broadcast(whole, 0)
                tensor.copy_(whole)

    def average(self, vector: Tensor) -> None:
        """Replaces a contiguous tensor by its mean over the ranks; all get the same bits."""
        if self.alone:
            return
        with self._together("an average"):
            distributed.all_reduce(vector)
            vector.div_(self.size)

    def added_up(self, numbers: Tensor) -> Tensor:
        """Returns the sum of a tensor over the ranks; all get the same bits."""
        whole = numbers.clone().contiguous()
        if not self.alone:
            with self._together("a sum"):
                distributed.all_reduce(whole)
        return whole

    def any(self, flag: bool) -> bool:
        """Returns whether the flag is set on any rank."""
        return flag if self.alone else any(self.gathered(flag))

    def gathered(self, value: Value) -> list[Value]:
        """Returns the small values of all ranks, in their order."""
        if self.alone:
            return [value]
        values: list[Any] = [None] * self.size
        with self._together("the others' values"):
            distributed.all_gather_object(values, value)
        return values

    def of_main(self, value: Value) -> Value:
        """Returns rank 0's value; those of the others are ignored."""
        if self.alone:
            return value
        values: list[Any] = [value]
        with self._together("rank 0"):
            distributed.broadcast_object_list(values, 0)
        main: Value = values[0]
        return main

    def moments(self, samples: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Returns the mean and the standard deviation of each sample, those of all ranks together.

        Args:
            samples: as many on each rank, of the same device and dtype; in all ranks together at least two numbers.

        Returns:
            Two scalars for each, in its dtype; computed in float64.
        """
        doubles = [sample.double() for sample in samples]
        own = torch.stack(
            [torch.stack([each.new_tensor(each.numel()), each.mean(), each.var(correction=0)]) for each in doubles]
        )
        parts = [torch.empty_like(own) for _ in range(self.size)]
        if self.alone:
            parts = [own]
        else:
            with self._together("the moments"):
                distributed.all_gather(parts, own)
        count, mean, variance = torch.stack(parts).unbind(2)  # (ranks, samples) each
        total = count.sum(0)
        whole = (count * mean).sum(0) / total
        squares = (count * (variance + (mean - whole).square())).sum(0)
        deviation = (squares / (total - 1)).sqrt()
        return list(zip(whole.to(samples[0].dtype), deviation.to(samples[0].dtype), strict=True))

    def require_same(self, owner: str, settings: Mapping[str, Any]) -> None:
        """Raises ValueError unless all ranks have the same settings.

        Args:
            owner: whose they are, for the error.
            settings: values that can be compared, by name.
        """
        for rank, others in enumerate(self.gathered(dict(settings))):
            for name, value in settings.items():
                if others[name] != value:
                    raise ValueError(
                        f"{owner}: {name} must be the same on all ranks, but is {value} on rank {self.rank} and "
                        f"{others[name]} on rank {rank}. Start all ranks with the same script and settings."
                    )

    def wait(self) -> None:
        """Waits until all ranks are here."""
        self.gathered(True)

    @contextmanager
    def _together(self, what: str) -> Iterator[None]:
        """Names this rank in the error that follows the death of another."""
        try:
            yield
        except RuntimeError as error:
            raise RankLost(
                f"rank {self.rank} of {self.size} waited for {what}, but another rank has died or did not answer "
                f"({' '.join(str(error).split())}). Start all ranks again from the last checkpoint."
            ) from error


def _take_gpu(device: torch.device | str) -> None:
    local = int(os.environ.get("LOCAL_RANK", os.environ["RANK"]))
    index = None if device == "auto" else torch.device(device).index
    if index not in (None, local):
        raise ValueError(
            f"device must leave each rank a GPU of its own, but local rank {local} got {device!r}. Pass 'cuda'."
        )
    torch.cuda.set_device(local)


def _leave() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()
