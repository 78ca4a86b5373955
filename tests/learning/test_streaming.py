"""Streaming agents on the memory chain, where an agent without a memory returns 0 and the best returns 1."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sab_agents.train.suites.engine import Work
from sab_agents.train.suites.stream import Stream, StreamCell, StreamConfig

POLICIES: dict[str, dict[str, Any]] = {
    "sab": {"policy": "MlpSabPolicy", "bptt_steps": 2},
    "rtu": {"policy": "MlpRtuPolicy"},
    "lstm": {"policy": "MlpLstmPolicy", "bptt_steps": 8},
}


def score(out: Path, policy: str, length: int, episodes: int, seed: int) -> float:
    config = StreamConfig(
        env="SAB/MemoryChain-v0", argument="length", values=(length,), policies=POLICIES, episodes=episodes
    )
    ((_, result),) = Stream(config).run(Work((StreamCell(policy, length, seed),), {}, out))
    return float(result["score"])


def test_trace_units_remember_over_a_few_steps(tmp_path: Path) -> None:
    assert score(tmp_path, "rtu", length=4, episodes=400, seed=0) > 0.4


@pytest.mark.learning
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("policy", "length"), [("sab", 8), ("rtu", 8), ("lstm", 3)])
def test_each_recurrent_agent_learns_to_remember(tmp_path: Path, policy: str, length: int, seed: int) -> None:
    assert score(tmp_path, policy, length, episodes=2000, seed=seed) > 0.7
