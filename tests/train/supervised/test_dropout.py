"""Tests of the dropout of recurrent weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from sab_agents.core.registry import build_core
from sab_agents.train.errors import UserError
from sab_agents.train.supervised.dropout import dropped, recurrent_weights
from sab_agents.train.supervised.loop import Trainer
from tests.train.conftest import MakeConfig

CORES = ("sab", "lstm", "gru", "lstm_attention")


@pytest.mark.parametrize("name", CORES)
def test_loss_and_gradient_are_those_of_a_core_with_masked_weights(name: str) -> None:
    """The peer is autograd, through the product of each weight and what `dropped` multiplied it by."""
    torch.manual_seed(0)
    core = build_core(name, 3, 8).double()
    x = torch.randn(12, 2, 3, dtype=torch.float64)
    weights, before = recurrent_weights(core), {key: value.clone() for key, value in core.state_dict().items()}
    with dropped(weights, 0.4, (5, 7)):
        factors = {key: value / before[key] for key, value in core.named_parameters() if "weight_hh" in key}
        loss = core(x)[0].square().sum()
        loss.backward()
    for value in factors.values():
        assert set(np.round(value.detach().numpy(), 6).ravel()) == {0.0, round(1 / 0.6, 6)}
    for key, value in core.state_dict().items():
        assert torch.equal(value, before[key]), key

    whole = {key: value.clone().requires_grad_() for key, value in before.items()}
    masked = {key: value * factors[key].detach() if key in factors else value for key, value in whole.items()}
    expected: Tensor = functional_call(core, masked, (x,))[0].square().sum()
    expected.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(loss, expected)
    for key, parameter in core.named_parameters():
        torch.testing.assert_close(parameter.grad, whole[key].grad)


def test_each_update_leaves_out_others_and_about_the_fraction() -> None:
    weight = torch.nn.Parameter(torch.ones(400, 100))
    left_out = []
    for seed in ((0, 0), (0, 1), (0, 0)):
        with dropped([weight], 0.25, seed):
            left_out.append(weight.detach() == 0)
    assert torch.equal(left_out[0], left_out[2])
    assert 0.3 < (left_out[0] ^ left_out[1]).float().mean() < 0.45  # 2 · 0.25 · 0.75
    assert abs(left_out[0].float().mean() - 0.25) < 0.01


def test_weights_are_whole_again_after_an_error() -> None:
    weight = torch.nn.Parameter(torch.randn(8, 4))
    before = weight.detach().clone()
    with pytest.raises(RuntimeError, match="stop"), dropped([weight], 0.5, (0,)):
        raise RuntimeError("stop")
    assert torch.equal(weight, before)


def test_training_leaves_weights_out_and_evaluation_does_not(make_config: MakeConfig) -> None:
    plain, trainer = Trainer(make_config(out="plain")), Trainer(make_config(out="dropout", weight_dropout=0.5))
    assert trainer._evaluate("validation") == plain._evaluate("validation")
    assert trainer.update()[0] != plain.update()[0]


@pytest.mark.parametrize("core", ["transformer", "mingru"])
def test_a_core_without_recurrent_weights_is_refused(core: str, make_config: MakeConfig) -> None:
    with pytest.raises(UserError, match=r"weight_dropout: .* has no recurrent weight matrix .* Set it to 0"):
        Trainer(make_config(core=core, core_settings={}, weight_dropout=0.1))


def test_the_fraction_is_checked(make_config: MakeConfig) -> None:
    with pytest.raises(ValueError, match=r"weight_dropout must be a number from 0 to 0\.9, but is 1"):
        make_config(weight_dropout=1)
