"""`sab-agents bench agents`: every side of one run, and their ratios; no assertion on how fast anything is."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from sab_agents.train.bench import agents
from sab_agents.train.bench.agents import LSTM, REPAIRED, SIDES, STOCK, Sizes, build
from sab_agents.train.cli import main

SMALL = Sizes(5, envs=2, n_steps=16, batch_size=16, n_epochs=2, hidden_size=8)
TINY = ["--threads", "1", "--envs", "2", "--steps", "8", "--batch", "8", "--epochs", "1", "--hidden", "8"]


@pytest.fixture
def peer() -> Any:
    return pytest.importorskip("sb3_contrib", reason="sb3-contrib, of the extra peers, is not installed")


@pytest.mark.usefixtures("peer")
def test_every_side_is_timed_and_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bench.json"
    assert main(["bench", "agents", "5", "--rounds", "1", "--json", str(file), *TINY]) == 0
    printed = capsys.readouterr().out
    rows = json.loads(file.read_text())["rows"]
    assert [(row["part"], row["side"]) for row in rows] == [(part, side) for part in agents.PARTS for side in SIDES]
    for row in rows:
        assert row["side"] in printed
        assert row["corridor_length"] == 5
        assert 0 < row["low"] <= row["seconds"] <= row["high"]
        stock, repaired = (
            next(other for other in rows if (other["part"], other["side"]) == (row["part"], side))
            for side in (STOCK, REPAIRED)
        )
        assert row["to_stock"] == pytest.approx(stock["seconds"] / row["seconds"])
        assert row["to_repaired"] == pytest.approx(repaired["seconds"] / row["seconds"])
    assert len({row["parameters"] for row in rows if not row["side"].startswith("MlpSab")}) == 1


@pytest.mark.usefixtures("peer")
def test_the_repaired_agent_learns_what_the_stock_one_does() -> None:
    weights = []
    for side in (STOCK, REPAIRED):
        agent = build(side, SMALL)
        for _ in range(2):  # the second begins within episodes
            agent.collect()
        before = {name: tensor.clone() for name, tensor in agent.model.policy.state_dict().items()}
        agent.learn(0)
        weights.append(agent.model.policy.state_dict())
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, rtol=0, atol=1e-6)
    assert any(not torch.allclose(tensor, before[name], atol=1e-4) for name, tensor in weights[1].items())


@pytest.mark.usefixtures("peer")
def test_the_repaired_agent_goes_by_one_call_where_the_stock_one_goes_step_by_step() -> None:
    calls = {}
    for side in (STOCK, REPAIRED):
        agent = build(side, SMALL)
        agent.collect()
        lengths: list[int] = []
        agent.model.policy.lstm_actor.register_forward_hook(lambda _m, given, _o, to=lengths: to.append(len(given[0])))
        agent.learn(0)
        calls[side] = lengths
    minibatches = SMALL.n_epochs * SMALL.envs * SMALL.n_steps // SMALL.batch_size
    assert len(calls[REPAIRED]) == minibatches
    assert set(calls[STOCK]) == {1}


def test_each_round_begins_with_the_same_weights() -> None:
    agent = build(LSTM, SMALL)
    before = {name: tensor.clone() for name, tensor in agent.model.policy.state_dict().items()}
    agents.one_round(agent, 2, 0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in agent.model.policy.state_dict().items())


def test_rollouts_of_a_round_see_a_whole_episode() -> None:
    assert [Sizes(length).rollouts for length in (5, 50, 500)] == [1, 1, 4]


def test_a_missing_peer_is_one_line_that_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "sb3_contrib", None)
    assert main(["bench", "agents"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "pip install 'sab-agents[peers]'" in error
