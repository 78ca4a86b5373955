"""A process without others is left as it is, and a wrong start says so."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sab_agents import RecurrentPPO
from sab_agents.distributed import Ranks, launched
from sab_agents.optim.flat import FlatGradient
from sab_agents.train.cli import main
from tests.ppo.cases import agent


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


def test_each_rank_has_a_file_and_a_seed_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = agent("Gru", seed=5).learn(24)
    model.save(tmp_path / "agent")
    monkeypatch.setattr(Ranks, "join", lambda _: Ranks(1, 2))
    other = RecurrentPPO.load(tmp_path / "agent", model.get_env(), device="cpu")  # rank 0's, where there is no other
    assert (other.seed, other.seed_of_rank(5), other.num_timesteps) == (5, 5 + 3, 24)
    with pytest.raises(FileNotFoundError, match=r"agent\.rank1\.zip: no such file"):
        RecurrentPPO.load(tmp_path / "agent", model.get_env(), device="cpu", force_reset=False)
    other.num_timesteps = 48
    other.save(tmp_path / "agent")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["agent.rank1.zip", "agent.zip"]
    assert RecurrentPPO.load(tmp_path / "agent", device="cpu").num_timesteps == 48


def test_a_stream_is_refused_under_torchrun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    assert main(["train", "--env", "CartPole-v1", "--algo", "stream", "--out", str(tmp_path / "run")]) == 2
    assert "algo stream learns in one process, but torchrun has started several" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
