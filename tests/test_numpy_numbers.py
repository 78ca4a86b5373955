"""NumPy's numbers are numbers: as sizes, counts, seeds and rates of everything public, and in what is saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from sab_agents import OnlineLearner, RecurrentPPO, SABStream, StreamAC, VectorToVecEnv, build_core
from sab_agents.checks import above_zero, at_least, fraction, plain
from sab_agents.core import CORES, SAB

INTEGERS = [np.int64, np.int32, np.uint8]


@pytest.mark.parametrize("integer", INTEGERS)
def test_checks_return_pythons_numbers(integer: Any) -> None:
    assert type(at_least("Owner", "size", integer(3), 1)) is int
    with pytest.raises(ValueError, match="size must be at least 4, but is 3"):
        at_least("Owner", "size", integer(3), 4)
    fraction("Owner", "gamma", np.float32(0.5))
    above_zero("Owner", "rate", integer(2))
    for wrong in (np.bool_(True), np.float64(2), np.array([2]), "2"):
        with pytest.raises(TypeError, match="size must be an int"):
            at_least("Owner", "size", wrong, 1)
    with pytest.raises(ValueError, match="gamma must be a number"):
        fraction("Owner", "gamma", np.bool_(True))


def test_plain_goes_through_dicts_lists_and_tuples() -> None:
    array = np.ones(2)
    nested = {"a": [np.int64(1), (np.float32(0.5), None)], "b": array, "c": np.bool_(True)}
    found = plain(nested)
    assert found["b"] is array
    assert (found["a"], found["c"]) == ([1, (0.5, None)], True)
    assert [type(each) for each in (found["a"][0], found["a"][1][0], found["c"])] == [int, float, bool]
    assert type(nested["c"]) is np.bool_  # what was passed is left alone


@pytest.mark.parametrize("integer", INTEGERS)
@pytest.mark.parametrize("name", CORES)
def test_cores(name: str, integer: Any) -> None:
    torch.manual_seed(0)
    expected = build_core(name, 3, 8)
    torch.manual_seed(0)
    core = build_core(name, integer(3), integer(8))
    assert all(type(size) is int for size in (core.input_size, core.hidden_size, core.output_size))
    x = torch.randn(4, 2, 3)
    torch.testing.assert_close(core(x)[0], expected(x)[0], rtol=0, atol=0)
    assert core.initial_state(integer(2)).batch_size == 2


def test_settings_of_cores_and_streams() -> None:
    i: Any = np.int64
    for name, settings in {
        "sab": {"top_k": i(2), "write_every": i(1), "bptt_steps": i(3), "capacity": i(4), "attention_size": i(5)},
        "lstm": {"layers": i(1)},
        "lstm_tbptt": {"layers": i(1), "bptt_steps": i(3)},
        "gru": {"layers": i(1)},
        "lstm_attention": {"attention_size": i(5)},
        "transformer": {"layers": i(1), "heads": i(2), "context": i(4)},
    }.items():
        build_core(name, 3, 8, **settings)(torch.randn(6, 2, 3))[0].sum().backward()
    stream = SABStream(SAB(3, 8, capacity=i(4)), i(2), credit_depth=i(1), seed=i(3))
    stream.step(torch.ones(2, 3))


@pytest.mark.parametrize("core", ["sab", "lstm", "rtu"])
def test_online_learner(core: str, tmp_path: Path) -> None:
    def learnt(integer: Any, real: Any, path: Path) -> Any:
        sizes = {"rows": integer(1), "hidden_size": integer(8), "update_every": integer(2), "seed": integer(3)}
        learner = OnlineLearner(
            integer(3), integer(2), core=core, learning_rate=real(0.25), clip_norm=real(1), **sizes, device="cpu"
        )
        for step in range(6):
            learner.learn_one(np.full(3, step / 8, np.float32), integer(step % 2))
        learner.save(path)
        return OnlineLearner.load(path).predict_one(np.ones(3, np.float32))

    expected = learnt(int, float, tmp_path / "python")
    np.testing.assert_array_equal(learnt(np.int64, np.float32, tmp_path / "numpy"), expected)


def test_recurrent_ppo(tmp_path: Path) -> None:
    def learnt(integer: Any, real: Any, path: Path) -> Any:
        core = {"top_k": integer(2), "write_every": integer(1), "capacity": integer(8)}
        model = RecurrentPPO(
            "MlpSabPolicy",
            "CartPole-v1",
            learning_rate=real(0.25),
            n_steps=integer(8),
            batch_size=integer(4),
            n_epochs=integer(1),
            gamma=real(0.5),
            gae_lambda=real(0.5),
            clip_range=real(0.25),
            clip_range_vf=real(0.25),
            ent_coef=real(0),
            vf_coef=real(0.5),
            max_grad_norm=real(0.5),
            target_kl=real(8),
            stats_window_size=integer(5),
            verbose=integer(0),
            seed=integer(3),
            device="cpu",
            policy_kwargs={"lstm_hidden_size": integer(8), "net_arch": [integer(8)], "core_kwargs": core},
        )
        model.learn(integer(16)).save(path)
        return RecurrentPPO.load(path, n_steps=integer(8), device="cpu").get_parameters()["policy"]

    expected, found = learnt(int, float, tmp_path / "python"), learnt(np.int64, np.float32, tmp_path / "numpy")
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0)


def test_stream_ac(tmp_path: Path) -> None:
    def learnt(integer: Any, real: Any, path: Path) -> Any:
        rates = {name: real(0.5) for name in ("learning_rate", "gamma", "trace_decay", "ent_coef", "kappa_policy")}
        settings = {"hidden_size": integer(8), "width": integer(8), "sparsity": real(0.5), "capacity": integer(8)}
        model = StreamAC(
            "MlpSabPolicy",
            "CartPole-v1",
            **rates,
            kappa_value=real(0.5),
            policy_kwargs=settings,
            stats_window_size=integer(5),
            verbose=integer(0),
            seed=integer(3),
        )
        model.learn(integer(30)).save(path)
        return StreamAC.load(path).policy.state_dict()

    expected, found = learnt(int, float, tmp_path / "python"), learnt(np.int64, np.float32, tmp_path / "numpy")
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0)


def test_environments() -> None:
    i: Any = np.int64
    settings: dict[str, Any] = {"corridor_length": i(4), "max_episode_steps": i(6)}
    env: Any = VectorToVecEnv(gym.make_vec("SAB/PassiveTMaze-v0", num_envs=i(2), **settings))
    env.seed(i(3))
    assert env.reset().shape == (2, 2)
