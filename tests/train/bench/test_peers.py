"""`sab-agents bench peers`: every side on every task at a tiny size; no assertion on how fast anything is."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from sab_agents.train.bench import peers
from sab_agents.train.bench.agents import REPAIRED, STOCK
from sab_agents.train.bench.clean_loop import CleanLoop
from sab_agents.train.bench.peers import CLEAN, LOOPS, SIDES, SKRL, TASKS, TORCHRL, Run, Task, build, run
from sab_agents.train.cli import main


def tiny(name: str) -> Task:
    return TASKS[name].sized(2, 8)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", TASKS)
def test_every_side_learns_every_task(name: str, side: str) -> None:
    package = {STOCK: "sb3_contrib", REPAIRED: "sb3_contrib", **{each: each for each in LOOPS}}.get(side)
    if package is not None:
        pytest.importorskip(package, reason=f"{package}, of the extra peers, is not installed")
    found = run(name, tiny(name), side, 0, 0.0)
    assert found.steps == 16
    assert found.collecting > 0
    assert found.learning > 0
    assert found.solved is None


def test_the_command_prints_and_writes_every_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "peers.json"
    sides = ["--sides", "LSTM", CLEAN, "--seeds", "2", "--seconds", "1", "--envs", "2", "--steps", "8"]
    assert main(["bench", "peers", "tmaze", *sides, "--json", str(file)]) == 0
    runs = json.loads(file.read_text())["runs"]
    assert [(each["side"], each["seed"]) for each in runs] == [("LSTM", 0), (CLEAN, 0), ("LSTM", 1), (CLEAN, 1)]
    assert CLEAN in capsys.readouterr().out


def test_runs_that_the_file_holds_are_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, trained = tmp_path / "peers.json", []

    def noted(name: str, task: Task, side: str, seed: int, most: float) -> Run:  # noqa: ARG001
        trained.append((side, seed))
        return run(name, task, side, seed, 0.0)

    monkeypatch.setattr(peers, "run", noted)
    common = ["bench", "peers", "tmaze", "--seconds", "1", "--envs", "2", "--steps", "8", "--json", str(file)]
    assert main([*common, "--sides", CLEAN]) == 0
    assert main([*common, "--sides", CLEAN, "LSTM", "--seeds", "2"]) == 0
    assert trained == [(CLEAN, 0), ("LSTM", 0), (CLEAN, 1), ("LSTM", 1)]
    runs = json.loads(file.read_text())["runs"]
    assert [(each["side"], each["seed"]) for each in runs] == trained


@pytest.mark.parametrize("content", [None, "no JSON", '{"runs": [{"task": "tmaze"}]}'])
def test_a_file_of_other_runs_is_an_error(
    content: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "peers.json"
    common = ["bench", "peers", "tmaze", "--sides", CLEAN, "--envs", "2", "--steps", "8", "--json", str(file)]
    if content is None:
        assert main([*common, "--seconds", "1"]) == 0
    else:
        file.write_text(content)
    assert main([*common, "--seconds", "2"]) == 2
    assert ("seconds 1, these 2" if content is None else "holds no runs") in " ".join(capsys.readouterr().err.split())


def test_an_unknown_task_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "peers", "tmase"]) == 2
    assert "Did you mean 'tmaze'?" in " ".join(capsys.readouterr().err.split())


def test_a_run_ends_when_the_task_is_solved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "RECENT", 1)
    solved = run("tmaze", Task(**{**vars(tiny("tmaze")), "success": -1e9}), CLEAN, 0, 60.0)
    assert solved.solved == solved.collecting + solved.learning
    assert solved.score == 1


def test_minibatches_are_whole_rows_of_as_many_environments_as_fit() -> None:
    assert [TASKS[name].sized(None, None).settings["batch_size"] for name in TASKS] == [512, 512, 512]
    assert tiny("tmaze").settings["batch_size"] == 8


def test_the_plain_loop_evaluates_what_it_collected_as_when_it_acted() -> None:
    """Episodes of 6 steps end within the rollouts of 8, and the second rollout begins within one."""
    task = Task(**{**vars(tiny("tmaze")), "arguments": {"corridor_length": 5}})
    learner: Any = build(CLEAN, task, 0)
    assert isinstance(learner, CleanLoop)
    learner.collect()
    learner.collect()
    with torch.no_grad():
        distribution, values, _ = learner.network(learner._seen.flatten(0, 1), learner._starts, learner._first_state)
    log_probs = distribution.logits.gather(1, learner._actions.view(-1, 1)).squeeze(1)
    torch.testing.assert_close(values, learner._values.flatten())
    torch.testing.assert_close(log_probs, learner._log_probs.flatten())
    before = [parameter.clone() for parameter in learner.network.parameters()]
    learner.learn(0)
    assert any(not torch.equal(*pair) for pair in zip(before, learner.network.parameters(), strict=True))


@pytest.mark.parametrize("side", LOOPS)
def test_a_package_that_is_not_installed_is_named(
    side: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, {SKRL: "skrl.agents.torch.ppo", TORCHRL: "torchrl.modules"}[side], None)
    monkeypatch.delitem(sys.modules, f"sab_agents.train.bench.{side}_loop", raising=False)
    assert main(["bench", "peers", "tmaze", "--sides", side]) == 2
    assert f"{side}, which is not installed" in " ".join(capsys.readouterr().err.split())


def test_torchrl_evaluates_what_it_collected_as_when_it_acted() -> None:
    """Episodes of 6 steps end within the rollouts of 8."""
    modules = pytest.importorskip("torchrl.modules", reason="torchrl, of the extra peers, is not installed")
    task = Task(**{**vars(tiny("tmaze")), "arguments": {"corridor_length": 5}})
    learner: Any = build(TORCHRL, task, 0)
    learner.collect()
    learner.collect()
    rollout = learner.rollout
    assert rollout["is_init"][:, 1:].any()
    with torch.no_grad(), modules.set_recurrent_mode(True):
        again = learner.critic(rollout.clone())["state_value"]
        log_prob = learner.actor.get_dist(rollout.clone()).log_prob(rollout["action"])
    torch.testing.assert_close(again, rollout["state_value"])
    torch.testing.assert_close(log_prob, rollout["action_log_prob"])
    kept = [parameter.clone() for parameter in learner.loss.parameters()]
    learner.learn(0)
    assert any(not torch.equal(*pair) for pair in zip(kept, learner.loss.parameters(), strict=True))


def test_skrl_evaluates_what_it_collected_as_when_it_acted() -> None:
    """Episodes of 6 steps end within the rollouts of 8. Its policy's first states differ: see the module."""
    pytest.importorskip("skrl", reason="skrl, of the extra peers, is not installed")
    task = Task(**{**vars(tiny("tmaze")), "arguments": {"corridor_length": 5}})
    learner: Any = build(SKRL, task, 0)
    learner.collect()
    learner.collect()
    names = ["observations", "values", "terminated", "rnn_value_0", "rnn_value_1"]
    seen, before, terminated, *state = learner.agent.memory.sample_all(names=names, sequence_length=8)[0]
    assert terminated.any()
    learner.agent.enable_models_training_mode(True)
    inputs = {"observations": seen, "terminated": terminated, "rnn": [each.transpose(0, 1) for each in state]}
    with torch.no_grad():
        values, _ = learner.models["value"].act(inputs, role="value")
    torch.testing.assert_close(values, before)
    kept = [parameter.clone() for parameter in learner.agent.policy.parameters()]
    learner.agent.enable_models_training_mode(False)
    learner.learn(0)
    assert any(not torch.equal(*pair) for pair in zip(kept, learner.agent.policy.parameters(), strict=True))
