"""What a kernel is bound to: storage, gradients, and that both still are those of parameters."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sab_agents.kernels import binding
from sab_agents.kernels.binding import Binding


@pytest.mark.parametrize("compiled", [True, False])
def test_a_computed_tensor_that_lies_where_a_parameter_lay_is_another(
    compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compiled:
        monkeypatch.setattr(binding, "_all_lie_at", binding._in_python)
    parameter = nn.Parameter(torch.ones(4))
    bound = Binding([parameter])
    assert bound.holds([parameter])
    computed = parameter.view(4)
    assert computed.data_ptr() == parameter.data_ptr()
    assert not bound.holds([computed])
