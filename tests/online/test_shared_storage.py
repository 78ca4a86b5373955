"""A learner whose parameters were copied, moved, loaded, averaged or replaced learns on as the original would."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune
from torch.optim.swa_utils import AveragedModel

from sab_agents import OnlineLearner, RecurrentPPO, StreamAC
from sab_agents.kernels import forced_kernel
from tests.kernels.extension import needs_native

KERNELS = [pytest.param("native", marks=needs_native), "torch"]
CORES: dict[str, dict[str, Any]] = {
    "sab": {"capacity": 6, "top_k": 2, "write": "every"},
    "lstm_tbptt": {},
    "rtu": {},
    "gru": {},
    "mingru": {},
}
PPO: dict[str, Any] = {"n_steps": 16, "batch_size": 8, "n_epochs": 1, "device": "cpu", "seed": 0}


class Kind:
    """How a test makes one kind of learner, lets it learn, and finds its modules."""

    def __init__(
        self, make: Callable[[], Any], learn: Callable[[Any], None], parts: Callable[[Any], list[Any]]
    ) -> None:
        self.make, self.learn, self.parts = make, learn, parts

    def modules(self, learner: Any) -> list[nn.Module]:
        return [module for part in self.parts(learner) for module in part.modules()]

    def values(self, learner: Any) -> Tensor:
        return torch.cat(
            [each.detach().flatten().clone() for part in self.parts(learner) for each in part.parameters()]
        )


def online(core: str, optimizer: Any = None) -> Kind:
    def make() -> OnlineLearner:
        return OnlineLearner(3, 2, core=core, hidden_size=5, optimizer=optimizer, **CORES[core])

    def learn(learner: OnlineLearner) -> None:
        rng = np.random.default_rng(learner.steps)
        for t, x in enumerate(rng.standard_normal((13, 3)).astype(np.float32)):  # ends within a window
            if t % 5 == 0:
                learner.predict_one(x)
            learner.learn_one(x, int(x[0] > 0))

    return Kind(make, learn, lambda learner: [learner.core, learner.head])


def streaming(policy: str, **settings: Any) -> Kind:
    def make() -> StreamAC:
        return StreamAC(policy, "CartPole-v1", seed=0, policy_kwargs={"hidden_size": 5, "width": 4, **settings})

    def learn(learner: StreamAC) -> None:
        learner.learn(12, reset_num_timesteps=False)

    return Kind(make, learn, lambda learner: [learner.policy])


def ppo(policy: str, **settings: Any) -> Kind:
    def make() -> RecurrentPPO:
        return RecurrentPPO(policy, "CartPole-v1", policy_kwargs={"lstm_hidden_size": 5, **settings}, **PPO)

    def learn(learner: RecurrentPPO) -> None:
        torch.manual_seed(learner.num_timesteps)
        np.random.seed(learner.num_timesteps)
        learner.learn(16, reset_num_timesteps=False)

    return Kind(make, learn, lambda learner: [learner.policy])


LEARNERS: dict[str, Kind] = {
    **{f"OnlineLearner {core}": online(core) for core in CORES},
    "OnlineLearner sab with SGD": online("sab", lambda parameters: torch.optim.SGD(parameters, 0.1, momentum=0.9)),
    "OnlineLearner rtu with AdamW": online("rtu", lambda parameters: torch.optim.AdamW(parameters, 0.01)),
    "StreamAC sab": streaming("MlpSabPolicy"),
    "StreamAC lstm": streaming("MlpLstmPolicy", shared_core=True),
    "StreamAC rtu": streaming("MlpRtuPolicy"),
    "RecurrentPPO sab": ppo("MlpSabPolicy"),
    "RecurrentPPO lstm": ppo("MlpLstmPolicy"),
    "RecurrentPPO lstm with SGD": ppo("MlpLstmPolicy", optimizer_class=torch.optim.SGD),
}


def loaded(module: nn.Module, *, assign: bool = False) -> None:
    module.load_state_dict({name: value.clone() for name, value in module.state_dict().items()}, assign=assign)


def each(change: Callable[[nn.Module], Any]) -> Callable[[Kind, Any], Any]:
    def way(kind: Kind, learner: Any) -> Any:
        for part in kind.parts(learner):
            change(part)
        return learner

    return way


def each_parameter(change: Callable[[nn.Module, str, nn.Parameter], Any]) -> Callable[[Kind, Any], Any]:
    def way(kind: Kind, learner: Any) -> Any:
        for module in kind.modules(learner):
            for name, parameter in list(module.named_parameters(recurse=False)):
                change(module, name, parameter)
        return learner

    return way


def through_vector(part: nn.Module) -> None:
    parameters = list(part.parameters())
    nn.utils.vector_to_parameters(nn.utils.parameters_to_vector(parameters).detach().clone(), parameters)


def data_replaced(_: nn.Module, __: str, parameter: nn.Parameter) -> None:
    parameter.data = parameter.data.clone()


def gradient_data_replaced(_: nn.Module, __: str, parameter: nn.Parameter) -> None:
    if parameter.grad is not None:
        parameter.grad.data = parameter.grad.data.clone()


def swapped(_: nn.Module, __: str, parameter: nn.Parameter) -> None:
    parameter.grad = None
    torch.utils.swap_tensors(parameter, nn.Parameter(parameter.detach().clone()))  # type: ignore[no-untyped-call]


def averaged(part: nn.Module) -> None:
    average = AveragedModel(part, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.0))  # type: ignore[no-untyped-call]
    average.update_parameters(part)
    average.update_parameters(part)
    part.load_state_dict(average.module.state_dict())


def polyak(part: nn.Module) -> None:
    target = copy.deepcopy(part)
    with torch.no_grad():
        for mine, theirs in zip(part.parameters(), target.parameters(), strict=True):
            mine.data.mul_(0.0).add_(theirs.data)


def pruned(module: nn.Module, name: str) -> None:
    prune.l1_unstructured(module, name, amount=0.4)  # type: ignore[no-untyped-call]


def with_swapping(part: nn.Module) -> None:
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        for parameter in part.parameters():
            parameter.grad = None
        loaded(part)
        part.double().float()
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)


WAYS: dict[str, Callable[[Kind, Any], Any]] = {
    "copy.copy": lambda _, learner: copy.copy(learner),
    "deepcopy": lambda _, learner: copy.deepcopy(learner),
    "pickle": lambda _, learner: cloudpickle.loads(cloudpickle.dumps(learner)),
    "parameters_to_vector": each(through_vector),
    "load_state_dict": each(loaded),
    "load_state_dict(assign=True)": each(lambda part: loaded(part, assign=True)),
    "double().float()": each(lambda part: part.double().float()),
    "to": each(lambda part: part.to("cpu", torch.float32)),
    "share_memory": each(lambda part: part.share_memory()),
    "swap_tensors": each_parameter(swapped),
    "set_swap_module_params_on_conversion": each(with_swapping),
    "a new nn.Parameter": each_parameter(
        lambda module, name, parameter: setattr(module, name, nn.Parameter(parameter.detach().clone()))
    ),
    "parameter.data": each_parameter(data_replaced),
    "parameter.grad.data": each_parameter(gradient_data_replaced),
    "zero_grad": each(lambda part: part.zero_grad(set_to_none=True)),
    "zero_grad to zeros": each(lambda part: part.zero_grad(set_to_none=False)),
    "AveragedModel": each(averaged),
    "polyak": each(polyak),
    "frozen and thawed": each(lambda part: part.requires_grad_(False).requires_grad_(True)),
}
SWAPS = "swap_tensors", "set_swap_module_params_on_conversion"
every_learner = pytest.mark.parametrize("name", LEARNERS)
every_kernel = pytest.mark.parametrize("kernel", KERNELS)


@cache
def untouched(name: str, _kernel: str) -> list[Tensor]:
    """The parameters of a learner that nobody touches, before and after each of two more turns."""
    kind = LEARNERS[name]
    learner = kind.make()
    kind.learn(learner)
    found = [kind.values(learner)]
    for _ in range(2):
        kind.learn(learner)
        found.append(kind.values(learner))
    return found


@pytest.mark.pairs
@every_learner
@every_kernel
@pytest.mark.parametrize("way", WAYS)
def test_a_learner_goes_on_as_the_original_would(name: str, kernel: str, way: str) -> None:
    kind = LEARNERS[name]
    if way in SWAPS and any(isinstance(module, nn.RNNBase) for module in kind.modules(kind.make())):
        pytest.skip("torch refuses to swap the parameters of its own recurrent layers, to which weak references point")
    with forced_kernel(kernel):
        before, *after = untouched(name, kernel)
        learner = kind.make()
        kind.learn(learner)
        learner = WAYS[way](kind, learner)
        assert torch.equal(before, kind.values(learner))
        for expected in after:
            kind.learn(learner)
            # Where a tensor lies in memory decides how some sums are rounded.
            torch.testing.assert_close(kind.values(learner), expected, rtol=1e-5, atol=1e-6)
        assert not torch.allclose(before, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", [name for name in LEARNERS if "PPO" not in name])
def test_a_learner_that_was_converted_goes_on_in_the_other_dtype(name: str) -> None:
    kind = LEARNERS[name]
    after = untouched(name, "")[1:]
    learner = kind.make()
    kind.learn(learner)
    each(lambda part: part.double())(kind, learner)
    for expected in after:
        kind.learn(learner)
        assert kind.values(learner).dtype is torch.float64
        torch.testing.assert_close(kind.values(learner).float(), expected, rtol=1e-3, atol=1e-4)


@every_learner
@every_kernel
def test_a_copy_and_its_original_do_not_touch_each_other(name: str, kernel: str) -> None:
    kind = LEARNERS[name]
    with forced_kernel(kernel):
        learner = kind.make()
        kind.learn(learner)
        other = copy.deepcopy(learner)
        before = kind.values(learner)
        kind.learn(other)
        assert torch.equal(before, kind.values(learner))


@every_learner
@every_kernel
def test_frozen_parameters_stay_and_the_others_learn(name: str, kernel: str) -> None:
    kind = LEARNERS[name]
    with forced_kernel(kernel):
        learner = kind.make()
        kind.learn(learner)
        frozen = next(iter(kind.parts(learner)[0].parameters())).requires_grad_(False)
        before, whole = frozen.detach().clone(), kind.values(learner)
        kind.learn(learner)
        assert torch.equal(before, frozen)
        assert not torch.equal(whole, kind.values(learner))


@pytest.mark.pairs
@every_learner
@every_kernel
@pytest.mark.parametrize("wrap", [parametrizations.weight_norm, parametrizations.orthogonal, pruned])
def test_weights_that_become_computed_are_learnt(name: str, kernel: str, wrap: Callable[[Any, str], Any]) -> None:
    kind = LEARNERS[name]
    with forced_kernel(kernel):
        learner = kind.make()
        kind.learn(learner)
        found = [
            (module, key)
            for module in kind.modules(learner)
            for key, parameter in list(module.named_parameters(recurse=False))
            if key.startswith("weight") and parameter.dim() == 2 and (wrap is pruned or bool(parameter.any()))
        ]
        for module, key in found:
            wrap(module, key)
        before = [parameter.detach().clone() for module in kind.parts(learner) for parameter in module.parameters()]
        kind.learn(learner)
        after = [parameter for module in kind.parts(learner) for parameter in module.parameters()]
        moved = [not torch.equal(*pair) for pair in zip(before, after, strict=True)]
        assert sum(moved) > 0.7 * len(moved)
