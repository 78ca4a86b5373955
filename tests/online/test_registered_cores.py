"""A core that is registered is at once known to OnlineLearner and StreamAC."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sab_agents import OnlineLearner, StreamAC
from sab_agents.core import CORES, Core, State
from tests.online.conftest import Clock, Register


@dataclass(frozen=True)
class LeakyState(State):
    h: Tensor


class Leaky(Core[LeakyState]):
    """h ← leak · h + tanh(W x), which is also the output."""

    state_class = LeakyState

    def __init__(self, input_size: int, hidden_size: int, *, leak: float = 0.5) -> None:
        super().__init__(input_size, hidden_size, hidden_size)
        self.leak = leak
        self.inputs = nn.Linear(input_size, hidden_size)

    def initial_state(self, batch_size: int) -> LeakyState:
        return LeakyState(self.inputs.weight.new_zeros(batch_size, self.hidden_size))

    def _run(self, x: Tensor, state: LeakyState, episode_start: Tensor | None) -> tuple[Tensor, LeakyState]:
        h, outputs = state.h, []
        for t, each in enumerate(torch.tanh(self.inputs(x))):
            if episode_start is not None:
                h = h.masked_fill(episode_start[t].unsqueeze(1), 0)
            h = self.leak * h + each
            outputs.append(h)
        return torch.stack(outputs), LeakyState(h)


@pytest.fixture(autouse=True)
def _leaky(registered: Register) -> None:
    registered("leaky", Leaky, policy="Leaky")


def learned(learner: OnlineLearner, steps: int) -> list[Tensor]:
    rng = np.random.default_rng(0)
    for _ in range(steps):
        x = rng.standard_normal(3)
        learner.predict_one(x)
        learner.learn_one(x, int(x[0] > 0))
    return [parameter.detach().clone() for parameter in learner.parameters]


def test_an_online_learner_trains_it_and_its_file_is_loaded(tmp_path: Path) -> None:
    learner = OnlineLearner(3, 2, core="leaky", hidden_size=8, leak=0.3, learning_rate=0.03)
    before = [parameter.detach().clone() for parameter in learner.parameters]
    after = learned(learner, 42)
    assert all(not torch.equal(*pair) for pair in zip(before, after, strict=True))
    learner.save(tmp_path / "learner")
    loaded = OnlineLearner.load(tmp_path / "learner")
    assert loaded.core.leak == 0.3
    pairs = zip(learned(loaded, 600), learned(learner, 600), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)
    rng = np.random.default_rng(1)
    right = [loaded.predict_one(x) == (x[0] > 0) for x in rng.standard_normal((50, 3))]
    assert np.mean(right) > 0.8


@pytest.mark.parametrize("shared_core", [True, False], ids=["shared", "separate"])
def test_a_streaming_agent_trains_it_and_its_file_is_loaded(shared_core: bool, tmp_path: Path) -> None:
    settings = {"hidden_size": 8, "width": 8, "leak": 0.8, "bptt_steps": 3, "shared_core": shared_core}
    model = StreamAC("MlpLeakyPolicy", Clock(), policy_kwargs=settings, seed=0)
    before = [parameter.detach().clone() for parameter in model.policy.parameters()]
    model.learn(40)
    assert all(not torch.equal(*pair) for pair in zip(before, model.policy.parameters(), strict=True))
    model.save(tmp_path / "agent")
    loaded = StreamAC.load(tmp_path / "agent")
    one, other = (each.predict(np.ones(3, np.float32), deterministic=True) for each in (model, loaded))
    assert one[0] == other[0]
    assert one[1] is not None
    assert other[1] is not None
    assert all(np.array_equal(*pair) for pair in zip(one[1], other[1], strict=True))


def test_its_policy_is_listed_and_pickled_by_name() -> None:
    aliases = StreamAC.policy_aliases
    assert list(aliases) == [f"Mlp{spec.policy}Policy" for spec in CORES.values() if spec.policy and spec.endless]
    assert "MlpLeakyPolicy" in aliases
    assert len(aliases) == len(list(aliases))
    policy = aliases["MlpLeakyPolicy"]
    assert pickle.loads(pickle.dumps(policy)) is policy


def test_a_core_that_is_not_endless_or_has_no_policy_is_not_offered(registered: Register) -> None:
    registered("growing", type("Growing", (Leaky,), {}), policy="Growing", endless=False)
    registered("nameless", type("Nameless", (Leaky,), {}))
    assert "MlpGrowingPolicy" not in StreamAC.policy_aliases
    assert "MlpPolicy" not in StreamAC.policy_aliases
    OnlineLearner(3, 2, core="nameless")
    with pytest.raises(ValueError, match="core 'growing' is unknown or not endless"):
        OnlineLearner(3, 2, core="growing")


def settings_of(core: str) -> dict[str, Any]:
    """A value for each setting that a learner with this core has."""
    values = {"leak": 0.5, "bptt_steps": 3, "layers": 1, "dropout": 0.0, "capacity": 8, "top_k": 2, "decay": 0.9}
    return {name: value for name, value in values.items() if name in OnlineLearner.settings_of(core)}


@pytest.mark.parametrize("core", [name for name, spec in CORES.items() if spec.endless])
def test_every_endless_core_learns_from_a_stream(core: str) -> None:
    learner = OnlineLearner(3, 2, core=core, hidden_size=8, **settings_of(core))
    before = [parameter.detach().clone() for parameter in learner.parameters]
    assert any(not torch.equal(*pair) for pair in zip(before, learned(learner, 40), strict=True))
    assert learner.updates == 5
    assert {"core": core, "hidden_size": 8, **settings_of(core)}.items() <= learner.settings.items()


@pytest.mark.parametrize(
    ("core", "setting", "message"),
    [
        ("sab", "topk", "core 'sab' has no setting 'topk'. Did you mean 'top_k'?"),
        ("sab", "noveltey", "Did you mean 'novelty'?"),
        ("lstm_tbptt", "top_k", "core 'lstm_tbptt' has no setting 'top_k'. Valid are: bptt_steps, layers, dropout."),
        ("lstm", "bptt_steps", "core 'lstm' has no setting 'bptt_steps'"),
        ("rtu", "write", "core 'rtu' has no setting 'write'"),
        ("leaky", "leek", "core 'leaky' has no setting 'leek'. Did you mean 'leak'?"),
        ("lstm_tbptt", "refresh_every", "core 'lstm_tbptt' has no slots to refresh"),
    ],
)
def test_a_setting_that_the_core_does_not_have_is_refused(core: str, setting: str, message: str) -> None:
    passed: dict[str, Any] = {setting: 1}
    with pytest.raises(TypeError, match=message.replace("?", r"\?")):
        OnlineLearner(3, 2, core=core, **passed)


@pytest.mark.parametrize(
    ("policy", "setting", "message"),
    [
        ("MlpSabPolicy", "capcity", "core 'sab' has no setting 'capcity'. Did you mean 'capacity'?"),
        ("MlpLstmPolicy", "top_k", "core 'lstm_tbptt' has no setting 'top_k'"),
        ("MlpRtuPolicy", "min_radios", "Did you mean 'min_radius'?"),
    ],
)
def test_so_is_one_of_a_policy(policy: str, setting: str, message: str) -> None:
    with pytest.raises(TypeError, match=message.replace("?", r"\?")):
        StreamAC(policy, Clock(), policy_kwargs={setting: 1})


def test_shared_settings_are_left_out_for_a_core_that_has_none_such_but_never_misspelt_ones() -> None:
    shared = {"top_k": 2, "bptt_steps": 3, "learning_rate": 0.1, "noveltey": 1.0}
    assert OnlineLearner.shared_settings("sab", shared) == shared
    assert set(OnlineLearner.shared_settings("lstm_tbptt", shared)) == {"bptt_steps", "learning_rate", "noveltey"}
    assert set(OnlineLearner.shared_settings("rtu", shared)) == {"learning_rate", "noveltey"}


def test_a_summary_gain_reaches_the_core() -> None:
    for gain in (1.0, 0.25):
        core: Any = OnlineLearner(3, 2, core="sab", summary_gain=gain).core
        assert core.rules.reading.gain == gain
