"""Tests of the attention and credit maps and of their plots."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from sab_agents.train.figures.runs import image_of_attention, image_of_credit, plot_attention, plot_credit
from sab_agents.train.supervised.config import TrainConfig
from sab_agents.train.supervised.loop import train
from sab_agents.train.supervised.maps import Maps, maps_of
from sab_agents.train.supervised.metrics import loss_of, tensors_of
from sab_agents.train.supervised.model import model_of, task_of

MakeConfig = Callable[..., TrainConfig]
CPU = torch.device("cpu")


def maps(config: TrainConfig) -> Maps:
    torch.manual_seed(0)
    task = task_of(config)
    return maps_of(model_of(config, task), task, CPU)


@pytest.mark.parametrize("core", ["sab", "lstm", "lstm_tbptt", "lstm_attention", "transformer"])
def test_the_credit_map_is_the_gradient_of_each_scored_loss_by_each_input(core: str, make_config: MakeConfig) -> None:
    config = make_config(task="copying", length=3, symbols=None, core=core)
    torch.manual_seed(0)
    task = task_of(config)
    model = model_of(config, task)
    found = maps_of(model, task, CPU)
    x, targets, episode_start = tensors_of(next(iter(task.evaluation_batches("validation", 1, 1))), CPU)
    x.requires_grad_()
    output, _ = model(x, None, episode_start)
    assert len(found.scored) == 10
    for row, step in enumerate(found.scored):
        loss = loss_of(task.loss, output[step], targets[step])
        (gradient,) = torch.autograd.grad(loss, x, retain_graph=True)
        assert found.credit[row] == pytest.approx(gradient[:, 0].norm(dim=1).numpy(), rel=2e-3, abs=1e-6)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_truncation_shows_as_credit_that_is_exactly_zero(make_config: MakeConfig) -> None:
    full, cut, sab = (
        maps(make_config(task="copying", length=3, symbols=None, core=core)) for core in ("lstm", "lstm_tbptt", "sab")
    )
    last = int(cut.scored[-1])
    segment = last - last % make_config(core="lstm_tbptt").settings_of_core()["bptt_steps"]
    assert bool((full.credit[-1] > 0).all())
    assert np.flatnonzero(cut.credit[-1]).tolist() == list(range(segment, last + 1))
    assert np.flatnonzero(sab.credit[-1])[0] < segment


def test_many_scored_steps_are_thinned_to_64(make_config: MakeConfig, text_file: str) -> None:
    found = maps(make_config(task="characters", symbols=None, corpus=text_file, length=100))
    assert len(found.scored) == 64
    assert (found.scored[0], found.scored[-1]) == (0, 99)
    assert found.credit.shape == (64, 100)


def test_the_attention_map_reads_only_the_past_with_weights_that_sum_to_one(make_config: MakeConfig) -> None:
    found = maps(make_config(core="sab", length=20, core_settings={"top_k": 2, "floor": 0.0}))
    assert found.attention is not None
    assert np.array_equal(found.attention, np.tril(found.attention, -1))
    assert found.attention[0].sum() == 0
    assert found.attention[1:].sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert int((found.attention > 0).sum(axis=1).max()) == 2


def test_the_softmax_ablation_shows_all_that_it_reads(make_config: MakeConfig) -> None:
    found = maps(make_config(core="sab_softmax", length=8))
    assert found.attention is not None
    assert (found.attention > 0).sum(axis=1).tolist() == list(range(10))


def test_cores_without_a_memory_have_no_attention_map(make_config: MakeConfig) -> None:
    config = make_config()
    assert maps(config).attention is None
    train(config)
    assert not (config.folder / "plots" / "attention.png").exists()


def colours(path: Path) -> int:
    picture = imread(path)
    assert min(picture.shape[:2]) > 300
    return len(np.unique(picture.reshape(-1, picture.shape[2]), axis=0))


@pytest.mark.plots
def test_the_plots_show_something(make_config: MakeConfig) -> None:
    config = make_config(task="copying", core="sab", length=3, symbols=None)
    train(config)
    for name in ("learning_curve", "attention", "credit"):
        assert colours(config.folder / "plots" / f"{name}.png") > 20


def test_maps_without_any_weight_or_gradient_can_still_be_drawn(tmp_path: Path) -> None:
    for scored in ([3], [0, 1, 2, 3]):
        nothing = np.zeros((len(scored), 4), dtype=np.float32)
        plot_credit(tmp_path / "credit.png", "nothing", Maps(None, nothing, np.array(scored)))
        assert image_of_credit(nothing).shape[2] == 3
    plot_attention(tmp_path / "attention.png", "nothing", np.zeros((4, 4), dtype=np.float32))
    assert image_of_attention(np.zeros((1, 1), dtype=np.float32)).shape == (256, 256, 3)


def test_credit_that_is_not_finite_is_drawn_as_the_greatest_or_as_none() -> None:
    known = np.array([[0.0, 1e-3], [1.0, 0.5]], dtype=np.float32)
    broken = known.copy()
    broken[1, 0] = np.inf
    assert np.array_equal(image_of_credit(broken)[0, 0], image_of_credit(known)[0, 0])
    broken[1, 0] = np.nan
    known[1, 0] = 0.0
    assert np.array_equal(image_of_credit(broken), image_of_credit(known))
