"""Parameters and gradients side by side in vectors, so that using all of them is one operation; and Adam on them.

Dimensions: P features in all parameters together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from sab_agents.kernels import norm

Place = tuple[dict[str, nn.Parameter], str]
"""A dictionary and the name under which it holds a parameter."""


def places_of(owners: Iterable[nn.Module | nn.Parameter]) -> list[Place]:
    """Returns where the parameters of modules are held, each once, in the order of `nn.Module.parameters`.

    `load_state_dict(assign=True)` replaces the parameters of a module: who looks a parameter up at its place finds the
    present one. A parameter that is given itself can't be replaced.
    """
    places: dict[int, Place] = {}
    for owner in owners:
        if isinstance(owner, nn.Parameter):
            places.setdefault(id(owner), ({"": owner}, ""))
            continue
        for module in owner.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    places.setdefault(id(parameter), (module._parameters, name))  # type: ignore[arg-type]
    return list(places.values())


def at(places: list[Place]) -> list[nn.Parameter]:
    """Returns the parameters that are there now."""
    return [held[name] for held, name in places]


class FlatGradient:
    """The gradients of parameters as views of one vector for each dtype and device, mostly a single one.

    A copy, by `copy` or `pickle`, makes vectors of its own.

    Args:
        owners: parameters, or modules whose parameters are meant; those that require no gradient are left out.
    """

    def __init__(self, owners: Iterable[nn.Module | nn.Parameter]) -> None:
        self._places = [place for place in places_of(owners) if place[0][place[1]].requires_grad]
        self._build()

    def __getstate__(self) -> dict[str, Any]:
        return {"_places": self._places}  # pickle would give each view a storage of its own

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._build()

    @property
    def parts(self) -> list[tuple[list[nn.Parameter], list[Tensor]]]:
        """For each vector, the parameters and their views of it, as they were at the last `begin`."""
        return self._parts

    def begin(self) -> None:
        """Sets every gradient to zero, and makes it a view again if something else was put there.

        Parameters that were replaced or converted since get new vectors.
        """
        parameters = at(self._places)
        if [_kind(parameter) for parameter in parameters] != self._kinds or any(
            one is not other for one, other in zip(parameters, self._parameters, strict=True)
        ):
            self._build()
        for vector in self._vectors:
            vector.zero_()
        for members, views in self._parts:
            for parameter, view in zip(members, views, strict=True):
                parameter.grad = view

    def clip(self, greatest: float) -> float:
        """Scales all of it so that its norm is at most `greatest`; returns the norm before."""
        whole = math.hypot(*(norm(vector) for vector in self._vectors))
        if whole > greatest:
            for vector in self._vectors:
                vector.mul_(greatest / (whole + 1e-6))
        return whole

    def _build(self) -> None:
        self._parameters = at(self._places)
        self._kinds = [_kind(parameter) for parameter in self._parameters]
        groups: dict[tuple[torch.dtype, torch.device], list[nn.Parameter]] = {}
        for parameter, (dtype, device, _) in zip(self._parameters, self._kinds, strict=True):
            groups.setdefault((dtype, device), []).append(parameter)
        self._vectors: list[Tensor] = []
        self._parts: list[tuple[list[nn.Parameter], list[Tensor]]] = []
        for (dtype, device), members in groups.items():
            sizes = [parameter.numel() for parameter in members]
            vector = torch.zeros(sum(sizes), dtype=dtype, device=device)
            views = zip(members, torch.split(vector, sizes), strict=True)
            self._vectors.append(vector)
            self._parts.append((members, [part.view(parameter.shape) for parameter, part in views]))


class FlatAdam:
    """What `torch.optim.Adam(fused=True)` computes, bit for bit, from the gradients of a `FlatGradient`.

    What torch's class does around that computation takes several times as long as the step of a small network.

    Args:
        gradient: of the parameters.
        learning_rate: of the steps to come; `param_groups[0]["lr"]` changes it.

    Source: Kingma & Ba 2015, "Adam: A Method for Stochastic Optimization".
    """

    def __init__(self, gradient: FlatGradient, learning_rate: float) -> None:
        self._gradient = gradient
        self._steps = [views[0].new_zeros((), dtype=torch.float32) for _, views in gradient.parts]
        self._moments = [
            ([torch.zeros_like(view) for view in views], [torch.zeros_like(view) for view in views])
            for _, views in gradient.parts
        ]
        count = sum(len(views) for _, views in gradient.parts)
        settings = {"lr": learning_rate, "betas": (0.9, 0.999), "eps": 1e-8}
        self.param_groups: list[dict[str, Any]] = [settings | {"params": list(range(count))}]

    @torch.no_grad()
    def step(self) -> None:
        """Takes one step.

        Raises:
            RuntimeError: the parameters were converted to another dtype or device since this optimiser was made.
        """
        group, parts = self.param_groups[0], self._gradient.parts
        for (parameters, gradients), step, (first, second) in zip(parts, self._steps, self._moments, strict=True):
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
        """Returns steps, moments and settings, in the form that torch's optimisers give them."""
        return {"state": dict(enumerate(self._states())), "param_groups": self.param_groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resumes bit-exactly from what `state_dict` returned.

        Raises:
            ValueError: it is another optimiser's, or of other parameters.
        """
        states = self._states()
        loaded = [state_dict["state"].get(index, {}) for index in range(len(states))]
        if state_dict["state"] and [_shapes(state) for state in states] != [_shapes(state) for state in loaded]:
            raise ValueError("these are not the moments that Adam keeps of these parameters")
        self.param_groups = [dict(group) for group in state_dict["param_groups"]]
        for state, other in zip(states, loaded, strict=True):
            for name, value in other.items():
                state[name].copy_(value)

    def _states(self) -> list[dict[str, Tensor]]:
        return [
            {"step": step, "exp_avg": first, "exp_avg_sq": second}
            for step, moments in zip(self._steps, self._moments, strict=True)
            for first, second in zip(*moments, strict=True)
        ]


def _kind(parameter: Tensor) -> tuple[torch.dtype, torch.device, torch.Size]:
    return parameter.dtype, parameter.device, parameter.shape


def _shapes(state: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in state.items()}
