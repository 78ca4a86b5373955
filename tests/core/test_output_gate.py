"""The gate through which what was read leaves a `SAB`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sab_agents import SAB
from sab_agents.core.recipes import former_settings
from sab_agents.core.registry import core_spec

F64 = torch.float64


def pair(**settings: Any) -> tuple[SAB, SAB]:
    """The same network with a gate that is open by chance, and without one."""
    torch.manual_seed(0)
    gated = SAB(3, 6, top_k=2, bptt_steps=4, dtype=F64, output_gate=True, **settings)
    plain = SAB(3, 6, top_k=2, bptt_steps=4, dtype=F64, output_gate=False, **settings)
    missing, unexpected = plain.load_state_dict(gated.state_dict(), strict=False)
    assert (missing, unexpected) == ([], ["output_gate.weight", "output_gate.bias"])
    assert gated.output_gate is not None
    nn.init.uniform_(gated.output_gate.weight, -3, 3)
    nn.init.uniform_(gated.output_gate.bias, -1, 1)
    return gated, plain


def by_formula(output: Tensor, gated: SAB) -> Tensor:
    h, s = output.chunk(2, dim=2)
    assert gated.output_gate is not None
    return torch.cat([h, 2 * s / (1 + torch.exp(-gated.output_gate.weight * h - gated.output_gate.bias))], dim=2)


@pytest.mark.parametrize("settings", [{}, {"recipe": "paper"}, {"summary_gain": 0.5}, {"summary_gain": "gate"}])
def test_it_multiplies_what_was_read_and_alters_nothing_else(settings: dict[str, Any]) -> None:
    gated, plain = pair(**settings)
    x, weight = torch.randn(15, 2, 3, dtype=F64), torch.randn(15, 2, 12, dtype=F64)
    output, state = gated(x)
    whole, same = plain(x)
    torch.testing.assert_close(output, by_formula(whole, gated), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(state.tensors(), same.tensors(), rtol=0, atol=0)
    torch.autograd.backward(output, weight)
    torch.autograd.backward(by_formula(whole, gated), weight)
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(gated.get_parameter(name).grad, parameter.grad, rtol=1e-9, atol=1e-12)


def test_it_learns_what_its_formula_learns() -> None:
    gated, plain = pair()
    assert gated.output_gate is not None
    x, weight = torch.randn(15, 2, 3, dtype=F64), torch.randn(15, 2, 12, dtype=F64)
    torch.autograd.backward(gated(x)[0], weight)
    found = [each.grad for each in gated.output_gate.parameters()]
    expected = torch.autograd.grad(
        (by_formula(plain(x)[0].detach(), gated) * weight).sum(), tuple(gated.output_gate.parameters())
    )
    for actual, wanted in zip(found, expected, strict=True):
        assert wanted.abs().min() > 0
        torch.testing.assert_close(actual, wanted, rtol=1e-9, atol=1e-12)


def test_it_begins_as_a_network_without_one() -> None:
    torch.manual_seed(0)
    gated = SAB(3, 6, dtype=F64)
    torch.manual_seed(0)
    plain = SAB(3, 6, dtype=F64, output_gate=False)
    x = torch.randn(15, 2, 3, dtype=F64)
    assert torch.equal(gated(x)[0], plain(x)[0])


def test_the_default_has_one_and_the_paper_none() -> None:
    assert SAB(3, 6).output_gate is not None
    assert SAB(3, 6, recipe="paper").output_gate is None
    assert "output_gate=True" in repr(SAB(3, 6))


def test_what_is_neither_true_nor_false_is_refused() -> None:
    with pytest.raises(TypeError, match=r"SAB: output_gate must be True or False, but is 1\."):
        SAB(3, 6, output_gate=1)  # type: ignore[arg-type]


def test_files_of_when_there_was_none_have_none() -> None:
    known = core_spec("sab").settings
    assert former_settings({"recipe": "default"}, known, {"recipe": "default", "age": False}) == {
        "recipe": "default",
        "age": False,
        "output_gate": False,
        "age_scale": 1,
        "sharpness": 0.0,
    }
    assert former_settings({}, known, {"top_k": 3}) == {"recipe": "paper", "age_scale": 1, "sharpness": 0.0, "top_k": 3}
    assert former_settings({"recipe": "default"}, known, {"recipe": "default", "output_gate": None}) == {
        "recipe": "default",
        "output_gate": None,
        "age_scale": 1,
        "sharpness": 0.0,
    }
