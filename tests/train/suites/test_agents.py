"""The suite `agents`: cells run once, the same whatever runs beside them, and mistakes are one line."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from stable_baselines3.common.vec_env import VecNormalize
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from sab_agents.ppo.extractors import SmallCNN
from sab_agents.train.cli import main
from sab_agents.train.configuration import build, load
from sab_agents.train.errors import UserError
from sab_agents.train.figures.studies import on_one_grid
from sab_agents.train.suites.agents import Agents, AgentsCell, AgentsConfig
from sab_agents.train.suites.engine import Work, run_suite
from sab_agents.train.suites.episodes import Ended, evaluate_lengths, normalised_as, sized_vec_env
from sab_agents.train.suites.learning_curve import POINTS, Point, Watch, curve_of

CONFIGS = sorted((Path(__file__).parents[3] / "configs" / "agents").glob("*.yaml"))
CONTRIB = importlib.util.find_spec("sb3_contrib") is not None
SMALL = {"lstm_hidden_size": 4, "net_arch": []}
TINY: dict[str, Any] = {
    "env": "SAB/MemoryChain-v0",
    "argument": "length",
    "values": [2, 3],
    "num_envs": 4,
    "shared": {"n_steps": 8, "batch_size": 16, "n_epochs": 1, "policy_kwargs": SMALL},
    "learners": {
        "sab": {"policy": "MlpSabPolicy", "policy_kwargs": {"core_kwargs": {"capacity": 4}}},
        "lstm": {"policy": "MlpLstmPolicy", "learning_rate": 0.01},
    },
    "seeds": [0, 1],
    "steps": 64,
    "success": 1.0,
    "recent": 8,
}


def tiny(**changes: Any) -> Agents:
    return Agents(build(AgentsConfig, {**TINY, **changes}))


def run_chain(suite: Agents, out: Path, chain: list[AgentsCell]) -> dict[AgentsCell, dict[str, Any]]:
    return dict(suite.run(Work(tuple(chain), {}, out)))


def run_alone(suite: Agents, out: Path, cell: AgentsCell) -> dict[str, Any]:
    return run_chain(suite, out, [cell])[cell]


def written(tmp_path: Path, **changes: Any) -> str:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({**TINY, **changes}), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_each_config_loads_and_builds_its_agents(path: Path) -> None:
    suite = Agents(load(AgentsConfig, path))
    config = suite.config
    for module in config.imports:
        pytest.importorskip(module, reason=f"{module} is not there: pip install 'sab-agents[peers]'")
    for learner in config.learners:
        if config.agent_settings(learner, config.values[0])["algorithm"] == "sab_agents" or CONTRIB:
            suite.agent(AgentsCell(learner, config.values[0], 0)).get_env().close()


def test_a_sweep_is_written_and_its_cells_are_run_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    arguments = ["suite", "run", written(tmp_path, test_values=[4, 6], test_episodes=6), "--out", str(out)]
    assert main(arguments) == 0
    assert {path.name for path in out.iterdir()} == {
        "cells",
        "config.yaml",
        "models",
        "tb",
        "result.json",
        "table.md",
        *("scores.png", "scores.svg", "curves.png", "curves.svg"),
    }
    result = json.loads((out / "result.json").read_text())
    assert result["study"]["known"][0] == {"best": 1.0, "random": 0.0, "memoryless": 0.0}
    assert len(result["cells"]) == 8
    for cell in result["cells"]:
        assert cell["steps"] == 64
        assert cell["episodes"] == 4 * (16 // (cell["value"] + 1))
        assert cell["return"] == pytest.approx(2 * cell["success"] - 1)  # a return is 1 or -1
        assert set(cell["tests"]) == {"4", "6"}
        assert cell["tests"]["6"]["episodes"] == 6
        assert len(cell["curve"]) <= POINTS
    assert "[8/8]" in capsys.readouterr().out
    assert main(["export", str(out / "models" / "sab-3-1.zip"), str(tmp_path / "step.pt2")]) == 0
    board = EventAccumulator(str(out / "tb" / "sab-3-1")).Reload()
    assert [event.step for event in board.Scalars("rollout/success")] == [32, 64]
    assert "memory/read_distance" in board.Tags()["scalars"]
    before = {path: path.stat().st_mtime_ns for path in (out / "cells").iterdir()}
    (out / "cells" / "lstm-2-0.json").unlink()
    assert main(arguments) == 0
    assert "[1/1] lstm, length 2, seed 0" in capsys.readouterr().out
    assert [path.name for path in before if path.stat().st_mtime_ns != before[path]] == ["lstm-2-0.json"]
    table = (out / "table.md").read_text()
    assert table.count("| sab |") == table.count("| lstm |") == 4
    assert "| best | 1.00 | 1.00 |" in table


@pytest.mark.slow
def test_a_cell_does_not_depend_on_the_process_it_runs_in(tmp_path: Path) -> None:
    config = tiny(values=[2], seeds=[0], learners={"sab": TINY["learners"]["sab"]})
    alone, again = (run_alone(config, tmp_path / name, AgentsCell("sab", 2, 0)) for name in ("alone", "again"))
    (other,) = run_suite(config, tmp_path / "other", jobs=2).values()
    for found in (again, other):
        assert [point["return"] for point in found["curve"]] == [point["return"] for point in alone["curve"]]


def test_a_cell_ends_at_its_target_and_not_before_so_many_episodes(tmp_path: Path) -> None:
    config = tiny(success=-1.0, target=1.0, recent=5, steps=640)  # every episode succeeds
    result = run_alone(config, tmp_path, AgentsCell("lstm", 3, 0))
    assert result["reached"]
    assert result["steps"] == 2 * 4 * 4  # two episodes of four steps on each of four copies are the first five
    assert not run_alone(tiny(success=-1.0, steps=640), tmp_path, AgentsCell("lstm", 3, 0))["reached"]


def test_the_target_is_measured_over_all_copies_that_end_in_a_step() -> None:
    watch = Watch(success=1.0, recent=2, target=1.0)

    def step(*returns: float) -> bool:
        infos = [{"episode": {"r": total}} for total in returns]
        watch.update_locals({"dones": np.ones(len(returns), np.bool_), "infos": infos})
        return watch._on_step()

    assert step(0.0, 1.0, 1.0, 0.0)  # two in a row among the copies are not the last two
    assert watch.score == (0.5, 0.5)
    assert not step(0.0, 0.0, 1.0, 1.0)
    assert watch.reached


def test_the_command_line_chooses_cells(tmp_path: Path) -> None:
    flags = ["--values", "4", "--learners", "lstm", "--seeds", "3", "--steps", "32", "--out", str(tmp_path / "out")]
    assert main(["suite", "run", written(tmp_path, steps={2: 5, 3: 5}), *flags]) == 0
    assert [path.name for path in (tmp_path / "out" / "cells").iterdir()] == ["lstm-4-3.json"]


def test_a_folder_of_other_settings_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--values", "2", "--learners", "lstm", "--seeds", "0", "--out", str(tmp_path / "out")]
    assert main(["suite", "run", written(tmp_path), *flags]) == 0
    assert main(["suite", "run", written(tmp_path), *flags, "--steps", "32"]) == 2
    assert "was run with steps = 64, not 32" in capsys.readouterr().err


def test_a_learners_own_settings_go_before_the_shared_ones() -> None:
    learners = {"own": {"policy": "MlpLstmPolicy", "n_epochs": 3, "policy_kwargs": {"lstm_hidden_size": 5}}}
    agent = tiny(learners=learners).agent(AgentsCell("own", 2, 0))
    assert agent.n_epochs == 3
    assert agent.n_steps == 8
    assert agent.policy.hidden_size == 5
    assert agent.policy.net_arch == []


def test_settings_may_differ_by_value() -> None:
    suite = tiny(at_values={3: {"ent_coef": 0.5}}, shared={**TINY["shared"], "ent_coef": 0.1})
    assert [suite.agent(AgentsCell("sab", value, 0)).ent_coef for value in (2, 3)] == [0.1, 0.5]
    assert suite.cell_settings(AgentsCell("sab", 3, 0))["learner"]["ent_coef"] == 0.5


@pytest.mark.parametrize(
    "algorithm",
    [
        "sab_agents",
        pytest.param("sb3_contrib", marks=pytest.mark.skipif(not CONTRIB, reason="sb3-contrib is not there")),
    ],
)
def test_in_a_curriculum_an_agent_goes_on_with_what_it_has_learnt(
    algorithm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(
        learners={"a": {"algorithm": algorithm, "policy": "MlpLstmPolicy"}},
        at_values={3: {"ent_coef": 0.25, "gamma": 0.5, "learning_rate": 0.125}},
        curriculum=True,
        normalize=True,
        success=-1.0,  # every episode succeeds
        target=1.0,
        recent=24,
        steps=256,
        test_values={3: [4]},
        test_episodes=2,
    )
    chain = [AgentsCell("a", value, 0) for value in config.config.values]
    seen: list[tuple[Any, ...]] = []
    algorithm_class = type(config.agent(chain[0]))
    train = algorithm_class.train

    def noted(self: Any) -> None:
        train(self)
        rate = self.policy.optimizer.param_groups[0]["lr"]
        gammas = self.gamma, self.rollout_buffer.gamma
        seen.append((id(self.policy), self.ent_coef, rate, *gammas, self.get_vec_normalize_env().obs_rms.count))

    monkeypatch.setattr(algorithm_class, "train", noted)
    first, second = run_chain(config, tmp_path, chain).values()
    (policy, *before, counted), (same, *after, counted_later) = seen[0], seen[-1]
    assert policy == same
    assert after == [0.25, 0.125, 0.5, 0.5] != before
    assert counted_later > counted + 4
    assert first["reached"]
    assert second["reached"]
    assert second["steps"] > first["steps"] == 24 * 3
    assert second["curve"][-1]["steps"] == second["steps"] - first["steps"]
    assert second["seconds"] >= first["seconds"]
    assert first["tests"] == {}
    assert second["tests"]["4"]["episodes"] == 2


def test_a_curriculum_is_the_same_in_every_run(tmp_path: Path) -> None:
    learners = {"sab": TINY["learners"]["sab"]}
    config = tiny(curriculum=True, success=-1.0, target=1.0, values=[2, 3, 4], seeds=[0], learners=learners)
    chain = [AgentsCell("sab", value, 0) for value in config.config.values]

    def decided(run: str) -> list[tuple[float, int]]:
        return [(found["return"], found["steps"]) for found in run_chain(config, tmp_path / run, chain).values()]

    found = decided("first")
    assert len(found) == 3
    assert decided("second") == found


def test_a_learner_is_left_untested_where_the_config_says_so(tmp_path: Path) -> None:
    lstm = {**TINY["learners"]["lstm"], "tested": False}
    config = tiny(values=[3], test_values=[4], test_episodes=4, learners={**TINY["learners"], "lstm": lstm}, seeds=[0])
    tests = {cell.learner: result["tests"] for cell, result in run_suite(config, tmp_path).items()}
    assert set(tests["sab"]) == {"4"}
    assert tests["lstm"] == {}


def test_the_learning_rate_goes_down_along_the_budget(tmp_path: Path) -> None:
    config = tiny(anneal=True, values=[3], learners={"lstm": {"policy": "MlpLstmPolicy", "learning_rate": 0.01}})
    run_alone(config, tmp_path, AgentsCell("lstm", 3, 0))
    events = EventAccumulator(str(tmp_path / "tb" / "lstm-3-0"))
    events.Reload()
    rates = [event.value for event in events.Scalars("train/learning_rate")]
    assert rates == pytest.approx([0.005])  # half of the budget is left after the first rollout, none after the second


def test_a_curriculum_ends_where_the_target_is_not_reached(tmp_path: Path) -> None:
    config = tiny(curriculum=True, target=1.0, success=2.0, seeds=[0], learners={"sab": TINY["learners"]["sab"]})
    assert [cell.value for cell in run_suite(config, tmp_path)] == [2]
    cell = tmp_path / "cells" / "sab-2-0.json"
    written_at = cell.stat().st_mtime_ns
    run_suite(config, tmp_path)
    assert cell.stat().st_mtime_ns == written_at


@pytest.mark.skipif(not CONTRIB, reason="sb3-contrib is not there")
def test_sb3_contrib_runs_in_the_same_cell(tmp_path: Path) -> None:
    learners = {"theirs": {"algorithm": "sb3_contrib", "policy": "MlpLstmPolicy"}}
    result = run_alone(tiny(learners=learners, test_values=[3]), tmp_path, AgentsCell("theirs", 2, 0))
    assert result["steps"] == 64
    assert result["tests"]["3"]["episodes"] == 100


def test_the_previous_action_and_reward_are_observed_when_asked_for() -> None:
    assert tiny().environment(2).observation_space.shape == (3,)
    assert tiny(previous_action_reward=True).environment(2).observation_space.shape == (3 + 2 + 1,)


def test_rewards_may_be_scaled_by_their_returns_and_reported_returns_are_not(tmp_path: Path) -> None:
    config = tiny(normalize_reward=True, at_values={3: {"gamma": 0.5}}, curriculum=True, success=-1.0, target=1.0)
    env = config.environment(3)
    assert isinstance(env, VecNormalize)
    assert (env.norm_obs, env.norm_reward, env.gamma) == (False, True, 0.5)
    env.reset()
    rewards = [env.step(np.zeros(4, dtype=np.int64))[1] for _ in range(40)]
    assert 0 < np.abs(rewards).max() != 1
    for result in run_chain(
        config, tmp_path, [AgentsCell("lstm", value, 0) for value in config.config.values]
    ).values():
        assert {point["return"] * 8 % 1 for point in result["curve"]} == {0}  # means of a few returns of 1 and -1


def test_an_agent_is_tested_with_the_normalisation_that_it_learnt_with() -> None:
    model = tiny(normalize=True).agent(AgentsCell("sab", 2, 0))
    model.learn(64)
    learnt = model.get_vec_normalize_env()
    assert learnt.obs_rms.count > 64
    before = learnt.obs_rms.mean.copy()
    env = sized_vec_env(TINY["env"], TINY["argument"], 9, 2)
    env.seed(0)
    raw = np.asarray(env.reset())
    env.seed(0)
    seen = np.asarray(normalised_as(model, env).reset())
    np.testing.assert_allclose(seen, (raw - before) / np.sqrt(learnt.obs_rms.var + 1e-8), rtol=1e-5)
    np.testing.assert_array_equal(learnt.obs_rms.mean, before)
    assert normalised_as(_Turner(remembers=True), env) is env


def test_the_elapsed_share_is_observed_when_it_is_asked_for() -> None:
    assert tiny(elapsed_share=True).environment(2).observation_space.shape == (3 + 1,)


def test_a_value_may_be_a_part_of_the_id() -> None:
    assert sized_vec_env("CartPole-v{}", None, 1, 2).observation_space.shape == (4,)
    with pytest.raises(UserError, match="CartPole-v7"):
        sized_vec_env("CartPole-v{}", None, 7, 2)


class _Turner:
    """Plays a passive T-maze as the best policy does if it remembers, and else as the best without a memory."""

    def __init__(self, *, remembers: bool) -> None:
        self.remembers = remembers

    def predict(self, observation: Any, state: Any, episode_start: Any, deterministic: bool) -> tuple[Any, Any]:
        assert deterministic
        goal = np.ones(len(observation)) if state is None else state
        goal = np.where(episode_start & self.remembers, observation[:, 1], goal)
        return np.where(observation[:, 0] == 0, 0, np.where(goal > 0, 1, 3)), goal


def test_an_agent_is_tested_at_each_length_with_its_memory() -> None:
    arguments = ("SAB/PassiveTMaze-v0", "corridor_length", [3, 9], 50)
    with_memory = evaluate_lengths(_Turner(remembers=True), *arguments, success=1.0)
    assert {value: result["return"] for value, result in with_memory.items()} == {3: 1.0, 9: 1.0}
    without = evaluate_lengths(_Turner(remembers=False), *arguments, success=1.0)
    assert all(0.2 < result["success"] < 0.8 for result in without.values())
    assert all(result["episodes"] == 50 and result["least"] == 0 for result in without.values())


def test_a_curve_has_a_point_for_each_part_of_the_budget_that_saw_an_end() -> None:
    points = [Point(steps, steps / 10, Ended(float(steps), float(steps > 50))) for steps in (1, 2, 51, 100, 104)]
    curve = curve_of(points, 100)
    assert [point["steps"] for point in curve] == [2, 51, 104]
    assert [point["return"] for point in curve] == [1.5, 51, 102]
    assert [point["success"] for point in curve] == [0, 1, 1]


def test_a_mean_curve_holds_a_seed_that_ended_early() -> None:
    early, late = [(1.0, 0.0), (2.0, 1.0)], [(1.0, 0.0), (4.0, 0.0)]
    grid, heights = on_one_grid([early, late])
    assert grid == [1.0, 2.0, 4.0]
    assert heights.mean(0).tolist() == [0.0, 0.5, 0.5]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"env": "SAB/MemoryChian-v0"}, "Did you mean 'SAB/MemoryChain-v0'?"),
        ({"argument": "size"}, "size"),
        ({"argument": None}, "the values must go to one place"),
        ({"seed": [3]}, "unknown key 'seed'. Did you mean 'seeds'?"),
        ({"values": []}, "values must have at least one entry, but is empty"),
        ({"steps": {2: 10}}, "steps must have a number for each value, but has none for 3"),
        ({"steps": 0}, "steps must be at least 1, but is 0"),
        ({"success": "is_success"}, "at an episode's end info has no 'is_success'"),
        ({"success": [1]}, "success must be int | float | str, but is [1]"),
        ({"target": 2}, "target must be above 0 and at most 1"),
        ({"wrappers": ["flaten"]}, "Did you mean 'flatten'?"),
        ({"wrappers": ["mask_velocity"]}, "mask_velocity goes with CartPole"),
        ({"wrappers": ["image"]}, "image goes with a dict of observations"),
        ({"imports": ["there_is_no_such_module"]}, "imports: 'there_is_no_such_module' cannot be imported"),
        (
            {"at_values": {2: {"n_steps": 8}}},
            "at_values: 2: must map ent_coef, gamma, learning_rate to a number, but has n_steps",
        ),
        ({"at_values": {2: 0.1}}, "at_values must be Mapping"),
        ({"learners": {"a": {"policy": "MlpSabPolicy", "tested": 1}}}, "a: tested must be true or false, but is 1"),
        ({"curriculum": True, "target": 1.0, "anneal": True}, "the budgets of a curriculum are not used up"),
        ({"curriculum": True}, "an agent continues when it has reached the target, but there is none"),
        ({"learners": {"a": {"policy": "MlpPolicy"}}}, "policy must be one of MlpSabPolicy"),
        ({"learners": {"a": {"algorithm": "ppo", "policy": "MlpLstmPolicy"}}}, "algorithm must be one of sab_agents"),
        ({"learners": {"a": {"policy": "MlpLstmPolicy", "colour": 1}}}, "colour"),
        ({"learners": {"a": {}}}, "a must have a policy"),
        ({"shared": {"n_steps": 0}}, "n_steps"),
        ({"values": [500]}, "no episode was over within 64 steps. Raise steps."),
    ],
)
def test_a_mistake_is_one_line(
    changes: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["suite", "run", written(tmp_path, **changes), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out" / "result.json").exists()


def test_arguments_of_tests_replace_those_of_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    maze = {"env": "SAB/DigitTMaze-v0", "argument": "corridor_length", "env_arguments": {"split": "validation"}}
    tests = {"test_values": [5], "test_episodes": 4}
    made: list[dict[str, Any]] = []

    def sized(*arguments: Any, **settings: Any) -> Any:
        made.append(dict(settings["env_arguments"]))
        return sized_vec_env(*arguments, **settings)

    for module in ("agents", "episodes"):
        monkeypatch.setattr(f"sab_agents.train.suites.{module}.sized_vec_env", sized)
    suite = tiny(**maze, **tests, test_arguments={"split": "test"}, learners={"lstm": {"policy": "MlpLstmPolicy"}})
    cell = AgentsCell("lstm", 2, 0)
    assert set(run_alone(suite, tmp_path, cell)["tests"]) == {"5"}
    assert made == [{"split": "validation"}, {"split": "test"}]
    assert suite.cell_settings(cell)["test_arguments"] == {"split": "test"}
    assert "test_arguments" not in tiny().cell_settings(cell)
    assert "Tests: 4 episodes with split = test." in suite.study({}).note


def test_an_extractor_is_named_by_its_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    named = {**SMALL, "features_extractor_class": "sab_agents.ppo.extractors.SmallCNN"}
    maze = {"env": "SAB/DigitTMaze-v0", "argument": "corridor_length", "env_arguments": {"image": True}}
    learners: dict[str, Any] = {"sab": {"policy": "CnnSabPolicy", "policy_kwargs": named}}
    model = tiny(**maze, learners=learners).agent(AgentsCell("sab", 2, 0))
    assert isinstance(model.policy.features_extractor, SmallCNN)
    model.get_env().close()
    learners["sab"]["policy_kwargs"] = {**SMALL, "features_extractor_class": "sab_agents.ppo.extractors.SmalCNN"}
    command = ["agents", written(tmp_path, **maze, learners=learners), "--out", str(tmp_path / "out")]
    assert main(command) == 2
    assert (
        "sab: features_extractor_class must be the name of a class, but is 'sab_agents.ppo" in capsys.readouterr().err
    )
