"""`sab_agents.zoo` without RL Zoo, and the agent that needs nothing of it."""

from __future__ import annotations

import sys

import pytest

from sab_agents.zoo import PPOSab, main


def test_a_missing_extra_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "rl_zoo3", None)
    assert main(["train", "--env", "CartPole-v1"]) == 2
    expected = "sab_agents.zoo needs RL Zoo, but rl_zoo3 is not installed. Run: pip install 'sab-agents[zoo]'.\n"
    assert capsys.readouterr().err == expected


def test_the_memorys_settings_are_arguments_and_precede_policy_kwargs() -> None:
    given = {"lstm_hidden_size": 32, "net_arch": [], "core_kwargs": {"top_k": 3, "bptt_steps": 4}}
    agent = PPOSab("MlpSabPolicy", "CartPole-v1", hidden_size=8, capacity=16, policy_kwargs=given, device="cpu")
    core = {"top_k": 3, "bptt_steps": 4, "capacity": 16}
    assert agent.policy_kwargs == {"lstm_hidden_size": 8, "net_arch": [], "core_kwargs": core}
    assert given["core_kwargs"] == {"top_k": 3, "bptt_steps": 4}


def test_a_core_without_memory_has_no_capacity() -> None:
    with pytest.raises(TypeError, match="unknown setting 'capacity' of the core"):
        PPOSab("MlpLstmPolicy", "CartPole-v1", capacity=16, device="cpu")
