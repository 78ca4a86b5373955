"""Tests of the training loop: what a run leaves behind, when it stops, and what it refuses."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sab_agents.train.cli import main
from sab_agents.train.errors import TrainingError, UserError
from sab_agents.train.run_folder import RunFolder
from sab_agents.train.supervised.config import TrainConfig
from sab_agents.train.supervised.loop import Trainer, train

MakeConfig = Callable[..., TrainConfig]


def test_a_run_folder_holds_everything(make_config: MakeConfig) -> None:
    config = make_config(core="sab")
    train(config)
    files = {str(path.relative_to(config.folder)) for path in config.folder.rglob("*") if path.is_file()}
    events = {name for name in files if name.startswith("tb")}
    assert len(events) == 1
    assert files - events == {
        "config.yaml",
        "metrics.jsonl",
        "result.json",
        "checkpoint.safetensors",
        "model.safetensors",
        "plots/learning_curve.png",
        "plots/credit.png",
        "plots/attention.png",
    }


def test_the_result_says_what_was_trained_and_how_well(make_config: MakeConfig) -> None:
    config = make_config()
    returned = train(config)
    result = json.loads((config.folder / "result.json").read_text(encoding="utf-8"))
    assert result == returned
    assert (result["task"], result["core"], result["steps"], result["threads"]) == ("recall", "lstm", 6, 1)
    assert result["settings"] == config.settings()
    # LSTM: 4H(I + H + 2); head: (H + 1) classes.
    assert result["parameters"] == 4 * 8 * (7 + 8 + 2) + (8 + 1) * 3
    assert list(result["metrics"]) == ["accuracy", "cross_entropy"]
    for values in result["metrics"].values():
        assert set(values) == {"test", "validation", "memoryless"}
        assert all(math.isfinite(value) for value in values.values())
    assert result["metrics"]["accuracy"]["memoryless"] == pytest.approx(1 / 3)
    assert 0 < result["seconds"] < 60


def test_metrics_are_logged_as_often_as_asked(make_config: MakeConfig) -> None:
    config = make_config()
    train(config)
    lines = RunFolder(config.folder).read_metrics()
    assert [(line["step"], line["split"]) for line in lines] == [
        (2, "train"),
        (3, "validation"),
        (4, "train"),
        (6, "train"),
        (6, "validation"),
        (6, "test"),
    ]
    first = {
        "step",
        "split",
        "seconds",
        "loss",
        "gradient_norm",
        "learning_rate",
        "skipped_updates",
        "steps_per_second",
    }
    assert set(lines[0]) == first
    assert set(lines[1]) == {"step", "split", "seconds", "accuracy", "cross_entropy"}


def test_tensorboard_has_scalars_their_memoryless_line_and_maps(make_config: MakeConfig) -> None:
    from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]  # noqa: PLC0415
        EventAccumulator,
    )

    config = make_config(core="sab")
    train(config)
    events = EventAccumulator(str(config.folder / "tb"))
    events.Reload()
    tags = events.Tags()
    assert set(tags["images"]) == {"attention", "credit (log scale)"}
    expected = {
        f"train/{name}" for name in ("loss", "gradient_norm", "learning_rate", "skipped_updates", "steps_per_second")
    }
    for split in ("validation", "test"):
        for name in ("accuracy", "cross_entropy"):
            expected |= {f"{split}/{name}", f"{split}/{name} memoryless"}
    assert set(tags["scalars"]) == expected


def test_output_is_a_line_for_each_evaluation_where_there_is_no_terminal(
    make_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in make_config().settings().items()))
    assert main(["train", str(path), "--out", str(tmp_path / "run")]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert captured.err == ""
    assert [line.split()[0] for line in lines[3:]] == ["score", "train", "look"]
    lines = lines[:3]
    assert lines[0].startswith("recall · lstm · seed 0 · step 3/6 · 0 s · validation accuracy ")
    assert "memoryless 0.3333" in lines[2]


def test_a_folder_that_holds_a_run_is_left_alone(make_config: MakeConfig) -> None:
    config = make_config()
    train(config)
    before = {path: path.read_bytes() for path in config.folder.rglob("*") if path.is_file()}
    with pytest.raises(
        UserError, match=r"already holds a run\. Continue it with sab-agents resume .*, or choose another --ou"
    ):
        train(make_config(seed=1))
    assert before == {path: path.read_bytes() for path in config.folder.rglob("*") if path.is_file()}


def test_the_same_seed_gives_the_same_model_and_another_seed_another(make_config: MakeConfig) -> None:
    def model(**changes: Any) -> bytes:
        config = make_config(**changes)
        train(config)
        trainer = Trainer(make_config(**changes, resume=True))
        return b"".join(value.numpy().tobytes() for value in trainer.model.state_dict().values())

    assert model(out="a") == model(out="b")
    assert model(out="a2", seed=1) != model(out="b2", seed=2)


def test_evaluation_does_not_change_what_is_learnt(make_config: MakeConfig) -> None:
    often, seldom = make_config(out="often", eval_every=1, log_every=1), make_config(out="seldom", eval_every=6)
    train(often)
    train(seldom)
    models = [Trainer(make_config(out=name, resume=True)).model.state_dict() for name in ("often", "seldom")]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])


def test_it_stops_at_the_target(make_config: MakeConfig) -> None:
    result = train(make_config(core="lstm", length=1, steps=4000, learning_rate=0.03, eval_every=50, target=0.95))
    assert result["steps"] < 4000
    assert result["steps"] % 50 == 0
    assert result["metrics"]["accuracy"]["validation"] >= 0.95


def test_a_lower_error_reaches_a_target_too(make_config: MakeConfig) -> None:
    result = train(make_config(task="adding", length=4, symbols=None, steps=50, target=10.0))
    assert result["steps"] == 3


def test_it_stops_when_the_time_is_over(make_config: MakeConfig) -> None:
    result = train(make_config(steps=10**6, eval_every=10**6, checkpoint_every=10**6, minutes=0.005))
    assert 0.3 <= result["seconds"] < 5
    assert result["steps"] < 10**6


def test_the_learning_rate_decays_along_a_cosine(make_config: MakeConfig) -> None:
    config = make_config(steps=4, log_every=1, learning_rate=0.1, final_learning_rate=0.02)
    train(config)
    lines = RunFolder(config.folder).read_metrics()
    rates = [line["learning_rate"] for line in lines if line["split"] == "train"]
    half = 0.5**0.5
    assert rates == pytest.approx([0.1, 0.02 + 0.04 * (1 + half), 0.06, 0.02 + 0.04 * (1 - half)])


def test_a_loss_that_is_not_finite_stops_training_and_keeps_the_checkpoint(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config()
    trainer = Trainer(config)
    forward = trainer.model.forward
    calls = []

    def broken(x: Tensor, *rest: Any) -> Any:
        output, state = forward(x, *rest)
        calls.append(x.requires_grad)
        return (output * math.nan if trainer.progress.step == 4 else output), state

    monkeypatch.setattr(trainer.model, "forward", broken)
    with pytest.raises(TrainingError, match=r"update 5 has loss nan .* the last checkpoint stays in"):
        trainer.run()
    resumed = Trainer(make_config(resume=True))
    assert resumed.progress.step == 4
    assert all(bool(torch.isfinite(value).all()) for value in resumed.model.parameters())
    assert resumed.run()["steps"] == 6


def overflow_at(trainer: Trainer, updates: range, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = trainer.model.forward

    def overflowing(*arguments: Any) -> Any:
        output, state = forward(*arguments)
        if output.requires_grad and trainer.progress.step in updates:
            output.register_hook(lambda gradient: gradient * math.inf)  # type: ignore[no-untyped-call]
        return output, state

    monkeypatch.setattr(trainer.model, "forward", overflowing)


def test_an_update_whose_gradient_overflows_is_skipped_and_counted(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(log_every=1, eval_every=100)
    trainer = Trainer(config)
    overflow_at(trainer, range(2, 4), monkeypatch)
    trainer.run()
    lines = [line for line in RunFolder(config.folder).read_metrics() if line["split"] == "train"]
    assert [line["skipped_updates"] for line in lines] == [0, 0, 1, 2, 2, 2]
    assert ["gradient_norm" in line for line in lines] == [True, True, False, False, True, True]
    assert all(bool(torch.isfinite(value).all()) for value in trainer.model.parameters())


def test_too_many_overflowing_gradients_stop_training(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(make_config(steps=100, eval_every=100))
    overflow_at(trainer, range(100), monkeypatch)
    with pytest.raises(TrainingError, match=r"update 21 has loss .* gradient norm nan|inf .*21 updates skipped"):
        trainer.run()


def test_state_is_carried_from_window_to_window_without_gradient(
    make_config: MakeConfig, text_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(
        task="characters", symbols=None, length=5, corpus=text_file, core="sab", core_settings={"capacity": 4}, steps=3
    )
    trainer = Trainer(config)
    seen = []
    forward = trainer.model.forward

    def watched(x: Tensor, state: Any, episode_start: Tensor) -> Any:
        if torch.is_grad_enabled() and not x.requires_grad:
            seen.append(state)
        output, new_state = forward(x, state, episode_start)
        return output, new_state

    monkeypatch.setattr(trainer.model, "forward", watched)
    trainer.run()
    training = seen[:1] + [state for state in seen[1:] if state is not None]
    assert training[0] is None
    assert [state.step.tolist() for state in training[1:]] == [[5] * 4, [10] * 4]
    assert not any(tensor.requires_grad for state in training[1:] for tensor in state.tensors())
