"""The sequence tasks as environments: the interface, the episodes, the returns and the metrics of every id."""

from __future__ import annotations

import copy
import math
import pickle
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import FlattenObservation, RecordEpisodeStatistics, TimeLimit
from stable_baselines3.common.env_checker import check_env as check_env_of_sb3

import sab_agents  # noqa: F401  # registers the ids
from sab_agents.envs.policies import Policy, Uniform
from sab_agents.envs.registration import SUPERVISED, registered
from sab_agents.envs.supervised import Adding, Copying, Recall, SequenceTask
from sab_agents.envs.supervised.action_modes import expected_log_sum_exp
from sab_agents.envs.supervised.task import GeneratedTask
from tests.envs.conftest import same

COPYING, ADDING, RECALL = "SAB/Copying-v0", "SAB/Adding-v0", "SAB/DelayedRecall-v0"
CHARACTERS, DIGITS, MNIST = "SAB/Characters-v0", "SAB/PixelDigits-v0", "SAB/PixelMNIST-v0"
GENERATED: list[tuple[str, dict[str, Any]]] = [
    *((entry.id, {"length": 3}) for entry in SUPERVISED if issubclass(entry.load(), GeneratedTask)),
    (COPYING, {"length": 2, "action_mode": "log_probs"}),
    (ADDING, {"length": 7}),
    (RECALL, {"length": 3, "symbols": 4, "distractors": 2}),
    (RECALL, {"length": 2, "symbols": 3, "action_mode": "log_probs"}),
]
"""Every generated task with its default settings, and more settings of some."""
OF_DATA: list[tuple[str, dict[str, Any]]] = [
    (CHARACTERS, {"episode_length": 6}),
    (CHARACTERS, {"episode_length": None, "action_mode": "log_probs"}),
    (DIGITS, {"permuted": True, "split": "test"}),
    (DIGITS, {"action_mode": "log_probs"}),
    (MNIST, {}),
    (MNIST, {"action_mode": "log_probs", "permuted": True}),
]
CASES = GENERATED + OF_DATA


@pytest.fixture
def settings(request: pytest.FixtureRequest, mnist_folder: Path, tmp_path: Path) -> tuple[str, dict[str, Any]]:
    """An id and arguments, with small files where the task reads any."""
    env_id, arguments = request.param
    if env_id == MNIST:
        return env_id, {**arguments, "data_dir": mnist_folder}
    if env_id == CHARACTERS:
        (tmp_path / "text").write_text("to be or not to be, that is the question. " * 8)
        return env_id, {**arguments, "corpus": tmp_path / "text"}
    return env_id, arguments


