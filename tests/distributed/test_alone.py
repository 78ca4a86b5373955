"""A process without others is left as it is, and a wrong start says so."""

from __future__ import annotations

import pytest
import torch

from sab_agents.distributed import Ranks, launched
from sab_agents.optim.flat import FlatGradient


def test_a_process_without_torchrun_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Ranks.join("cpu") == Ranks(0, 1)
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        assert not launched()
        monkeypatch.setenv(name, value)
    assert not launched()
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert launched()


def test_alone_everything_stays_as_it_is() -> None:
    ranks, vector = Ranks(), torch.arange(3.0)
    ranks.share([vector])
    ranks.average(vector)
    assert vector.tolist() == ranks.added_up(vector).tolist() == [0, 1, 2]
    assert ranks.main
    assert (ranks.any(True), ranks.any(False)) == (True, False)
    assert (ranks.gathered(5), ranks.of_main(5)) == ([5], 5)
    ranks.require_same("Owner", {"size": 3})
    ((mean, deviation),) = ranks.moments([vector])
    assert (float(mean), float(deviation)) == (1, 1)


def test_figures_have_room_behind_the_gradient() -> None:
    layer = torch.nn.Linear(2, 1)
    gradient = FlatGradient([layer], figures=2)
    gradient.begin()
    layer(torch.ones(1, 2)).sum().backward()
    assert gradient.average(Ranks(), [torch.tensor(7.0)]) == [torch.tensor(7.0)]
    assert gradient.clip(100) == pytest.approx(3**0.5)  # without the figures
