"""Cases of learners of endless streams: `OnlineLearner` and `StreamAC`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

import numpy as np

from sab_agents import OnlineLearner, StreamAC
from tests.golden.case import Case
from tests.golden.environments import Signals
from tests.golden.internals import learner_parameters
from tests.golden.record import Groups, Unordered

KERNELS = ("native", "torch")
LEARNER_CORES = ("sab", "sab_uncredited", "lstm_tbptt", "lstm")
LEARNER_STEPS = 200
FORMER = {"recipe": "paper", "attention": "dot", "eviction": "least_used", "write": "novel"}
"""Settings of an `OnlineLearner` with slots that had these defaults when the results were stored."""
AGENT_POLICIES = ("MlpSabPolicy", "MlpLstmPolicy", "MlpRtuPolicy")
AGENT_STEPS = 300
RTOL = 1e-2


def cases() -> Iterator[Case]:
    """Yields the cases of learners."""
    for kernel in KERNELS:
        for core in LEARNER_CORES:
            for refresh_every in (None, 3):
                compute = partial(online, core, refresh_every)
                name = "refreshed" if refresh_every else "kept"
                yield Case(f"online/{kernel}/{core}/{name}", kernel, compute, RTOL, exact_integers=False)
        for policy in AGENT_POLICIES:
            for shared_core in (False, True):
                compute = partial(stream_ac, policy, shared_core)
                name = "shared" if shared_core else "separate"
                yield Case(f"stream_ac/{kernel}/{policy}/{name}", kernel, compute, RTOL, exact_integers=False)


def small_learner(core: str, hidden_size: int = 6, refresh_every: int | None = None) -> OnlineLearner:
    """Returns a learner whose file has a few KB."""
    settings = {"attention_size": 4, "top_k": 2, "bptt_steps": 4, "capacity": 5, "novelty": 0.2, **FORMER}
    slots = "capacity" in OnlineLearner.settings_of(core)
    return OnlineLearner(
        4,
        3,
        core=core,
        hidden_size=hidden_size,
        update_every=6,
        learning_rate=3e-3,
        clip_norm=1.0,
        refresh_every=refresh_every if slots else None,
        seed=3,
        **OnlineLearner.shared_settings(core, settings),
    )


def online(core: str, refresh_every: int | None) -> Groups:
    """Learns from a stream step by step."""
    return learn_from_stream(small_learner(core, 20, refresh_every), LEARNER_STEPS)


def learn_from_stream(learner: OnlineLearner, steps: int, seed: int = 0) -> Groups:
    """Predicts at every third step, and learns at each; some steps have no target."""
    rng = np.random.default_rng(seed)
    predicted = []
    for step in range(steps):
        x, y = rng.integers(-8, 9, 4) / 8, int(rng.integers(3)) if rng.random() < 0.7 else None
        start = bool(rng.random() < 0.03)
        if step % 3 == 0:
            predicted.append(np.array(list(learner.predict_proba_one(x, start).values())))
        learner.learn_one(x, y, start)
    report = numbers_in(learner.credit_report())
    return {
        "predictions": predicted,
        "parameters": Unordered(learner_parameters(learner)),
        "credit": np.array([number for number in report if isinstance(number, float)]),
        "credit integers": np.array([number for number in report if isinstance(number, int)]),
    }


def numbers_in(value: Any) -> list[int | float]:
    """Returns all numbers of nested dataclasses, tuples and mappings, in order."""
    if is_dataclass(value):
        value = [getattr(value, field.name) for field in fields(value)]
    elif isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list | tuple):
        return [number for part in value for number in numbers_in(part)]
    return [value]


def small_agent(
    policy: str, *, hidden_size: int = 6, shared_core: bool = False, action: str = "Cnn"
) -> tuple[StreamAC, Signals]:
    """Returns an agent and its environment."""
    env = Signals("Mlp", action, length=7, seed=1)
    sab: dict[str, Any] = {"capacity": 5, "top_k": 2, "bptt_steps": 4, "recipe": "paper"}
    core: dict[str, dict[str, Any]] = {"MlpSabPolicy": sab, "MlpLstmPolicy": {"bptt_steps": 4}}
    settings: dict[str, Any] = {
        "hidden_size": hidden_size,
        "width": hidden_size - 1,
        "shared_core": shared_core,
        **core.get(policy, {}),
    }
    rate = 2e-3 if shared_core else 1.0  # one that ObGD bounds now and then, and one that it always bounds
    return StreamAC(policy, env, learning_rate=rate, policy_kwargs=settings, seed=2), env


def stream_ac(policy: str, shared_core: bool) -> Groups:
    """Learns from an environment step by step; actions are numbers where the core is shared, and choices elsewhere."""
    action = "Mlp" if shared_core else "Cnn"
    agent, env = small_agent(policy, hidden_size=18, shared_core=shared_core, action=action)
    return learn_from_environment(agent, env, AGENT_STEPS)


def learn_from_environment(agent: StreamAC, env: Signals, steps: int) -> Groups:
    """Learns, then acts without learning."""
    agent.learn(steps, reset_num_timesteps=False)
    state, acted = None, []
    for step in range(6):
        observation = np.full(3, step / 8 - 0.5, np.float32)
        action, state = agent.predict(observation, state, np.array([step == 4]), deterministic=step % 2 == 0)
        acted.append(action)
    assert state is not None
    return {
        "actions": [*env.actions[-steps:], *acted],
        "carried": [each for each in state if each.dtype.kind == "f"],
        "parameters": Unordered([parameter.detach() for parameter in agent.policy.parameters()]),
    }