def each(cases: list[tuple[str, dict[str, Any]]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("settings", cases, indirect=True, ids=str)


@each(CASES)
def test_both_checkers_pass(settings: tuple[str, dict[str, Any]]) -> None:
    env_id, arguments = settings
    with warnings.catch_warnings():
        if arguments.get("action_mode") == "log_probs":  # both recommend actions from -1 to 1, which these cannot be
            warnings.filterwarnings("ignore", message=".*symmetric and normalized")
        check_env(gym.make(env_id, **arguments).unwrapped)
        check_env_of_sb3(gym.make(env_id, **arguments).unwrapped)


@each(CASES)
@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_the_vector_form_equals_single_ones_bit_exactly(
    settings: tuple[str, dict[str, Any]], mode: AutoresetMode
) -> None:
    env_id, arguments = settings
    n, limit = 3, 4 if env_id == CHARACTERS else None
    single = [lambda: limited(gym.make(env_id, **arguments).unwrapped, limit)] * n
    apart = SyncVectorEnv(single, autoreset_mode=mode)
    together = gym.make_vec(env_id, num_envs=n, autoreset_mode=mode, max_episode_steps=limit, **arguments)
    apart.action_space.seed(0)
    for seed in (5, None, [3, None, 1]):
        assert same(apart.reset(seed=seed), together.reset(seed=seed))  # type: ignore[arg-type]
        for step in range(60):
            actions = apart.action_space.sample()
            expected, actual = apart.step(actions), together.step(actions)
            assert same(expected, actual)
            ended = expected[2] | expected[3]
            if ended.any() and (mode == AutoresetMode.DISABLED or step % 7 == 0):
                results = [env.reset(options={"reset_mask": ended.copy()}) for env in (apart, together)]
                assert same(*results)


def limited(env: gym.Env[Any, Any], limit: int | None) -> gym.Env[Any, Any]:
    return env if limit is None else TimeLimit(env, limit)


@each(CASES)
def test_a_copy_continues_identically(settings: tuple[str, dict[str, Any]]) -> None:
    env_id, arguments = settings
    env = gym.make_vec(env_id, num_envs=3, **arguments)
    env.reset(seed=1)
    env.action_space.seed(0)
    for _ in range(9):
        env.step(env.action_space.sample())
    twins = [pickle.loads(pickle.dumps(env)), copy.deepcopy(env)]
    for _ in range(100 if env_id == DIGITS else 40):
        actions = env.action_space.sample()
        expected = env.step(actions)
        for twin in twins:
            assert same(twin.step(actions), expected)


@pytest.mark.parametrize(("env_id", "task"), [(COPYING, Copying(4)), (ADDING, Adding(9)), (RECALL, Recall(3))], ids=str)
def test_an_episode_is_the_sequence_that_the_task_draws_from_the_same_generator(
    env_id: str, task: SequenceTask
) -> None:
    env = gym.make(env_id, length=task.length)
    assert isinstance(task, (Copying, Adding, Recall))
    for seed in range(5):
        batch = task.draw_batch(np.random.default_rng(seed), 1)
        observation, info = env.reset(seed=seed)
        for step in range(len(batch.inputs)):
            assert np.array_equal(observation, batch.inputs[step, 0])
            scored = bool(batch.scored[step, 0])
            centre = 1.0 if env_id == ADDING and scored else 0.0
            assert (info["target"], info["scored"]) == (batch.targets[step, 0] - centre, scored)
            observation, _, terminated, truncated, info = env.step(env.action_space.sample())
            assert (terminated, truncated) == (step == len(batch.inputs) - 1, False)
        assert not observation.any()
        assert (info["target"], info["scored"]) == (0, False)


def scores(env_id: str, arguments: dict[str, Any], policy: Policy, episodes: int) -> tuple[float, float]:
    """Mean and standard error of the returns of a policy."""
    n = 50
    env = gym.make_vec(env_id, num_envs=n, autoreset_mode=AutoresetMode.SAME_STEP, **arguments)
    observations, _ = env.reset(seed=0)
    first, current, returns = np.ones(n, np.bool_), np.zeros(n), list[float]()
    while len(returns) < episodes:
        observations, rewards, terminations, truncations, _ = env.step(policy.act(observations, first))
        current += rewards
        first = terminations | truncations
        returns += current[first].tolist()
        current[first] = 0
    return float(np.mean(returns)), float(np.std(returns) / math.sqrt(len(returns)))


RETURNING = [case for case in CASES if case[1].get("episode_length", 1) is not None]


@each(RETURNING)
@pytest.mark.parametrize("kind", ["best", "random", "memoryless"])
def test_scripted_policies_earn_the_stated_returns(settings: tuple[str, dict[str, Any]], kind: str) -> None:
    env_id, arguments = settings
    env = gym.make_vec(env_id, num_envs=1, **arguments)
    dynamics = env.unwrapped.dynamics  # type: ignore[attr-defined]
    stated = env.metadata["returns"][kind]
    if env_id == CHARACTERS and kind == "best":
        assert stated is None
        with pytest.raises(NotImplementedError, match="no scripted oracle"):
            dynamics.oracle()
        return
    make = {"best": dynamics.oracle, "memoryless": dynamics.memoryless}
    policy = Uniform(env.single_action_space, 3) if kind == "random" else make[kind]()
    mean, error = scores(env_id, arguments, policy, 2000)
    assert abs(mean - stated) <= (1e-12 if kind == "best" else 4 * error + 1e-9)


def test_random_log_probabilities_earn_what_an_independent_integral_says() -> None:
    x = (np.arange(2000) + 0.5) / 2000 * 6 - 3
    assert expected_log_sum_exp(2, 3.0) == pytest.approx(np.logaddexp.outer(x, x).mean(), abs=1e-5)
    assert expected_log_sum_exp(1, 5.0) == pytest.approx(0, abs=1e-9)


def test_memoryless_returns_of_data_are_counted_from_the_split(mnist_folder: Path, tmp_path: Path) -> None:
    text = "abracadabra, abracadabra, simsalabim. " * 20
    (tmp_path / "text").write_text(text)
    codes = text[: len(text) * 90 // 100]
    pairs = list(zip(codes, codes[1:] + codes[0], strict=True))
    best = sum(max(pairs.count((a, b)) for b in set(codes)) for a in set(codes)) / len(pairs)
    bits = -sum(math.log(pairs.count((a, b)) / codes.count(a)) for a, b in pairs) / len(pairs)
    for mode, expected in (("class", best), ("log_probs", -bits)):
        env = gym.make(CHARACTERS, corpus=tmp_path / "text", episode_length=10, action_mode=mode)
        assert env.metadata["returns"]["memoryless"] == pytest.approx(10 * expected, abs=1e-12)
    env = gym.make(MNIST, data_dir=mnist_folder, split="test")
    images = env.unwrapped.dynamics.task.images.splits["test"]  # type: ignore[attr-defined]
    ends = [(int(pixels[-1, 0]) // 32, int(label)) for pixels, label in zip(images.pixels, images.labels, strict=True)]
    of_pixel: dict[int, list[int]] = {}
    for pixel, label in ends:
        of_pixel.setdefault(pixel, []).append(label)
    right = sum(max(map(labels.count, labels)) for labels in of_pixel.values())
    assert env.metadata["returns"]["memoryless"] == pytest.approx(right / len(ends))


@pytest.mark.parametrize("mode", ["class", "log_probs"])
def test_the_end_of_an_episode_tells_the_papers_metric(mode: str) -> None:
    env = gym.make(COPYING, length=2, action_mode=mode)
    _, info = env.reset(seed=0)
    env.action_space.seed(1)
    losses, right = [], []
    ended = False
    while not ended:
        action, asked = env.action_space.sample(), info
        _, reward, ended, _, info = env.step(action)
        if not asked["scored"]:
            assert reward == 0
        elif mode == "class":
            right.append(action == asked["target"])
            assert reward == float(right[-1])
        else:
            chances = np.exp(action.astype(np.float64) - action.max())
            losses.append(-math.log(chances[asked["target"]] / chances.sum()))
            right.append(action.argmax() == asked["target"])
            assert reward == pytest.approx(-losses[-1], rel=1e-12)
        assert ("accuracy" in info) == ended
    assert info["accuracy"] == np.mean(right)
    assert (len(right), "CE10" in info) == (10, mode == "log_probs")
    if mode == "log_probs":
        assert info["CE10"] == pytest.approx(np.mean(losses), rel=1e-12)


@pytest.mark.parametrize(
    ("env_id", "arguments", "names"),
    [
        (ADDING, {"length": 4}, {"mean_squared_error"}),
        (RECALL, {"length": 2}, {"accuracy"}),
        (RECALL, {"length": 2, "action_mode": "log_probs"}, {"cross_entropy", "accuracy"}),
        (CHARACTERS, {"episode_length": 3, "action_mode": "log_probs"}, {"bits_per_character", "accuracy"}),
        (DIGITS, {"action_mode": "log_probs"}, {"cross_entropy", "accuracy"}),
    ],
)
def test_each_task_has_the_metrics_of_its_field(env_id: str, arguments: dict[str, Any], names: set[str]) -> None:
    env = gym.make(env_id, **arguments)
    env.reset(seed=0)
    ended = False
    total = 0.0
    while not ended:
        _, reward, terminated, truncated, info = env.step(env.action_space.sample())
        total += float(reward)
        ended = terminated or truncated
    assert info.keys() == {"target", "scored"} | names
    if env_id == ADDING:
        assert info["mean_squared_error"] == -total
    if env_id == CHARACTERS:
        assert info["bits_per_character"] == pytest.approx(-total / 3 / math.log(2))


def test_an_episode_that_is_cut_off_has_no_metric() -> None:
    env = TimeLimit(gym.make(COPYING).unwrapped, 1)
    env.reset(seed=0)
    assert "accuracy" not in env.step(0)[4]
    vector = gym.make_vec(COPYING, num_envs=2, max_episode_steps=1)
    vector.reset(seed=0)
    assert "accuracy" not in vector.step(np.zeros(2, np.int64))[4]


@each(GENERATED)
def test_a_batch_can_be_presented(settings: tuple[str, dict[str, Any]]) -> None:
    env_id, arguments = settings
    task = registered(env_id).load()(**{name: value for name, value in arguments.items() if name != "action_mode"})
    (batch,) = task.evaluation_batches("test", 5, 5)
    env = gym.make_vec(env_id, num_envs=5, **arguments)
    env.action_space.seed(0)
    observations, infos = env.reset(options={"batch": batch})
    centre = 1.0 if env_id == ADDING else 0.0
    for step in range(len(batch.inputs)):
        assert np.array_equal(observations, batch.inputs[step])
        assert np.array_equal(infos["scored"], batch.scored[step])
        assert np.array_equal(infos["target"], batch.targets[step] - centre * batch.scored[step])
        observations, _, terminations, _, infos = env.step(env.action_space.sample())
    assert terminations.all()
    assert not np.array_equal(env.reset()[1]["target"], infos["target"]) or not env.reset(seed=0)[1]["scored"].any()


def test_only_a_fitting_batch_is_presented() -> None:
    env = gym.make_vec(COPYING, num_envs=4, length=5)
    (batch,) = Copying(5).evaluation_batches("test", 3, 3)
    with pytest.raises(ValueError, match=r"inputs of shape \(at most 25, 4, 10\), .* but has \(25, 3, 10\)"):
        env.reset(options={"batch": batch})
    with pytest.raises(TypeError, match="must be a Batch of the task, but is a list"):
        env.reset(options={"batch": []})
    assert env.reset(seed=0)[0].shape == (4, 10)


@each(CASES)
def test_gymnasiums_wrappers_work_on_both_forms(settings: tuple[str, dict[str, Any]]) -> None:
    env_id, arguments = settings
    if env_id == DIGITS:
        return  # as MNIST, and longer
    single = FlattenObservation(RecordEpisodeStatistics(TimeLimit(gym.make(env_id, **arguments), 30)))
    vector = gym.wrappers.vector.RecordEpisodeStatistics(
        gym.make_vec(env_id, num_envs=2, max_episode_steps=30, **arguments)
    )
    flat = gym.wrappers.vector.FlattenObservation(vector)
    single.reset(seed=0)
    flat.reset(seed=0)
    ended = False
    for _ in range(30):
        if not ended:
            *_, terminated, truncated, info = single.step(single.action_space.sample())
            ended = terminated or truncated
            assert ("episode" in info) == ended
        _, _, terminations, truncations, infos = flat.step(flat.action_space.sample())
        if (terminations | truncations).any():
            break
    assert infos["episode"]["l"].tolist() == [info["episode"]["l"]] * 2


@pytest.mark.parametrize("env_id", [COPYING, ADDING, RECALL, CHARACTERS, DIGITS])
@pytest.mark.parametrize("mode", ["rgb_array", "ansi"])
def test_pictures_and_texts_change_with_the_steps(env_id: str, mode: str) -> None:
    env = gym.make(env_id, render_mode=mode)
    env.reset(seed=0)
    views = []
    for _ in range(12):
        views.append(env.render())
        env.step(env.action_space.sample())
    if mode == "ansi":
        assert len({str(view) for view in views}) == 12
    else:
        shapes = {(view.shape, str(view.dtype)) for view in views}  # type: ignore[union-attr]
        assert len(shapes) == 1
        assert not same(views[0], views[-1])


RANDOM: list[Any] = [
    0,
    1,
    -3,
    2,
    7,
    10**7,
    2.5,
    True,
    None,
    "class",
    "log_probs",
    "value",
    "train",
    "pydoc",
    [],
    np.int64(4),
]


@pytest.mark.parametrize("env_id", [COPYING, ADDING, RECALL, CHARACTERS, DIGITS])
@pytest.mark.parametrize("vector", [False, True])
def test_random_arguments_raise_nothing_but_clear_errors(env_id: str, vector: bool) -> None:
    generator = np.random.default_rng(0)
    names = ["length", "symbols", "distractors", "action_mode", "corpus", "episode_length", "split", "permuted"]
    raised = 0
    for _ in range(100):
        chosen = generator.choice(names, size=generator.integers(0, 4), replace=False)
        arguments = {name: RANDOM[generator.integers(len(RANDOM))] for name in chosen}
        try:
            if vector:
                gym.make_vec(env_id, num_envs=int(generator.integers(1, 4)), **arguments).reset(seed=0)
            else:
                gym.make(env_id, **arguments).reset(seed=0)
        except (ValueError, TypeError) as error:
            assert len(str(error)) > 30  # noqa: PT017
            raised += 1
    assert raised > 20


@pytest.mark.parametrize(
    ("env_id", "arguments", "message"),
    [
        (COPYING, {"length": 0}, "Copying: length must be an int from 1 to 1000000, but is 0"),
        (ADDING, {"length": 1}, "Adding: length must be an int from 2"),
        (ADDING, {"action_mode": "class"}, "Adding: action_mode must be one of value, but is 'class'"),
        (RECALL, {"symbols": 1}, "DelayedRecall: symbols must be an int from 2 to 1000, but is 1"),
        (COPYING, {"action_mode": "log_prob"}, r"class, log_probs, but is 'log_prob'\. Did you mean 'log_probs'\?"),
        (CHARACTERS, {"corpus": "ptbb"}, r"corpus must be one of pydoc, ptb, text8, or the path .*Did you mean 'ptb'"),
        (CHARACTERS, {"episode_length": -1}, "Characters: episode_length must be an int from 1"),
        (CHARACTERS, {"split": "valid"}, r"split must be one of train, validation, test, but is 'valid'"),
        (
            DIGITS,
            {"dataset": "minst"},
            r"dataset must be one of digits, mnist, cifar10.* 'minst'\. Did you mean 'mnist'",
        ),
        (DIGITS, {"permuted": 1}, "Pixels: permuted must be True or False, but is 1"),
        (DIGITS, {"data_dir": 1}, "data_dir must be the path of a folder, but is 1"),
    ],
)
def test_wrong_arguments_are_named(env_id: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        gym.make(env_id, **arguments)


def test_sequences_that_would_fill_the_memory_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"at most 100,000,000 values, but 1000 of 1,000,020 steps hold more"):
        gym.make_vec(COPYING, num_envs=1000, length=1_000_000)


def test_a_missing_file_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"mnist: no file .* published at https://.*SAB_DATA_DIR"):
        gym.make(MNIST, data_dir=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"ptb: no file ptb.train.txt .* published at https://"):
        gym.make(CHARACTERS, corpus="ptb", data_dir=tmp_path)
