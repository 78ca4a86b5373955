"""OnlineLearner: River's verbs, updates against plain code, errors before anything changes, and bit-exact saving."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sab_agents import SAB, OnlineLearner
from sab_agents.kernels import forced_kernel
from sab_agents.kernels.native_backend import extension
from sab_agents.streaming import SABStream
from tests.readings import BEYOND

SIZES: dict[str, Any] = {"hidden_size": 8, "capacity": 6, "bptt_steps": 3, "update_every": 4, "attention_size": 4}
SETTINGS = SIZES | {"write": "every", "eviction": "oldest"}


def settings_for(core: str, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings, without those of a memory if the core has none."""
    return {"core": core, **OnlineLearner.shared_settings(core, settings)}


def stream(steps: int, rows: int | None = None, seed: int = 0) -> list[tuple[Any, Any]]:
    """Inputs of 3 numbers; the class is whether the first number two steps ago was positive."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((steps, rows or 1, 3)).astype(np.float32)
    y = (np.concatenate([np.zeros((2, rows or 1)), x[:-2, :, 0]]) > 0).astype(np.int64)
    return [(x[t, 0], int(y[t, 0])) if rows is None else (x[t], y[t]) for t in range(steps)]


def parameters(learner: OnlineLearner) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in learner.parameters]


def test_predictions_have_no_effect_on_what_is_learnt() -> None:
    one, other = OnlineLearner(3, 2, **SETTINGS), OnlineLearner(3, 2, **SETTINGS)
    for x, y in stream(30):
        other.predict_one(x)
        other.predict_one(-x)
        probabilities = other.predict_proba_one(x)
        assert sum(probabilities.values()) == pytest.approx(1)
        assert other.predict_one(x) == max(probabilities, key=probabilities.__getitem__)
        one.learn_one(x, y)
        other.learn_one(x, y)
    assert all(torch.equal(a, b) for a, b in zip(parameters(one), parameters(other), strict=True))


@pytest.mark.parametrize("core", ["sab", "lstm_tbptt"])
def test_a_step_that_was_peeked_at_is_learnt_as_any(core: str) -> None:
    one, other = (OnlineLearner(3, 2, rows=2, **settings_for(core, SETTINGS)) for _ in range(2))
    with pytest.raises(RuntimeError, match="no step was predicted"):
        other.learn_peeked([0, 1])
    for x, y in stream(30, rows=2):
        output = other.peek_many(x)
        assert other.peeked is output
        probabilities = other.targets.probabilities(other.head.predicted(output))
        np.testing.assert_array_equal(probabilities, one.predict_proba_many(x))
        with pytest.raises(ValueError, match="y must lie in"):
            other.learn_peeked(y + 2)
        one.learn_many(x, y)
        other.learn_peeked(y)
        assert other.peeked is None
    assert other.updates == one.updates == 7
    assert all(torch.equal(a, b) for a, b in zip(parameters(one), parameters(other), strict=True))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"write": "every", "eviction": "oldest", "capacity": 3},
        {"write": "every", "eviction": "most_redundant", "write_every": 2, "rows": 3},
        {"write": "novel", "novelty": 0.2, "eviction": "least_credited", "credit_depth": None, "rows": 3},
        {"write": "every", "eviction": "reservoir", "refresh_every": 2},
        {"core": "sab_uncredited", "attention": "mlp", "update_every": 7, "capacity": 30, "rows": 2},
        {"core": "lstm_tbptt"},
    ],
)
def test_steps_that_nobody_looks_at_are_the_same_to_the_bit(settings: dict[str, Any]) -> None:
    settings = settings_for(settings.get("core", "sab"), SIZES | settings)
    alone, watched, asked = (OnlineLearner(3, 2, **settings) for _ in range(3))
    rng = np.random.default_rng(1)
    for t, (x, y) in enumerate(stream(61, alone.rows)):
        start = None if t % 3 else rng.random(alone.rows) < 0.2
        target = None if t % 11 in {3, 4} else y
        mask = None if t % 5 else np.arange(alone.rows) != 1
        if rng.random() < 0.2:
            asked.predict_many(x, start)
        for learner in (alone, watched, asked):
            learner.learn_many(x, target, start, mask)
        assert watched.stream.steps == (t + 1) % watched.update_every
        if t == 40:
            alone = copy.deepcopy(alone)
    for other in (watched, asked):
        assert all(torch.equal(*pair) for pair in zip(parameters(alone), parameters(other), strict=True))
        found, expected = alone.stream.state_dict(), other.stream.state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in found)
        assert alone.credit_report() == other.credit_report()


def test_steps_wait_for_each_other_until_someone_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    learner, taken = OnlineLearner(3, 2, **SIZES), []
    take_steps = SABStream.take_steps

    def noted(self: SABStream, observations: torch.Tensor, starts: torch.Tensor) -> None:
        taken.append(len(observations))
        take_steps(self, observations, starts)

    monkeypatch.setattr(SABStream, "take_steps", noted)
    pairs = stream(12)
    for x, y in pairs[:7]:
        learner.learn_one(x, y)
    assert taken == [4]
    learner.predict_one(pairs[7][0])
    assert taken == [4, 3]
    learner.learn_one(*pairs[7])
    learner.learn_one(*pairs[8])
    assert taken == [4, 3]
    learner.reset()
    assert learner.stream.steps == 0
    assert taken == [4, 3]


def test_an_update_is_a_step_of_adam_on_the_mean_loss_of_the_window() -> None:
    learner = OnlineLearner(3, 2, learning_rate=0.01, attention_rate=0.3, head_rate=0.5, clip_norm=1e9, **SETTINGS)
    twin = OnlineLearner(3, 2, **SETTINGS)
    assert isinstance(twin.core, SAB)
    rates = {"attention.age": 0.001, "attention": 0.003, "": 0.01}
    groups: list[dict[str, Any]] = [{"params": list(twin.head.parameters()), "lr": 0.005}]
    for name, parameter in twin.core.named_parameters():
        groups.append({"params": [parameter], "lr": next(lr for part, lr in rates.items() if name.startswith(part))})
    adam = torch.optim.Adam(groups)
    pairs = stream(4)
    for x, y in pairs:
        learner.learn_one(x, y)
    inputs = torch.tensor(np.stack([x for x, _ in pairs])).unsqueeze(1)
    logits = twin.head(twin.core(inputs)[0]).squeeze(1)
    nn.functional.cross_entropy(logits, torch.tensor([y for _, y in pairs])).backward()  # type: ignore[no-untyped-call]
    adam.step()
    for found, expected in zip(parameters(learner), parameters(twin), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", ["attention_rate", "head_rate"])
@pytest.mark.parametrize("rate", [0, -0.5, float("inf"), float("nan")])
def test_rates_must_be_above_zero_and_finite(name: str, rate: float) -> None:
    settings: dict[str, Any] = {name: rate}
    with pytest.raises(ValueError, match=f"{name} must be"):
        OnlineLearner(3, 2, **settings)


@pytest.mark.parametrize("name", ["attention_rate", "head_rate"])
def test_rates_are_refused_beside_an_optimizer_of_the_users(name: str) -> None:
    settings: dict[str, Any] = {name: 0.3}
    with pytest.raises(ValueError, match=f"{name} must be 1 beside an optimizer"):
        OnlineLearner(3, 2, optimizer=torch.optim.SGD, **settings)


def test_a_rate_of_the_attention_is_refused_by_a_core_without_one() -> None:
    with pytest.raises(ValueError, match="attention_rate must be 1 for a core without attention"):
        OnlineLearner(3, 2, core="rtu", attention_rate=0.3)


def test_without_targets_nothing_is_learnt_but_everything_is_remembered() -> None:
    learner, other = OnlineLearner(3, 2, **SETTINGS), OnlineLearner(3, 2, **SETTINGS)
    before = parameters(learner)
    for x, _ in stream(23):
        learner.learn_one(x)
        other.stream.step(torch.tensor(x).unsqueeze(0))
    assert all(torch.equal(a, b) for a, b in zip(before, parameters(learner), strict=True))
    assert torch.equal(learner.stream.state.tensors()[2], other.stream.state.tensors()[2])
    assert (learner.steps, learner.updates) == (23, 0)


def test_rows_are_masked_and_learn_like_streams_of_their_own() -> None:
    masked = OnlineLearner(3, 2, rows=2, **SETTINGS)
    alone = OnlineLearner(3, 2, **SETTINGS)
    for (x, y), (other, _) in zip(stream(12, rows=1), stream(12, rows=1, seed=5), strict=True):
        masked.learn_many(np.concatenate([x, other]), np.array([y[0], 0]), mask=np.array([True, False]))
        alone.learn_one(x[0], y[0])
    for found, expected in zip(parameters(masked), parameters(alone), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("loss", "size", "target", "prediction"),
    [
        ("squared_error", 1, 0.5, float),
        ("squared_error", 2, [0.5, -1.0], np.ndarray),
        ("binary_cross_entropy", 3, [1, 0, 1], np.ndarray),
        ("binary_cross_entropy", 1, True, bool),
        ("cross_entropy", 3, 2, int),
    ],
)
def test_it_learns_classes_labels_and_numbers(loss: Any, size: int, target: Any, prediction: type) -> None:
    learner = OnlineLearner(3, size, loss=loss, learning_rate=0.03, **SIZES)
    x = np.ones(3, dtype=np.float32)
    for _ in range(400):
        learner.learn_one(x, target)
    found = learner.predict_one(x)
    assert isinstance(found, prediction)
    np.testing.assert_allclose(np.asarray(found, dtype=float), np.asarray(target, dtype=float), atol=0.1)


def test_inputs_may_be_mappings_of_the_same_names() -> None:
    named, plain = OnlineLearner(3, 2, **SETTINGS), OnlineLearner(3, 2, **SETTINGS)
    for x, y in stream(8):
        named.learn_one({"b": x[1], "a": x[0], "c": x[2]}, y)
        plain.learn_one(x, y)
    assert all(torch.equal(a, b) for a, b in zip(parameters(named), parameters(plain), strict=True))
    with pytest.raises(ValueError, match=r"must have the names \['a', 'b', 'c'\]"):
        named.predict_one({"a": 1.0, "b": 2.0})


@pytest.mark.parametrize("wrong", [({"a": 1.0, "b": 2.0}, 1), ({"a": 1.0, "b": np.nan, "d": 0.0}, 1), ({"x": 0.0}, 0)])
def test_names_of_an_input_that_was_refused_do_not_stick(wrong: tuple[dict[str, float], int]) -> None:
    learner = OnlineLearner(3, 2, **SETTINGS)
    for method in (learner.learn_one, learner.predict_one, learner.predict_proba_one):
        with pytest.raises(ValueError, match="x must"):
            method(wrong[0])
    with pytest.raises(ValueError, match="y must lie in"):
        learner.learn_one({"u": 1.0, "v": 2.0, "w": 3.0}, 2)
    learner.learn_one({"a": 1.0, "b": 2.0, "c": 3.0}, 1)
    with pytest.raises(ValueError, match=r"must have the names \['a', 'b', 'c'\]"):
        learner.learn_one({"u": 1.0, "v": 2.0, "w": 3.0}, 1)


@pytest.mark.parametrize("kernel", ["native", "torch"])
@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
def test_a_window_whose_masks_mark_nothing_teaches_nothing(kernel: str, loss: Any) -> None:
    if kernel == "native" and extension.native is None:
        pytest.skip("the native kernel was not built: no C++ compiler")
    with forced_kernel(kernel):
        learner = OnlineLearner(3, 2, rows=2, loss=loss, **SETTINGS)
        before = parameters(learner)
        for x, y in stream(8, rows=2):
            target = y if loss == "cross_entropy" else np.stack([y, y], axis=1)
            learner.learn_many(x, target, mask=np.zeros(2, dtype=bool))
        assert (learner.steps, learner.updates) == (8, 0)
        assert all(torch.equal(a, b) for a, b in zip(before, parameters(learner), strict=True))
        with pytest.raises(ValueError, match="y must have one entry"):
            learner.learn_many(x, target[:1], mask=np.zeros(2, dtype=bool))


@pytest.mark.parametrize("eviction", ["least_credited", "least_used"])
def test_an_update_that_overflowed_leaves_no_trace_in_the_report(eviction: Any) -> None:
    learner = OnlineLearner(2, 1, loss="squared_error", write="every", eviction=eviction, seed=1)
    rng = np.random.default_rng(0)
    for t in range(128):
        learner.learn_one(rng.standard_normal(2), 0.5 if t != 40 else 1e38)
    assert learner.skipped == 1
    report = learner.credit_report()
    assert report.slots > 0
    assert sum(report.by_distance.values()) == pytest.approx(1)
    assert all(np.isfinite(entry.norm) for entry in report.entries)
    assert "slots credited" in str(report)
    assert torch.isfinite(learner.stream.state_dict()["state.credit"]).all()


@pytest.mark.parametrize(
    ("core", "settings"),
    # Trace units' products round by where their numbers lie: larger steps of their copies part in the last bit.
    [
        ("sab", {}),
        ("rtu", {"learning_rate": 1e-3}),
        ("lstm_tbptt", {}),
        ("sab", {"write": "refresh", "novelty": 0.3, **BEYOND}),
    ],
)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda learner: pickle.loads(pickle.dumps(learner))])
def test_a_copy_learns_on_as_its_original(
    core: str, settings: dict[str, Any], copied: Callable[[OnlineLearner], OnlineLearner]
) -> None:
    learner, pairs = OnlineLearner(3, 2, **{**settings_for(core, SETTINGS), **settings}), stream(60)
    for x, y in pairs[:30]:
        learner.learn_one(x, y)
    other, before = copied(learner), parameters(learner)
    assert np.array_equal(other.predict_one(pairs[30][0]), learner.predict_one(pairs[30][0]))
    for x, y in pairs[30:]:
        other.learn_one(x, y)
    assert all(torch.equal(a, b) for a, b in zip(before, parameters(learner), strict=True))
    for x, y in pairs[30:]:
        learner.learn_one(x, y)
    for one, two, old in zip(parameters(learner), parameters(other), before, strict=True):
        assert torch.equal(one, two)
        assert not torch.equal(one, old)


def test_parameters_that_were_replaced_are_learnt() -> None:
    learner, other = OnlineLearner(3, 2, **SETTINGS), OnlineLearner(3, 2, **SETTINGS)
    pairs = stream(60)
    for x, y in pairs[:32]:
        learner.learn_one(x, y)
        other.learn_one(x, y)
    for module in (learner.core, learner.head):
        copied = {name: value.clone() for name, value in module.state_dict().items()}
        module.load_state_dict(copied, assign=True)
    for x, y in pairs[32:]:
        learner.learn_one(x, y)
        other.learn_one(x, y)
    assert all(torch.equal(a, b) for a, b in zip(parameters(learner), parameters(other), strict=True))


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([1.0, np.nan, 0.0], 1, "x must be finite"),
        ([1.0, np.inf, 0.0], 1, "x must be finite"),
        ([1.0, 0.0], 1, r"x must have shape \(1, 3\)"),
        ([1.0, 0.0, 0.0], 2, r"y must lie in 0 … 1 .* but holds 2"),
        ([1.0, 0.0, 0.0], -1, "but holds -1"),
        ([1.0, 0.0, 0.0], 0.5, "y must be 1 whole"),
        ([1.0, 0.0, 0.0], [0, 1], "y must be 1 whole"),
    ],
)
def test_bad_input_is_refused_before_anything_changes(x: Any, y: Any, message: str) -> None:
    learner = OnlineLearner(3, 2, **SETTINGS)
    for one, label in stream(11):
        learner.learn_one(one, label)
    before = learner.stream.state_dict(), parameters(learner), learner.steps
    with pytest.raises(ValueError, match=message):
        learner.learn_one(x, y)
    after = learner.stream.state_dict()
    assert all(torch.equal(before[0][name], after[name]) for name in after)
    assert learner.steps == before[2]


def test_a_stream_cannot_change_its_rows() -> None:
    learner = OnlineLearner(3, 2, rows=2, **SETTINGS)
    with pytest.raises(ValueError, match=r"one row for each of the 2 stream"):
        learner.learn_many(np.zeros((3, 3)), np.zeros(2, dtype=int))
    with pytest.raises(ValueError, match="needs a learner of 1 row, but this one has 2"):
        learner.learn_one(np.zeros(3), 0)
    with pytest.raises(ValueError, match="y must have one entry for each of the 2"):
        learner.learn_many(np.zeros((2, 3)), np.zeros(3, dtype=int))
    with pytest.raises(ValueError, match=r"mask must be bool of shape \(2,\)"):
        learner.learn_many(np.zeros((2, 3)), np.zeros(2, dtype=int), mask=[1, 0])


@pytest.mark.parametrize(
    "settings",
    [
        {"loss": "hinge"},
        {"output_size": 1},
        {"core": "sap"},
        {"core": "transformer"},
        {"update_every": 0},
        {"clip_norm": 0.0},
        {"refresh_every": 0},
        {"rows": 0},
        {"capacity": None},
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        OnlineLearner(**{"input_size": 3, "output_size": 2, **SETTINGS, **settings})


@pytest.mark.parametrize(
    ("settings", "steps"),
    [({}, 32), ({"capacity": 9}, 4), ({"capacity": 1, "top_k": 1}, 1), ({"age_scale": 7}, 7), ({"recipe": "paper"}, 1)],
)
def test_ages_are_in_units_of_half_the_memory_unless_scores_do_not_know_them(
    settings: dict[str, Any], steps: int
) -> None:
    core = OnlineLearner(3, 2, **settings).core
    assert isinstance(core, SAB)
    assert core.rules.reading.age_scale == steps


@pytest.mark.parametrize(
    ("settings", "sharpness"), [({}, 0.5), ({"recipe": "paper"}, 0.0), ({"recipe": "paper", "sharpness": 2.0}, 2.0)]
)
def test_reads_are_sharp_unless_the_recipe_is_the_papers(settings: dict[str, Any], sharpness: float) -> None:
    core = OnlineLearner(3, 2, **settings).core
    assert isinstance(core, SAB)
    assert core.rules.reading.sharpness == sharpness


@pytest.mark.parametrize(("write", "novelty"), [("changed", 0.3), ("novel", 1.0), ("refresh", 1.0), ("every", None)])
def test_novelty_is_that_of_the_rule_of_writing(write: str, novelty: float | None) -> None:
    learner = OnlineLearner(3, 2, write=write)
    assert isinstance(learner.stream, SABStream)
    assert learner.stream.rules.novelty == learner.settings["novelty"] == novelty


def test_a_novelty_that_nothing_asks_for_is_refused_but_not_in_a_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nothing asks for novelty, but it is 0\.4\. Leave it out"):
        OnlineLearner(3, 2, write="every", novelty=0.4)
    learner = OnlineLearner(3, 2, write="every")
    learner.settings["novelty"] = 1.0  # as files had it when it was no error
    learner.save(tmp_path / "learner.zip")
    assert OnlineLearner.load(tmp_path / "learner.zip").settings["novelty"] is None


def test_credit_is_reported_with_its_distance() -> None:
    learner = OnlineLearner(3, 2, credit_depth=2, **SETTINGS)
    for x, y in stream(40):
        learner.learn_one(x, y)
    report = learner.credit_report()
    assert report.slots >= report.pieces > 0
    assert len(report.entries) <= report.slots
    assert sum(report.by_distance.values()) == pytest.approx(1)
    assert all(0 <= entry.credited_step < entry.loss_step - 3 and entry.norm > 0 for entry in report.entries)
    assert "slots credited" in str(report)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"core": "lstm_tbptt"},
        {"eviction": "reservoir", "write": "novel", "refresh_every": 2},
        {"write": "refresh", "novelty": 0.3, "refresh_every": 2, **BEYOND},
    ],
)
def test_saving_in_the_middle_of_a_window_goes_on_to_the_bit(settings: dict[str, Any], tmp_path: Path) -> None:
    def make() -> OnlineLearner:
        return OnlineLearner(3, 2, **settings_for(settings.get("core", "sab"), SETTINGS | settings))

    pairs = stream(60)
    whole = make()
    for x, y in pairs:
        whole.learn_one(x, y)
    part = make()
    for x, y in pairs[:30]:
        part.learn_one(x, y)
    part.save(tmp_path / "learner")
    loaded = OnlineLearner.load(tmp_path / "learner")
    assert np.array_equal(loaded.predict_one(pairs[30][0]), part.predict_one(pairs[30][0]))
    for x, y in pairs[30:]:
        loaded.learn_one(x, y)
    assert all(torch.equal(a, b) for a, b in zip(parameters(whole), parameters(loaded), strict=True))
    left, right = whole.stream.state_dict(), loaded.stream.state_dict()
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert whole.credit_report() == loaded.credit_report()
    assert whole.steps == loaded.steps == 60


def test_an_encoder_is_credited_and_must_be_given_again(tmp_path: Path) -> None:
    def encoder() -> nn.Module:
        torch.manual_seed(3)
        return nn.Sequential(nn.Linear(5, 3), nn.Tanh())

    learner = OnlineLearner(3, 2, encoder=encoder(), observation_shape=(5,), **SETTINGS)
    for x, y in stream(30):
        learner.learn_one(np.concatenate([x, x[:2]]), y)
    learner.save(tmp_path / "learner")
    loaded = OnlineLearner.load(tmp_path / "learner", encoder=encoder())
    assert all(torch.equal(a, b) for a, b in zip(parameters(learner), parameters(loaded), strict=True))
    assert not torch.equal(parameters(loaded)[-1], [*encoder().parameters()][-1])
    with pytest.raises(ValueError, match="Pass the encoder"):
        OnlineLearner.load(tmp_path / "learner")


def test_files_that_are_not_ours_are_refused(tmp_path: Path) -> None:
    (tmp_path / "other.zip").write_bytes(b"not a zip")
    with pytest.raises(ValueError, match="damaged"):
        OnlineLearner.load(tmp_path / "other.zip")
    with pytest.raises(FileNotFoundError, match="no such file"):
        OnlineLearner.load(tmp_path / "nothing")


KILLED = """
import os, signal, sys
import numpy as np
from sab_agents import OnlineLearner
path, die_at = sys.argv[1], int(sys.argv[2])
settings = dict(hidden_size=8, capacity=6, bptt_steps=3, update_every=4, attention_size=4)
learner = OnlineLearner.load(path) if os.path.exists(path + ".zip") else OnlineLearner(3, 2, **settings)
rng = np.random.default_rng(0)
data = rng.standard_normal((90, 3)).astype(np.float32)
for t in range(learner.steps, 90):
    learner.learn_one(data[t], int(data[t, 0] > 0))
    if t == die_at:
        os.kill(os.getpid(), signal.SIGKILL)
    if t % 7 == 0:
        learner.save(path)
