"""Cases of `RecurrentPPO`: updates, acting, and exported steps of every policy."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv

from sab_agents import RecurrentPPO
from tests.golden.case import Case
from tests.golden.environments import Signals
from tests.golden.internals import export_policy
from tests.golden.record import Array, Groups, Unordered

KERNELS = ("native", "torch")
KINDS = ("Sab", "Lstm", "AttentionLstm", "Transformer")
OBSERVATIONS = ("Mlp", "Cnn", "MultiInput")
LENGTHS = (5, 7)
STEPS = 8
METADATA = "sab_agents"


FORMER = {"recipe": "paper", "summary_gain": 0.0}
"""What was the default of a policy's SAB when the results were stored."""


def cases() -> Iterator[Case]:
    """Yields the cases of PPO's policies."""
    for kind in KINDS:
        for observation in OBSERVATIONS:
            for kernel in KERNELS:
                compute = partial(updates, kind, observation)
                name = f"ppo/{kernel}/{observation}{kind}Policy"
                yield Case(name, kernel, compute, rtol=1e-2, exact_integers=False)
        compute = partial(exported_program, kind)
        yield Case(f"export/pt2/{kind}", "torch", compute, rtol=1e-4)
        compute = partial(exported_graph, kind)
        yield Case(f"export/onnx/{kind}", "torch", compute, rtol=1e-4, needs=("onnx", "onnxscript", "onnxruntime"))


def environments(observation: str) -> DummyVecEnv:
    """Returns two environments with episodes of different lengths."""
    makers = [partial(Signals, observation, observation, length, length) for length in LENGTHS]
    return DummyVecEnv(makers)  # type: ignore[arg-type]


def small_agent(kind: str, observation: str = "Mlp", hidden_size: int = 4) -> RecurrentPPO:
    """Returns an agent whose file has a few KB, but for its layers that read images."""
    cores: dict[str, dict[str, Any]] = {
        "Sab": {"capacity": 4, "top_k": 2, "rerun_steps": 3, "write": "novel", "novelty": 0.3, **FORMER},
        "Lstm": {"bptt_steps": 5},
        "AttentionLstm": {"attention_size": 3},
        "Transformer": {"heads": 2, "context": 4},
    }
    return RecurrentPPO(
        f"{observation}{kind}Policy",
        environments(observation),
        learning_rate=1e-3,
        n_steps=STEPS,
        batch_size=STEPS,
        n_epochs=2,
        policy_kwargs={
            "lstm_hidden_size": hidden_size,
            "net_arch": [4],
            "core_kwargs": cores[kind],
            **({"features_extractor_kwargs": {"features_dim": 4}} if observation == "Cnn" else {}),
        },
        seed=0,
        device="cpu",
    )


def updates(kind: str, observation: str) -> Groups:
    """Learns from two rollouts, and acts."""
    return learn(small_agent(kind, observation, 18), rollouts=2)


def learn(agent: RecurrentPPO, rollouts: int) -> Groups:
    """Learns from some rollouts, and acts."""
    agent.learn(rollouts * STEPS * len(LENGTHS), reset_num_timesteps=False)
    parameters = Unordered([parameter.detach() for parameter in agent.policy.parameters()])
    return {"parameters": parameters, **act(agent)}


def act(agent: Any) -> Groups:
    """Returns what `predict` of an algorithm or a policy returns for a few steps: drawn and likeliest actions."""
    torch.manual_seed(0)
    state, acted = None, []
    for step, (observation, start) in enumerate(observations(agent.observation_space)):
        action, state = agent.predict(observation, state, start, deterministic=step % 2 == 0)
        acted.append(action)
    assert state is not None
    return {
        "actions": acted,
        "carried": [each for each in state if each.dtype.kind == "f"],
        "carried integers": [each for each in state if each.dtype.kind != "f"],
    }


def observations(space: spaces.Space[Any]) -> Iterator[tuple[Any, Array]]:
    """Yields observations and episode starts of two rows."""
    kind = "MultiInput" if isinstance(space, spaces.Dict) else "Cnn" if space.dtype == np.uint8 else "Mlp"
    rows = [Signals(kind, kind, seed=seed) for seed in (5, 6)]
    for step in range(8):
        seen = [row.observation() for row in rows]
        start = np.array([step in {0, 5}, step in {0, 2}])
        stacked = {key: np.stack([each[key] for each in seen]) for key in seen[0]} if kind == "MultiInput" else seen
        yield stacked if isinstance(stacked, dict) else np.stack(stacked), start


def exported_agent(kind: str) -> RecurrentPPO:
    """Returns an agent whose actions depend on what it sees: at first they are all but equal."""
    agent = small_agent(kind)
    with torch.no_grad():
        next(agent.policy.action_net.parameters()).mul_(50)
    return agent


def exported_program(kind: str) -> Groups:
    """Runs a step that `torch.export` wrote."""
    with tempfile.TemporaryDirectory() as folder:
        path = export_policy(exported_agent(kind), Path(folder) / "policy.pt2", max_steps=6)
        extra = {METADATA: ""}
        program = torch.export.load(path, extra_files=extra).module()

    def step(observation: Array, state: list[Array], start: Array) -> list[Array]:
        arguments = torch.as_tensor(observation), tuple(map(torch.as_tensor, state)), torch.as_tensor(start)
        with torch.no_grad():
            action, after = program(*arguments)
        return [action.numpy(), *(each.numpy() for each in after)]

    return run_exported(step, json.loads(extra[METADATA]))


def exported_graph(kind: str) -> Groups:
    """Runs a step that was written as ONNX."""
    runtime: Any = import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        path = export_policy(exported_agent(kind), Path(folder) / "policy.onnx", max_steps=6)
        session = runtime.InferenceSession(path, options)
    about = json.loads(session.get_modelmeta().custom_metadata_map[METADATA])

    def step(observation: Array, state: list[Array], start: Array) -> list[Array]:
        named = {f"state_{name}": each for name, each in zip(about["state"], state, strict=True)}
        found: list[Array] = session.run(None, {"observation": observation, **named, "episode_start": start})
        return found

    return run_exported(step, about)


def run_exported(step: Callable[[Array, list[Array], Array], list[Array]], about: dict[str, Any]) -> Groups:
    """Returns the actions and the last state of a few steps of an exported policy."""
    state = [np.zeros((2, *each["shape"]), each["dtype"]) for each in about["state"].values()]
    acted = []
    for observation, start in observations(spaces.Box(-1, 1, (3,), np.float32)):
        action, *state = step(observation, state, start)
        acted.append(action)
    return {
        "actions": acted,
        "state": [each for each in state if each.dtype.kind == "f"],
        "state integers": [each for each in state if each.dtype.kind != "f"],
    }
