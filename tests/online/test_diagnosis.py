"""`OnlineLearner.diagnose` sees each known problem in a learner that has it, and nothing in one that learns."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]
from torch import nn

from sab_agents import SAB, OnlineLearner, RecurrentPPO, StreamAC
from sab_agents.online import Diagnosis
from sab_agents.online.diagnosis import ENOUGH, NOTED, WindowHistory
from sab_agents.online.settings import endless_cores
from tests.online.conftest import Clock
from tests.selection import slow

FEATURES, SYMBOLS = 6, 4
Run = Callable[[OnlineLearner], float]


def recalls(steps: int, delay: int = 10, *, starts: bool = False, scale: float = 1.0, answers: bool = True) -> Run:
    """Returns what lets a learner live through cue, noise, question, cue, …, and returns how many answers are right."""

    def run(learner: OnlineLearner) -> float:
        rng, right = np.random.default_rng(0), []
        while learner.steps < steps:
            cue = rng.integers(SYMBOLS, size=learner.rows)
            for t in range(delay + 2):
                x = np.zeros((learner.rows, FEATURES), np.float32)
                x[:, SYMBOLS] = 0 < t <= delay
                x[:, SYMBOLS + 1] = t > delay
                if t == 0:
                    x[np.arange(learner.rows), cue] = 1
                start = np.full(learner.rows, t == 0) if starts else None
                if t > delay:
                    right += (learner.predict_many(scale * x, start) == cue).tolist()
                learner.learn_many(scale * x, cue if t > delay and answers else None, start)
        return float(np.mean(right[-200:]))

    return run


MEMORY = {
    "recipe": "paper",
    "top_k": 4,
    "capacity": 64,
    "attention": "dot",
    "summary_gain": 1.0,
    "eviction": "least_used",
} | {
    "write": "novel",
    "credit_depth": 1,
}
"""Settings with which some problems come by themselves, whatever the defaults are."""


def learner(core: str = "sab", **settings: Any) -> OnlineLearner:
    settings = OnlineLearner.shared_settings(core, MEMORY) | {"learning_rate": 3e-3, "clip_norm": 1.0} | settings
    return OnlineLearner(FEATURES, SYMBOLS, core=core, **settings)


ENDLESS = {"summary_gain": 0.0, "write": "every", "eviction": "oldest", "capacity": 16}


@pytest.mark.parametrize(
    ("settings", "run"),
    [
        ({}, recalls(4000, starts=True)),
        ({"rows": 16}, recalls(1500, starts=True)),
        slow({"write": "every"}, recalls(4000, starts=True)),
        slow({"attention": "mlp", "credit_depth": None}, recalls(4000, starts=True)),
        ({"update_every": 24}, recalls(6000, starts=True)),  # a window holds whole episodes: nothing is to be credited
        (ENDLESS, recalls(6000)),
        ({"core": "lstm_tbptt", "update_every": 24}, recalls(4000, 2, starts=True)),
        slow({"core": "rtu", "learning_rate": 0.01}, recalls(6000, 2)),
    ],
)
def test_a_healthy_learner_gets_no_advice(settings: dict[str, Any], run: Run) -> None:
    made = learner(**settings)
    assert run(made) > 0.85
    found = made.diagnose()
    assert found.advice == {}
    assert "Nothing known is wrong." in str(found)


def test_the_default_learner_gets_no_advice() -> None:
    made = OnlineLearner(FEATURES, SYMBOLS)
    assert recalls(8000, starts=True)(made) > 0.85
    assert made.diagnose().advice == {}


def still(made: OnlineLearner, steps: int = 800) -> None:
    """Every step looks the same."""
    for t in range(steps):
        made.learn_one(np.ones(FEATURES, np.float32), t % 2)


def ties(made: OnlineLearner) -> None:
    assert isinstance(made.core, SAB)
    with torch.no_grad():
        made.core.attention.key.weight.zero_()
    recalls(600)(made)


def no_query(made: OnlineLearner) -> None:
    assert isinstance(made.core, SAB)
    with torch.no_grad():
        made.core.attention.query.weight.zero_()
        made.core.attention.query.bias.fill_(1.0)
    recalls(1500)(made)


def rate_of_infinity(made: OnlineLearner) -> None:
    recalls(300)(made)
    made.optimizer.param_groups[0]["lr"] = math.inf


def parameters_are_lost(made: OnlineLearner) -> None:
    rate_of_infinity(made)
    still(made, 16)


def huge_targets(made: OnlineLearner) -> None:
    for _ in range(300):
        made.learn_one(np.ones(FEATURES, np.float32), np.full(SYMBOLS, 1e30))


PROBLEMS: dict[str, tuple[str, dict[str, Any], Callable[[OnlineLearner], object], str]] = {
    "frozen": ("frozen", {}, recalls(3000), "write='every'"),
    "hardly ever written": ("frozen", {}, recalls(4800), "lower novelty"),
    "frozen by novelty": ("frozen", {"novelty": 100.0}, recalls(1000), "lower novelty"),
    "kept for ever": ("old slots", {"write": "every", "summary_gain": 0.0}, recalls(6000), "eviction='oldest'"),
    "never written": ("never written", {"write_every": 20}, recalls(1000, starts=True), "write_every=1"),
    "ties": ("nothing read", {"write": "every", "learning_rate": 1e-6}, ties, "write='novel'"),
    "saturated": ("nothing read", {"write": "every", "learning_rate": 0.5, "attention": "mlp"}, recalls(1500), "Lower"),
    "no query": ("same read", {"write": "every", "learning_rate": 1e-6}, no_query, "change attention"),
    "no credit": ("uncredited", {"credit_depth": 0}, recalls(1000, starts=True), "credit_depth=1"),
    "uncredited": ("uncredited", {"core": "sab_uncredited"}, recalls(1000, starts=True), "core='sab'"),
    "chains": (
        "credit",
        {"write": "every", "attention": "mlp", "credit_depth": None, "learning_rate": 1e-6},
        recalls(1000),
        "credit_depth=1",
    ),
    "reads add up": ("large h", {"write": "every"}, recalls(2000), "summary_gain=0"),
    "no answers": ("no target", {}, recalls(300, answers=False), "Pass it"),
    "no answers, no slots": ("no target", {"core": "gru"}, recalls(300, answers=False), "Pass it"),
    "large inputs": ("inputs", {}, recalls(1000, starts=True, scale=100.0), "Scale all"),
    "small inputs": ("inputs", {"core": "rtu"}, recalls(1000, scale=0.005), "Scale them"),
    "infinite rate": ("learning rate", {}, rate_of_infinity, "Set one above 0"),
    "large rate": ("learning rate", {"learning_rate": 0.3}, recalls(300), "0.001"),
    "parameters": ("parameters", {}, parameters_are_lost, "smaller learning_rate"),
    "overflow": ("overflow", {"loss": "squared_error"}, huge_targets, "Scale y"),
}


@pytest.mark.parametrize(("problem", "settings", "run", "remedy"), PROBLEMS.values(), ids=PROBLEMS)
def test_a_problem_is_seen(
    problem: str, settings: dict[str, Any], run: Callable[[OnlineLearner], object], remedy: str
) -> None:
    made = learner(**settings)
    with np.errstate(all="ignore"):
        run(made)
    found = made.diagnose()
    assert remedy in found.advice[problem]
    assert f"{problem}: {found.advice[problem]}" in str(found).splitlines()
    assert max(map(len, str(found).splitlines())) <= 80


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("frozen", {"write": "every"}),
        ("kept for ever", {"eviction": "oldest"}),
        ("never written", {"write_every": 1}),
        ("no credit", {"credit_depth": 1}),
        ("chains", {"credit_depth": 1}),
        ("reads add up", {"summary_gain": 0.0}),
        ("saturated", {"learning_rate": 3e-3}),
    ],
)
def test_who_takes_the_advice_no_longer_gets_it(name: str, remedy: dict[str, Any]) -> None:
    problem, settings, run, _ = PROBLEMS[name]
    made = learner(**settings | remedy)
    run(made)
    assert problem not in made.diagnose().advice


@pytest.mark.parametrize(
    ("settings", "said"), [({}, False), ({"summary_gain": 0.5}, True), ({"credit_depth": 2}, True)]
)
def test_large_credit_is_a_problem_only_where_reads_or_links_add_up(
    settings: dict[str, Any], said: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sab_agents.online.diagnosis.DWARFED", 0.02)
    made = OnlineLearner(FEATURES, SYMBOLS, **settings)
    recalls(1500, starts=True)(made)
    assert ("credit" in made.diagnose().advice) == said


def test_what_follows_from_lost_parameters_is_not_said() -> None:
    made = learner()
    parameters_are_lost(made)
    assert set(made.diagnose().advice) == {"learning rate", "parameters"}


def test_few_writes_in_a_long_episode_among_others_are_no_problem() -> None:
    made = learner()
    recalls(4000, delay=598, starts=True)(made)  # the window of a question ends with it, and holds no write
    found = made.diagnose()
    assert found.filled_slots is not None
    assert found.filled_slots < 6
    assert found.write_rate == 0
    assert "frozen" not in found.advice


def test_slots_of_a_long_episodes_start_are_no_problem() -> None:
    made = learner(write="every", summary_gain=0.0, capacity=6)
    recalls(4000, delay=598, starts=True)(made)
    found = made.diagnose()
    assert found.held_age is not None
    assert found.held_age > 150
    assert "old slots" not in found.advice


def test_an_encoder_sees_inputs_of_any_scale() -> None:
    def encoder() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(FEATURES, FEATURES))

    made = learner(encoder=encoder(), observation_shape=(2, 3))
    for t in range(100):
        made.learn_one(np.full((2, 3), 255.0), t % 2)
    found = made.diagnose()
    assert found.input_scale is None
    assert "inputs" not in found.advice


@pytest.mark.parametrize("core", [spec.name for spec in endless_cores()])
@pytest.mark.parametrize("rows", [1, 3])
def test_every_core_is_told_of_and_copies_and_loaded_learners_tell_the_same(
    core: str, rows: int, tmp_path: Path
) -> None:
    made = OnlineLearner(FEATURES, SYMBOLS, core=core, rows=rows, hidden_size=8, update_every=5)
    run = recalls(483)
    assert made.diagnose().windows == 0
    run(made)
    found = made.diagnose()
    assert found.windows == 16
    slots = "capacity" in OnlineLearner.settings_of(core)
    assert (found.filled_slots is not None) == (found.read_change is not None) == slots
    assert found.window_gradient is not None
    assert found.window_gradient > 0
    assert found.largest_h is not None
    assert 0 < found.largest_h < 10
    made.save(tmp_path / "learner")
    for other in (copy.deepcopy(made), pickle.loads(pickle.dumps(made)), OnlineLearner.load(tmp_path / "learner")):
        assert other.diagnose() == found
        assert str(other.diagnose()) == str(found)
    assert made.reset().diagnose().windows == 0


@pytest.mark.parametrize("core", ["sab", "lstm_tbptt", "rtu"])
def test_neither_diagnosis_nor_history_changes_what_is_learnt(core: str) -> None:
    watched, alone = (OnlineLearner(FEATURES, SYMBOLS, core=core, history=history) for history in (16, 0))
    rng = np.random.default_rng(0)
    for t in range(300):
        x, y = rng.standard_normal(FEATURES), int(rng.integers(SYMBOLS))
        for made in (watched, alone):
            made.learn_one(x, y if t % 3 else None, t % 50 == 0)
        if t % 7 == 0:
            watched.diagnose()
    assert all(torch.equal(*pair) for pair in zip(watched.parameters, alone.parameters, strict=True))
    found = alone.diagnose()
    assert found.windows == 0
    assert found.window_gradient is None
    assert (found.filled_slots is None) == (core != "sab")
    assert not any(name.startswith("history.") for name in alone.state_dict())


def test_the_history_is_bounded_and_covers_what_is_recent() -> None:
    made = learner(history=5, hidden_size=4)
    still(made, 400)
    assert made.diagnose().windows == 5
    sizes = {name: each.shape for name, each in made.state_dict().items() if name.startswith("history.")}
    still(made, 400)
    after = {name: each.shape for name, each in made.state_dict().items() if name.startswith("history.")}
    assert sizes == after
    history = WindowHistory(16)
    noted = [update for update in range(100_000) if history.wants(update)]
    assert noted[:NOTED] == list(range(NOTED))
    assert len(noted) < 500
    assert noted[-16] > 95_000
    late = np.array([update for update in noted if update > 2_000])
    for period in (2, 3, 5, 8, 10, 16):  # no phase of any rhythm is passed over
        counts = np.bincount(late % period, minlength=period)
        assert counts.min() > 0.6 * counts.mean()


@pytest.mark.parametrize(("history", "error"), [(-1, ValueError), (1.5, TypeError), (True, TypeError)])
def test_a_history_is_a_count(history: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="OnlineLearner: history must be"):
        OnlineLearner(3, 2, history=history)


def test_a_rate_that_is_not_finite_is_no_setting() -> None:
    with pytest.raises(ValueError, match="learning_rate must be"):
        OnlineLearner(3, 2, learning_rate=math.inf)


def test_a_target_in_the_open_window_has_arrived() -> None:
    made = learner()
    for t in range(20):
        made.learn_one(np.ones(FEATURES), 1 if t == 19 else None)
        assert ("no target" in made.diagnose().advice) == (8 <= t + 1 < 20)


def test_without_enough_windows_nothing_is_said_of_reads() -> None:
    made = learner(credit_depth=0)
    recalls(11 * (ENOUGH - 1))(made)
    found = made.diagnose()
    assert found.advice == {}
    assert "judged from 8 windows on" in str(found)


def test_the_table_fits_a_terminal_however_large_its_numbers_are() -> None:
    made = learner()
    recalls(300)(made)
    found = made.diagnose()
    large: dict[str, Any] = dict.fromkeys(found.scalars(), 1e9)
    printed = str(replace(found, core="sab_uncredited", steps=10**9, updates=10**8, slots=10**4, **large))
    assert max(map(len, printed.splitlines())) <= 80
    assert found.scalars().keys() <= set(Diagnosis.__dataclass_fields__)


def logged(folder: Path) -> set[str]:
    names = EventAccumulator(str(next(folder.iterdir()))).Reload().Tags()["scalars"]
    return {name.removeprefix("memory/") for name in names if name.startswith("memory/")}


def test_agents_log_the_same_figures_by_the_same_names(tmp_path: Path) -> None:
    made = learner(history=8)
    recalls(300)(made)
    figures = set(made.diagnose().scalars())
    settings: dict[str, Any] = {"hidden_size": 8, "attention_size": 4}
    ppo = RecurrentPPO(
        "MlpSabPolicy", Clock(), n_steps=16, batch_size=8, n_epochs=1, tensorboard_log=str(tmp_path / "ppo"),
    )  # fmt: skip
    ppo.learn(64)
    found = logged(tmp_path / "ppo")
    of_learning = {"skipped_updates", "learning_rate", "h_growth", "input_scale", "loss", "constant_loss"}
    assert figures - found == of_learning
    assert found <= figures
    for policy in ("MlpSabPolicy", "MlpRtuPolicy"):
        kwargs = settings if policy == "MlpSabPolicy" else {"hidden_size": 8}
        agent = StreamAC(policy, Clock(length=20), policy_kwargs=kwargs, tensorboard_log=str(tmp_path / policy))
        agent.learn(100, log_interval=2)
    of_updates = {"window_gradient", "credit_gradient", "dropped_links"}
    assert figures - logged(tmp_path / "MlpSabPolicy") == of_learning | of_updates
    assert logged(tmp_path / "MlpRtuPolicy") == set()
