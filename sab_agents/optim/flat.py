"""Parameters of modules, found again after others replaced them; their gradients side by side in vectors; and Adam.

Optimisers go on with the parameters that are found. With all gradients in one vector, using them is one operation.

Dimensions: P features in all parameters together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence, ValuesView
from itertools import chain
from operator import is_
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sab_agents.distributed import Ranks
from sab_agents.kernels import norm


class Parameters:
    """The parameters of modules by name, each once, in the order of `nn.Module.parameters`.

    `load_state_dict(assign=True)`, `parametrize`, pruning and plain assignment replace parameters and whole modules:
    `now` finds those that are there at the time of the call.

    Args:
        owners: modules, or parameters themselves, which cannot be replaced.
    """

    def __init__(self, owners: Iterable[nn.Module | nn.Parameter]) -> None:
        self._owners = list(owners)
        self._named: dict[str, nn.Parameter] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_owners": self._owners, "_named": None}

    def now(self) -> dict[str, nn.Parameter]:
        """Returns the present parameters; the same dictionary until one is replaced, added or taken away."""
        if self._named is None:
            return self._read()
        found, held = self._found, self._held
        if sum(map(len, held)) != len(found) or not all(map(is_, chain.from_iterable(held), found)):
            return self._read()
        return self._named

    def _read(self) -> dict[str, nn.Parameter]:
        named: dict[int, tuple[str, nn.Parameter]] = {}
        self._held: list[ValuesView[Any]] = []  # what the modules' dictionaries hold at any time
        for number, owner in enumerate(self._owners):
            if isinstance(owner, nn.Parameter):
                named.setdefault(id(owner), (f"{number}", owner))
                continue
            for path, module in owner.named_modules():
                self._held += [module._modules.values(), module._parameters.values()]
                for name, parameter in module._parameters.items():
                    if parameter is not None:
                        named.setdefault(id(parameter), (f"{number}.{path}.{name}", parameter))
        # Held, so that no other object can get the identity of one that was replaced.
        self._found = [*chain.from_iterable(self._held)]
        self._named = dict(named.values())
        return self._named


class Successors:
    """Which of the parameters that are there now continues which of those before.

    The same object does, wherever it lies now, and otherwise what lies under the same name in the same shape.

    Args:
        before: parameters by name.
    """

    def __init__(self, before: dict[str, nn.Parameter]) -> None:
        self._before = before
        self._names = {id(parameter): name for name, parameter in before.items()}

    def name_before(self, name: str, parameter: nn.Parameter) -> str | None:
        """Returns the former name of what this parameter continues; None if it is new."""
        known = self._names.get(id(parameter))
        if known is not None:
            return known
        return name if name in self._before and self._before[name].shape == parameter.shape else None


class Follower:
    """Lets one of torch's optimisers go on with the parameters that are there, after others replaced or converted some.

    Each continues with the state of what it replaced. Parameters that are gone are dropped, and new ones join the first
    group in which one was dropped.

    Args:
        owners: modules or parameters, all or some of which the optimiser was made of.
    """

    def __init__(self, owners: Iterable[nn.Module | nn.Parameter]) -> None:
        self._owned = Parameters(owners)
        self._known = self._owned.now()
        self._placeds = list(map(_placed, self._known.values()))

    def follow(self, optimizer: Optimizer) -> None:
        """Joins the optimiser and the parameters that are there now; does nothing if they are those of last time."""
        before, now = self._known, self._owned.now()
        kinds = list(map(_placed, now.values()))
        if before is now and kinds == self._placeds:
            return
        self._known, self._placeds = now, kinds
        successors = Successors(before)
        former = {name: successors.name_before(name, parameter) for name, parameter in now.items()}
        continued = {id(before[old]): now[name] for name, old in former.items() if old is not None}
        added = [now[name] for name, old in former.items() if old is None]
        for group in optimizer.param_groups:
            members = group["params"]
            present = [continued[id(member)] for member in members if id(member) in continued]
            if len(present) < len(members):
                present, added = [*present, *added], []
            group["params"] = present
        state = [(continued.get(id(member)), values) for member, values in optimizer.state.items()]
        optimizer.state.clear()
        for parameter, values in state:
            if parameter is not None:
                optimizer.state[parameter] = {name: _like(parameter, name, value) for name, value in values.items()}


def _placed(parameter: Tensor) -> tuple[torch.dtype, torch.device]:
    return parameter.dtype, parameter.device


def _like(parameter: Tensor, name: str, value: Any) -> Any:
    """Returns a moment in the dtype and on the device of its parameter."""
    if name == "step" or not isinstance(value, Tensor) or value.shape != parameter.shape:
        return value
    return value.to(device=parameter.device, dtype=parameter.dtype if value.is_floating_point() else value.dtype)


class FlatGradient:
    """The gradients of parameters as views of one vector for each dtype and device, mostly a single one.

    A copy, by `copy` or `pickle`, makes vectors of its own.

    Args:
        owners: parameters, or modules whose parameters are meant; those that require no gradient are left out.
        figures: how many numbers `average` can average with the gradient.
    """

    def __init__(self, owners: Iterable[nn.Module | nn.Parameter], figures: int = 0) -> None:
        self._owned, self._figures = Parameters(owners), figures
        self._build()

    def __getstate__(self) -> dict[str, Any]:
        # pickle would give each view a storage of its own
        return {"_owned": self._owned, "_figures": self._figures}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._build()

    @property
    def named(self) -> dict[str, nn.Parameter]:
        """All parameters by name, as they were at the last `begin`, those that require no gradient among them."""
        return self._named

    @property
    def parts(self) -> list[tuple[list[nn.Parameter], list[Tensor]]]:
        """For each vector, the parameters and their views of it, as they were at the last `begin` or `follow`."""
        return self._parts

    def begin(self) -> None:
        """Sets every gradient to zero, and makes it a view again if something else was put there; follows before."""
        self.follow()
        self.clear()
        for members, views in self._parts:
            for parameter, view in zip(members, views, strict=True):
                parameter.grad = view

    def follow(self) -> None:
        """Makes new vectors if parameters were replaced, converted, frozen or thawed since the last time."""
        named = self._owned.now()
        if (
            named is not self._named
            or list(map(_kind, named.values())) != self._kinds
            # `nn.Module.to` gives each gradient another storage in place: there and back, it shows nowhere else.
            or [view.data_ptr() for _, views in self._parts for view in views] != self._addresses
        ):
            self._build()

    def clear(self) -> None:
        """Sets every gradient to zero, where nobody has changed parameters or gradients since `begin`."""
        for vector in self._vectors:
            vector.zero_()

    def clip(self, greatest: float) -> float:
        """Scales all of it so that its norm is at most `greatest`; returns the norm before."""
        whole = math.hypot(*(norm(vector) for vector in self._vectors))
        if whole > greatest:
            for vector in self._vectors:
                vector.mul_(greatest / (whole + 1e-6))
        return whole

    def average(self, ranks: Ranks, figures: Sequence[Tensor] = ()) -> Sequence[Tensor]:
        """Averages the gradient over the ranks that learn together, with figures that travel in the same vector.

        Args:
            ranks: alone, nothing changes.
            figures: scalars, as many as the constructor was told.

        Returns:
            Their means over the ranks.
        """
        if ranks.alone:
            return figures
        room = self._whole[0][len(self._vectors[0]) :]
        for place, figure in zip(room, figures, strict=True):
            place.copy_(figure)
        for whole in self._whole:
            ranks.average(whole)
        return room.clone().unbind()

    def _build(self) -> None:
        self._named = self._owned.now()
        self._kinds = list(map(_kind, self._named.values()))
        groups: dict[tuple[torch.dtype, torch.device], list[nn.Parameter]] = {}
        for parameter in self._named.values():
            if parameter.requires_grad:
                groups.setdefault((parameter.dtype, parameter.device), []).append(parameter)
            else:
                parameter.grad = None  # an optimiser passes over it
        self._whole: list[Tensor] = []  # the vectors, the first with room for the figures behind the gradient
        self._vectors: list[Tensor] = []
        self._parts: list[tuple[list[nn.Parameter], list[Tensor]]] = []
        for (dtype, device), members in groups.items():
            sizes = [parameter.numel() for parameter in members]
            room = 0 if self._whole else self._figures
            self._whole.append(torch.zeros(sum(sizes) + room, dtype=dtype, device=device))
            vector = self._whole[-1][: sum(sizes)]
            views = zip(members, torch.split(vector, sizes), strict=True)
            self._vectors.append(vector)
            self._parts.append((members, [part.view(parameter.shape) for parameter, part in views]))
        self._addresses = [view.data_ptr() for _, views in self._parts for view in views]


Moments = tuple[Tensor, Tensor]
"""The running means of a gradient and of its square."""


class _Part(NamedTuple):
    """The parameters of one vector that belong to one group, and what a step of Adam takes of them."""

    vector: int
    group: int
    tensors: list[list[Tensor]]  # parameters, gradients, first and second moments


class FlatAdam:
    """What `torch.optim.Adam(fused=True)` computes, bit for bit, from the gradients of a `FlatGradient`.

    What torch's class does around that computation takes several times as long as the step of a small network.

    Parameters that were replaced or converted keep their moments; those of a frozen parameter wait until it is thawed.
    The steps are counted for all parameters of a vector together.

    Args:
        gradient: of the parameters.
        learning_rate: of the steps to come; `param_groups[…]["lr"]` changes it.
        factor: of the learning rate, for each parameter by its name in `gradient.named`; None is 1 for all. Parameters
            with one factor are one of the `param_groups`, the greatest factor first.

    Source: Kingma & Ba 2015, "Adam: A Method for Stochastic Optimization".
    """

    def __init__(
        self, gradient: FlatGradient, learning_rate: float, factor: Callable[[str], float] | None = None
    ) -> None:
        self._gradient, self._factor = gradient, factor
        self._factors = sorted({self._factor_of(name) for name in gradient.named} or {1.0}, reverse=True)
        settings: dict[str, Any] = {"betas": (0.9, 0.999), "eps": 1e-8}
        self.param_groups: list[dict[str, Any]] = [
            {"lr": learning_rate * factor, **settings, "params": []} for factor in self._factors
        ]
        self._loaded: dict[str, int] = {}  # the group of each parameter, as it was loaded
        self._known: dict[str, nn.Parameter] = {}
        self._kept: dict[str, Moments] = {}
        self._steps: list[Tensor] = []
        self._join()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_joined": None, "_members": []}  # views of the gradient: a copy makes its own

    @torch.no_grad()
    def step(self) -> None:
        """Takes one step."""
        self._require_joined()
        for step in self._steps:
            if step.is_cpu:  # by numpy, which does it in a tenth of the time
                count = step.numpy()
                count += 1
            else:
                step.add_(1)
        for part in self._members:
            group, (parameters, gradients, first, second) = self.param_groups[part.group], part.tensors
            torch._fused_adam_(
                parameters,
                gradients,
                first,
                second,
                [],
                [self._steps[part.vector]] * len(parameters),
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
        self._require_joined()
        return {"state": dict(enumerate(self._states())), "param_groups": self.param_groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resumes bit-exactly from what `state_dict` returned.

        Raises:
            ValueError: it is another optimiser's, or of other parameters.
        """
        self._require_joined()
        states = self._states()
        loaded = [state_dict["state"].get(index, {}) for index in range(len(states))]
        if state_dict["state"] and [_shapes(state) for state in states] != [_shapes(state) for state in loaded]:
            raise ValueError("these are not the moments that Adam keeps of these parameters")
        self.param_groups = [dict(group) for group in state_dict["param_groups"]]
        # They may be those of an optimiser with other factors, which gave other parameters rates of their own.
        names = self._names()
        order = [names[id(parameter)] for members, _ in self._gradient.parts for parameter in members]
        self._loaded = {
            order[index]: place for place, group in enumerate(self.param_groups) for index in group["params"]
        }
        self._assign()
        for state, other in zip(states, loaded, strict=True):
            for name, value in other.items():
                state[name].copy_(value)

    def _require_joined(self) -> None:
        """Continues with the parameters of the gradient, if they are no longer those of the last step."""
        if self._joined is not self._gradient.parts:
            self._join()

    def _join(self) -> None:
        named, parts = self._gradient.named, self._gradient.parts
        successors, kept = Successors(self._known), self._kept
        former = {name: successors.name_before(name, parameter) for name, parameter in named.items()}
        self._kept = {name: kept[old] for name, old in former.items() if old is not None and old in kept}
        names = {id(parameter): name for name, parameter in named.items()}
        steps = max((float(step) for step in self._steps), default=0.0)
        self._steps = [torch.full((), steps, dtype=torch.float32, device=views[0].device) for _, views in parts]
        self._moments: list[tuple[list[Tensor], list[Tensor]]] = []
        for members, views in parts:
            first: list[Tensor] = []
            second: list[Tensor] = []
            for parameter, view in zip(members, views, strict=True):
                name = names[id(parameter)]
                moments = self._kept.get(name)
                if moments is None or moments[0].shape != view.shape:
                    moments = torch.zeros_like(view), torch.zeros_like(view)
                self._kept[name] = moments[0].to(view), moments[1].to(view)
                first.append(self._kept[name][0])
                second.append(self._kept[name][1])
            self._moments.append((first, second))
        self._known, self._joined = named, parts
        self._assign()

    def _assign(self) -> None:
        """Gives each parameter to its group."""
        names = self._names()
        members: dict[tuple[int, int], list[list[Tensor]]] = {}
        for group in self.param_groups:
            group["params"] = []
        index = 0
        for vector, ((parameters, views), moments) in enumerate(zip(self._gradient.parts, self._moments, strict=True)):
            for tensors in zip(parameters, views, *moments, strict=True):
                place = self._group(names[id(tensors[0])])
                self.param_groups[place]["params"].append(index)
                for kind, tensor in zip(members.setdefault((vector, place), [[], [], [], []]), tensors, strict=True):
                    kind.append(tensor)
                index += 1
        self._members = [_Part(vector, group, tensors) for (vector, group), tensors in members.items()]

    def _names(self) -> dict[int, str]:
        """Returns the name of each parameter, by its identity."""
        return {id(parameter): name for name, parameter in self._known.items()}

    def _factor_of(self, name: str) -> float:
        return 1.0 if self._factor is None else self._factor(name)

    def _group(self, name: str) -> int:
        if name in self._loaded:
            return self._loaded[name]
        factor = self._factor_of(name)
        place = self._factors.index(factor) if factor in self._factors else 0  # of a parameter that is new
        return min(place, len(self.param_groups) - 1)

    def _states(self) -> list[dict[str, Tensor]]:
        return [
            {"step": step, "exp_avg": first, "exp_avg_sq": second}
            for step, moments in zip(self._steps, self._moments, strict=True)
            for first, second in zip(*moments, strict=True)
        ]


def _kind(parameter: Tensor) -> tuple[torch.dtype, torch.device, torch.Size, bool]:
    return parameter.dtype, parameter.device, parameter.shape, parameter.requires_grad


def _shapes(state: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in state.items()}