learner.save(path)
"""


def test_a_killed_learner_goes_on_from_its_last_file(tmp_path: Path) -> None:
    files = []
    for name, deaths in (("whole", []), ("killed", [13, 40])):
        for death in [*deaths, -1]:
            command = [sys.executable, "-c", KILLED, str(tmp_path / name), str(death)]
            code = subprocess.run(command, check=False).returncode
            assert code == (0 if death < 0 else -9)
        files.append(OnlineLearner.load(tmp_path / name))
    assert all(torch.equal(a, b) for a, b in zip(parameters(files[0]), parameters(files[1]), strict=True))


def test_credit_reaches_beyond_the_window_where_truncation_does_not() -> None:
    """Recall of one of two symbols across 12 steps with windows of 4: SAB learns it, the truncated LSTM cannot."""
    scores = {}
    for core in ("sab", "lstm_tbptt"):
        settings = settings_for(core, SETTINGS | {"capacity": 16})
        learner = OnlineLearner(4, 2, rows=16, learning_rate=0.01, **settings)
        rng = np.random.default_rng(0)
        right: list[bool] = []
        for _ in range(110):
            cue = rng.integers(0, 2, 16)
            for t in range(14):
                x = np.zeros((16, 4), dtype=np.float32)
                x[:, 2] = t not in (0, 13)
                x[:, 3] = t == 13
                x[np.arange(16), cue] += t == 0
                start = np.full(16, t == 0)
                if t == 13:
                    right += (learner.predict_many(x, start) == cue).tolist()
                learner.learn_many(x, cue if t == 13 else None, start)
        scores[core] = np.mean(right[-320:])
    assert scores["sab"] > 0.95
    assert scores["lstm_tbptt"] < 0.65


@pytest.mark.parametrize("core", ["sab", "lstm_tbptt"])
def test_a_prediction_is_made_again_once_weights_or_the_stream_were_changed(core: str) -> None:
    first, other = (learnt_for(20, core, seed) for seed in (0, 1))
    x = np.array([0.3, -0.2, 0.1])
    before = first.predict_proba_one(x)
    first.core.load_state_dict(other.core.state_dict())
    changed = first.predict_proba_one(x)
    assert changed != before
    first._peeked = None
    assert first.predict_proba_one(x) == changed
    first.stream.reset()
    anew = first.predict_proba_one(x)
    assert anew != changed
    first._peeked = None
    assert first.predict_proba_one(x) == anew


def learnt_for(steps: int, core: str, seed: int) -> OnlineLearner:
    learner = OnlineLearner(3, 2, core=core, hidden_size=6, seed=seed)
    rng = np.random.default_rng(seed)
    for step in range(steps):
        learner.learn_one(rng.standard_normal(3), step % 2)
    return learner
