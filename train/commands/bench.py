"""`sab-agents bench WHAT`: runs a benchmark."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from sab_agents.train.commands.arguments import Parser

BENCHES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "core": ("sequences.core_command", "whole sequences, forward and backward"),
        "scan": ("roofline.command", "the scan over a grid of sizes, and the fraction of the machine's peak; minutes"),
        "step": ("step.command", "one step without gradient, and a short window with it"),
        "stream": ("stream.command", "learning from an endless stream, and whether its cost stays flat"),
        "agent-step": ("agent_step.command", "one learned step of StreamAC, one predict, and the environment's part"),
        "scaling": ("sequences.scaling_command", "time and memory as T, slots and H grow; minutes"),
        "envs": ("envs.command", "steps a second of the environments"),
        "distributed": ("distributed.command", "learning with 1 and 2 processes, and what their sum costs"),
        "agents": ("agents.command", "RecurrentPPO against sb3-contrib's, learning and collecting; minutes"),
        "peers": ("peers.command", "whole runs of recurrent PPO against those of peers; minutes"),
        "river": ("river.command", "SABClassifier against deep-river's LSTM and River's linear models; minutes"),
    }
)
"""The module and the function of each benchmark, imported when it is used, and what it measures."""


def command(arguments: Sequence[str]) -> int:
    """Runs a benchmark and prints its ratios."""
    parser = Parser("bench", "Measures speed as ratios to a peer in the same run; bench WHAT --help says more.")
    summary = "; ".join(f"{name}: {about}" for name, (_, about) in BENCHES.items())
    parser.add_argument("what", metavar="WHAT", choices=tuple(BENCHES), help=summary)
    chosen = parser.parse(arguments[:1]).what
    module, function = BENCHES[chosen][0].split(".")
    run = getattr(importlib.import_module(f"sab_agents.train.bench.{module}"), function)
    return int(run(arguments[1:]))
