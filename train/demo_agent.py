"""The demo's end: agents in T-mazes whose goal was shown several rollouts ago."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from sab_agents.train.agents import run_sweep
from sab_agents.train.agents_config import AgentsConfig

T_MAZE = AgentsConfig(
    env="SAB/PassiveTMaze-v0",
    argument="corridor_length",
    values=(20, 50, 100),
    curriculum=True,
    previous_action_reward=True,
    elapsed_share=True,
    normalize=True,
    num_envs=32,
    shared={
        "n_steps": 32,
        "batch_size": 256,
        "n_epochs": 4,
        "learning_rate": 1e-3,
        "ent_coef": 0.02,
        "policy_kwargs": {"lstm_hidden_size": 32, "net_arch": []},
    },
    at_values={20: {"learning_rate": 3e-3, "ent_coef": 0.1}},
    learners={"SAB": {"policy": "MlpSabPolicy"}, "LSTM": {"policy": "MlpLstmPolicy"}},
    success=0.99,
    target=0.99,
    steps=100_000,
)


def demo_agent(console: Console, out: Path, config: AgentsConfig = T_MAZE) -> Path:
    """Trains the agents, one after the other, and prints how often each found the goal in the end.

    Args:
        console: where to print.
        out: folder of the runs; cells that are there already are shown again.
        config: the environment and the agents.

    Returns:
        The picture of their learning curves.
    """
    console.print(
        "\nAgents in a T-maze: the goal's side is shown at the start, and asked for at the end of the corridor.\n"
        f"An LSTM's gradient ends with its rollout, {config.shared['n_steps']} steps; SAB's goes on through memory.\n"
        f"Corridors of {', '.join(map(str, config.values))} steps, the next once 99 of 100 episodes find the goal; "
        "guesses find half.\n"
    )
    run_sweep(config, out)
    return out / "learning_curves.png"
