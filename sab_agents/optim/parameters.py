"""The parameters of modules, found again after others replaced them, and optimisers that go on with those found."""

from __future__ import annotations

from collections.abc import Iterable, ValuesView
from itertools import chain
from operator import is_
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


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
        self._kinds = list(map(_kind, self._known.values()))

    def follow(self, optimizer: Optimizer) -> None:
        """Joins the optimiser and the parameters that are there now; does nothing if they are those of last time."""
        before, now = self._known, self._owned.now()
        kinds = list(map(_kind, now.values()))
        if before is now and kinds == self._kinds:
            return
        self._known, self._kinds = now, kinds
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


def _kind(parameter: Tensor) -> tuple[torch.dtype, torch.device]:
    return parameter.dtype, parameter.device


def _like(parameter: Tensor, name: str, value: Any) -> Any:
    """Returns a moment in the dtype and on the device of its parameter."""
    if name == "step" or not isinstance(value, Tensor) or value.shape != parameter.shape:
        return value
    return value.to(device=parameter.device, dtype=parameter.dtype if value.is_floating_point() else value.dtype)
