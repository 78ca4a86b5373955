"""PPO agents: what is found with credit across rollouts and not without it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from statistics import median

import pytest

from sab_agents.train.commands.demo import T_MAZE
from sab_agents.train.configuration import load
from sab_agents.train.suites.agents import Agents, AgentsConfig
from sab_agents.train.suites.engine import run_suite

pytestmark = pytest.mark.learning


def test_sab_goes_through_corridors_three_times_as_long_as_its_rollouts(tmp_path: Path) -> None:
    config = dataclasses.replace(T_MAZE, learners={"SAB": T_MAZE.learners["SAB"]}, seeds=(0, 1, 2))
    results = run_suite(Agents(config), tmp_path)
    reached = [cell.value for cell, result in results.items() if result["reached"]]
    assert sorted(reached) == sorted(3 * config.values)


def test_an_lstm_learns_to_reach_the_junction_and_guesses_there(tmp_path: Path) -> None:
    config = dataclasses.replace(T_MAZE, learners={"LSTM": T_MAZE.learners["LSTM"]})
    (cell,) = run_suite(Agents(config), tmp_path).values()
    assert not cell["reached"]
    assert 0.4 < cell["curve"][-1]["success"] < 0.7


def test_memory_costs_little_where_two_steps_are_enough(tmp_path: Path) -> None:
    flags = ["--learners", "sab", "--seeds", "0", "1", "2", "3", "4"]
    config = load(AgentsConfig, "configs/agents/cartpole_masked.yaml", flags)
    cells = run_suite(Agents(config), tmp_path).values()
    # An agent in five falls back to some 400 of 500 before the end.
    assert median(cell["return"] for cell in cells) > 450
