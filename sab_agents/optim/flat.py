"""All gradients of a learner side by side, so that clearing, clipping and using them is one operation each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sab_agents.kernels import norm


class FlatGradient:
    """The gradients of parameters as views of one vector for each dtype and device, mostly a single one.

    Args:
        parameters: those that do not require a gradient are left out.

    Attributes:
        parts: for each vector, its parameters and their views of it.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        groups: dict[tuple[torch.dtype, torch.device], list[nn.Parameter]] = {}
        for parameter in parameters:
            if parameter.requires_grad:
                groups.setdefault((parameter.dtype, parameter.device), []).append(parameter)
        self._vectors: list[Tensor] = []
        self.parts: list[tuple[list[nn.Parameter], list[Tensor]]] = []
        for (dtype, device), members in groups.items():
            sizes = [parameter.numel() for parameter in members]
            vector = torch.zeros(sum(sizes), dtype=dtype, device=device)
            views = zip(members, torch.split(vector, sizes), strict=True)
            self._vectors.append(vector)
            self.parts.append((members, [part.view(parameter.shape) for parameter, part in views]))

    def begin(self) -> None:
        """Sets every gradient to zero, and makes it a view again where something else was put there."""
        for vector in self._vectors:
            vector.zero_()
        for parameters, views in self.parts:
            for parameter, view in zip(parameters, views, strict=True):
                parameter.grad = view

    def clip(self, greatest: float) -> float:
        """Scales all of it so that its norm is at most `greatest`; returns the norm before."""
        whole = math.hypot(*(norm(vector) for vector in self._vectors))
        if whole > greatest:
            for vector in self._vectors:
                vector.mul_(greatest / (whole + 1e-6))
        return whole


class FlatAdam:
    """What `torch.optim.Adam(fused=True)` computes, number for number, from the gradients of a `FlatGradient`.

    What torch's class does around that computation takes several times as long as the step of a small network.

    Args:
        gradient: of the parameters.
        learning_rate: of the steps to come; `param_groups[0]["lr"]` changes it.

    Source: Kingma & Ba 2015, "Adam: A Method for Stochastic Optimization".
    """

    def __init__(self, gradient: FlatGradient, learning_rate: float) -> None:
        self._parts = gradient.parts
        self._steps = [views[0].new_zeros((), dtype=torch.float32) for _, views in self._parts]
        self._moments = [
            ([torch.zeros_like(view) for view in views], [torch.zeros_like(view) for view in views])
            for _, views in self._parts
        ]
        count = sum(len(views) for _, views in self._parts)
        settings = {"lr": learning_rate, "betas": (0.9, 0.999), "eps": 1e-8}
        self.param_groups: list[dict[str, Any]] = [settings | {"params": list(range(count))}]

    @torch.no_grad()
    def step(self) -> None:
        """Takes one step."""
        group = self.param_groups[0]
        for (parameters, gradients), step, (first, second) in zip(self._parts, self._steps, self._moments, strict=True):
            if step.is_cpu:  # by numpy, which does it in a tenth of the time
                count = step.numpy()
                count += 1
            else:
                step.add_(1)
            tensors: list[list[Tensor]] = [list(parameters), gradients, first, second, [], [step] * len(parameters)]
            torch._fused_adam_(
                *tensors,
                lr=group["lr"],
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                weight_decay=0.0,
                eps=group["eps"],
                amsgrad=False,
                maximize=False,
            )

    def state_dict(self) -> dict[str, Any]:
        """Steps, moments and settings, in the form that torch's optimisers give them."""
        return {"state": dict(enumerate(self._states())), "param_groups": self.param_groups}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Goes on where `state_dict` was taken.

        Raises:
            ValueError: it is another optimiser's, or of other parameters.
        """
        own = self._states()
        given = [saved["state"].get(index, {}) for index in range(len(own))]
        if saved["state"] and [_shapes(state) for state in own] != [_shapes(state) for state in given]:
            raise ValueError("these are not the moments that Adam keeps of these parameters")
        self.param_groups = [dict(group) for group in saved["param_groups"]]
        for state, other in zip(own, given, strict=True):
            for name, value in other.items():
                state[name].copy_(value)

    def _states(self) -> list[dict[str, Tensor]]:
        return [
            {"step": step, "exp_avg": first, "exp_avg_sq": second}
            for step, moments in zip(self._steps, self._moments, strict=True)
            for first, second in zip(*moments, strict=True)
        ]


def _shapes(state: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in state.items()}
