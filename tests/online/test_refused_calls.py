"""A call that ends in an error leaves everything as it was, and the next good call does what it would have done."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sab_agents import OnlineLearner, StreamAC
from sab_agents.core import build_core
from sab_agents.online.normalise import ObservationNormaliser, RewardScaler
from sab_agents.streaming import make_stream

CORES = ("sab", "lstm_tbptt", "rtu", "gru", "mingru")
GOOD = [0.1, 0.2, 0.3]
NAN, INF = math.nan, math.inf
INPUTS: list[Any] = [
    *(
        None,
        "a",
        object(),
        1 + 2j,
        [1, 2],
        [1, 2, 3, 4],
        [1, 2, None],
        [[1, 2, 3]],
        [1, NAN, 3],
        [1, 2, INF],
        [1e39, 0, 0],
    ),
    *({"a": 1}, {"a": 1, "b": 2, "c": NAN}, {"a": 1, "b": "z", "c": 2}, {1: 1, "b": 2, "c": 3}),
    *(torch.zeros(2), torch.full((3,), NAN), torch.zeros(3, dtype=torch.complex64), np.zeros((1, 3))),
]
TARGETS: list[Any] = [2, -1, "x", 1.5, NAN, [1], object(), 10**30, True, {"a": 1}]
STARTS: list[Any] = ["a", [True, False], 2, np.array([1]), [1.0], torch.tensor([1])]
MASKS: list[Any] = ["a", [True, False], 2, [1], [[True]]]
CALLS: list[tuple[str, tuple[Any, ...]]] = [
    *((name, (x, 1)) for name in ("learn_one",) for x in INPUTS),
    *((name, (x,)) for name in ("predict_one", "predict_proba_one") for x in INPUTS),
    *(("learn_one", (GOOD, y)) for y in TARGETS),
    *(("learn_many", ([GOOD], [y])) for y in TARGETS),
    *(("learn_many", ([GOOD], [1], start)) for start in STARTS),
    *(("predict_many", ([GOOD], start)) for start in STARTS),
    *(("learn_many", ([GOOD], [1], None, mask)) for mask in MASKS),
    *(("load_state_dict", (state,)) for state in ({}, {"a": 1}, {"parameter.0": torch.zeros(1)})),
]


def held(owner: Any) -> dict[str, Any]:
    return {
        name: value.detach().clone() if isinstance(value, Tensor) else copy.deepcopy(value)
        for name, value in owner.state_dict().items()
    }


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]) if isinstance(value, Tensor) else value == other[name], name


def good(learner: OnlineLearner, t: int) -> None:
    x = np.random.default_rng(t).standard_normal(3).astype(np.float32)
    if t % 3 == 0:
        learner.predict_one(x)
    learner.learn_one(x, int(x[0] > 0))


@pytest.mark.parametrize("core", CORES)
def test_a_learner_learns_on_as_if_refused_calls_had_not_been(core: str) -> None:
    learner = OnlineLearner(3, 2, core=core, hidden_size=4, update_every=4)
    untouched = copy.deepcopy(learner)
    for t, (name, arguments) in enumerate(CALLS):
        if t % 2:  # otherwise steps may wait
            before = held(learner)
        with pytest.raises((ValueError, TypeError), match=r"OnlineLearner|saved"):
            getattr(learner, name)(*arguments)
        if t % 2:
            assert_same(before, held(learner))
        good(learner, t)
        good(untouched, t)
    assert_same(held(learner), held(untouched))


@pytest.mark.parametrize("core", CORES)
def test_a_state_that_does_not_fit_is_not_loaded_in_part(core: str) -> None:
    learner, other = (OnlineLearner(3, 2, core=core, hidden_size=4, update_every=4, seed=seed) for seed in (0, 1))
    for t in range(10):
        good(learner, t)
    before, state = held(learner), held(other)
    for missing in state:
        if missing.startswith(("label.", "ledger.")) and isinstance(state[missing], Tensor):
            continue
        with pytest.raises(ValueError, match=r"."):
            learner.load_state_dict({name: value for name, value in state.items() if name != missing})
        assert_same(before, held(learner))
    for name, value in state.items():
        if isinstance(value, Tensor) and value.dim() and value.numel() and name.startswith(("parameter", "stream")):
            with pytest.raises(ValueError, match=r"."):
                learner.load_state_dict(state | {name: torch.cat([value, value])})
            assert_same(before, held(learner))


@pytest.mark.parametrize("policy", ["MlpSabPolicy", "MlpLstmPolicy", "MlpRtuPolicy"])
def test_an_agent_does_not_load_a_state_in_part(policy: str) -> None:
    settings: dict[str, Any] = {"policy_kwargs": {"hidden_size": 4, "width": 4}}
    agent, other = (StreamAC(policy, "CartPole-v1", seed=seed, **settings).learn(9) for seed in (0, 1))
    before, state = held(agent), held(other)
    for missing in state:
        if missing in ("observation", "last_observation", "episode_start"):
            continue
        with pytest.raises((ValueError, RuntimeError), match=r"."):
            agent.load_state_dict({name: value for name, value in state.items() if name != missing})
        assert_same(before, held(agent))


@pytest.mark.parametrize("core", CORES)
def test_a_stream_refuses_a_state_that_does_not_fit(core: str) -> None:
    torch.manual_seed(0)
    settings = {"capacity": 5} if core == "sab" else {}
    stream = make_stream(build_core(core, 3, 4, **settings), 2)
    for _ in range(3):
        stream.step(torch.randn(2, 3))
    before = held(stream)
    bad = [{name: value for name, value in before.items() if name != missing} for missing in before]
    bad += [before | {name: value.to(torch.complex64)} for name, value in before.items()]
    bad += [before | {name: value[:1]} for name, value in before.items()]
    for state in [*bad, before | {"more": torch.zeros(1)}]:
        with pytest.raises(ValueError, match=r"load_state_dict: .* must be .*, but is"):
            stream.load_state_dict(state)
        assert_same(before, held(stream))
    stream.load_state_dict(before)
    assert_same(before, held(stream))


@pytest.mark.parametrize("value", [NAN, INF, 1e200, -1e200])
def test_statistics_never_become_infinite(value: float) -> None:
    normaliser, scaler = ObservationNormaliser(2), RewardScaler(0.9)
    for each in (1.0, 2.0, 4.0):
        normaliser.update(np.array([each, -each]))
        scaler.update(each, False)
    before = held(normaliser), scaler.state_dict()
    with pytest.raises(ValueError, match="finite"):
        normaliser.update(np.array([1.0, value]))
    with pytest.raises(ValueError, match="finite"):
        scaler.update(value, False)
    assert_same(before[0], held(normaliser))
    assert before[1] == scaler.state_dict()


def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner, path = OnlineLearner(3, 2, hidden_size=4), tmp_path / "learner.zip"
    learner.save(path)
    before = path.read_bytes()
    good(learner, 0)
    for error in (OSError(28, "No space left on device"), KeyboardInterrupt()):

        def failing(_: int, error: BaseException = error) -> None:
            raise error

        monkeypatch.setattr("os.fsync", failing)
        with pytest.raises(type(error)):
            learner.save(path)
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]


def test_a_damaged_file_is_refused_in_a_sentence(tmp_path: Path) -> None:
    learner, path = OnlineLearner(3, 2, hidden_size=4), tmp_path / "learner.zip"
    learner.save(path)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for number in range(60):
        damaged, place = bytearray(whole), int(rng.integers(len(whole)))
        if number % 3:
            damaged[place] ^= 1 << int(rng.integers(8))
        else:
            damaged = damaged[:place]
        path.write_bytes(bytes(damaged))
        try:
            loaded = OnlineLearner.load(path)
        except ValueError:
            continue
        assert_same(held(learner), held(loaded))  # a bit that means nothing, such as of a date


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("part", ["core", "head"])
def test_a_part_of_another_dtype_is_refused_before_anything_changes(core: str, part: str) -> None:
    learner, untouched = (OnlineLearner(3, 2, core=core, hidden_size=4, update_every=4) for _ in range(2))
    for t in range(10):
        good(learner, t)
        good(untouched, t)
    getattr(learner, part).double()
    for call in (lambda: learner.learn_one(GOOD, 1), lambda: learner.predict_one(GOOD)):
        with pytest.raises(TypeError, match=r"core and head must be of one dtype .* Convert both"):
            call()
    getattr(learner, part).float()
    for t in range(10, 30):
        good(learner, t)
        good(untouched, t)
    assert_same(held(learner), held(untouched))
    learner.core.bfloat16()
    learner.head.bfloat16()
    with pytest.raises(TypeError, match=r"learns in torch\.float32 or torch\.float64, but .*bfloat16"):
        learner.learn_one(GOOD, 1)
