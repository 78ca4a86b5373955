"""The demo's end: agents whose first action decides the last reward, two rollouts later."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from sab_agents.train.agents import run_sweep
from sab_agents.train.agents_config import AgentsConfig

FIRST_STEP = AgentsConfig(
    env="SAB/FirstStepCredit-v0",
    argument="length",
    values=(64,),
    num_envs=16,
    shared={
        "n_steps": 32,
        "batch_size": 128,
        "n_epochs": 4,
        "learning_rate": 1e-3,
        "ent_coef": 0.01,
        "policy_kwargs": {"lstm_hidden_size": 32, "net_arch": []},
    },
    learners={"SAB": {"policy": "MlpSabPolicy"}, "LSTM": {"policy": "MlpLstmPolicy"}},
    success=1.0,
    recent=50,
    target=0.98,
    steps=60_000,
)


def demo_agent(console: Console, out: Path, config: AgentsConfig = FIRST_STEP) -> Path:
    """Trains the agents, one after the other, and prints how often each chose right in the end.

    Args:
        console: where to print.
        out: folder of the runs; cells that are there already are shown again.
        config: the environment and the agents.

    Returns:
        The picture of their learning curves.
    """
    console.print(
        f"\nAgents: the first of {config.values[0]} actions decides the last reward, and nothing tells in between.\n"
        f"An LSTM's gradient ends with its rollout, {config.shared['n_steps']} steps; SAB's goes on through memory.\n"
        "Half of the rewards come by chance.\n"
    )
    run_sweep(config, out)
    return out / "learning_curves.png"
