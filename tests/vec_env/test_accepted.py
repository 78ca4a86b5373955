"""What may be passed as an environment and as an observation: each mistake is named, and what to type then works."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3.common.vec_env import DummyVecEnv

import sab_agents
from sab_agents import RecurrentPPO, StreamAC
from sab_agents.envs.wrappers import PreviousActionReward, VectorPreviousActionReward
from sab_agents.vec_env.elapsed import VecElapsedTime
from sab_agents.vec_env.previous import VecPreviousActionReward

SMALL: dict[str, Any] = {"n_steps": 8, "n_epochs": 1, "policy_kwargs": {"lstm_hidden_size": 8}}
BOX = spaces.Box(-1, 1, (3,), np.float32)
GRID = spaces.MultiDiscrete(np.array([[2, 3], [3, 2]]))


class Drawn(gym.Env[Any, Any]):
    """Draws its observations from their space, and takes only actions of its space."""

    def __init__(self, observation: spaces.Space[Any] = BOX, action: spaces.Space[Any] | None = None) -> None:
        self.observation_space = observation
        self.action_space = spaces.Discrete(2) if action is None else action
        self.taken: list[Any] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed, options=options)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        self.taken.append(np.asarray(action).tolist())
        return self.observation_space.sample(), 0.0, False, bool(self.np_random.random() < 0.2), {}


def ppo(env: Any, policy: str = "MlpSabPolicy") -> RecurrentPPO:
    return RecurrentPPO(policy, env, **SMALL)


def stream(env: Any, **settings: Any) -> StreamAC:
    return StreamAC("MlpSabPolicy", env, policy_kwargs={"hidden_size": 8}, **settings)


AGENTS: dict[str, Callable[..., Any]] = {"ppo": ppo, "stream": stream}


def typed_in(message: str, **names: Any) -> Any:
    """Runs the code that an error says to type."""
    message = message.replace(", where make() returns a new single environment", "")
    found = re.search(
        r"(?:Wrap.*?:|Pass|Use|returns:) env = (.+?)(?:, with an Mlp policy\.| in place of .*|\.)$", message
    )
    assert found, message
    packages = {"gymnasium": gym, "numpy": np, "sab_agents": sab_agents, "stable_baselines3": stable_baselines3}
    return eval(found[1], {**packages, **names})


OBSERVATIONS: dict[str, spaces.Space[Any]] = {
    "tuple": spaces.Tuple((BOX, spaces.Discrete(3))),
    "nested dict": spaces.Dict({"a": spaces.Dict({"b": BOX}), "c": spaces.Discrete(2)}),
    "dict of a tuple": spaces.Dict({"a": spaces.Tuple((BOX,))}),
    "dict with a sequence": spaces.Dict({"a": BOX, "b": spaces.Sequence(BOX), "c": spaces.Discrete(2)}),
    "dict with a text": spaces.Dict({"a": BOX, "mission": spaces.Text(4)}),
    "text": spaces.Text(4),
    "grid": GRID,
    "number": spaces.Box(-1, 1, (), np.float32),
}
ACTIONS: dict[str, spaces.Space[Any]] = {
    "grid": GRID,
    "grid from 1": spaces.MultiDiscrete(np.array([[2, 3], [3, 2]]), start=np.array([[1, 1], [0, 2]])),
    "row": spaces.MultiDiscrete([2, 3]),
    "row from 1": spaces.MultiDiscrete([2, 3], start=[1, 0]),
    "bits": spaces.MultiBinary(3),
    "bits in a grid": spaces.MultiBinary((2, 2)),
}


@pytest.mark.each
@pytest.mark.parametrize("form", ["single", "vector", "same step", "vec_env"])
@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("name", OBSERVATIONS)
def test_observations_that_an_agent_cannot_use(name: str, agent: str, form: str) -> None:
    if agent == "stream" and name in {"grid", "number"}:
        AGENTS[agent](Drawn(OBSERVATIONS[name])).learn(8)
        return

    def make() -> Any:
        return Drawn(OBSERVATIONS[name])

    if form == "vec_env" and name not in {"tuple", "grid", "number"}:
        return  # stable-baselines3 has none with such observations
    made: dict[str, Any] = {
        "single": make,
        "vector": lambda: SyncVectorEnv([make]),
        "same step": lambda: SyncVectorEnv([make], autoreset_mode=AutoresetMode.SAME_STEP),
        "vec_env": lambda: dummy(make),
    }
    with pytest.raises(TypeError, match=r"observations must be arrays of numbers.*, but are of .* Wrap (it|each)") as e:
        AGENTS[agent](made[form]())
    assert "\n" not in str(e.value)
    env = typed_in(str(e.value), env=make(), make=make)
    AGENTS[agent](env).learn(16)


def dummy(make: Callable[[], Any]) -> Any:
    return DummyVecEnv([make])


@pytest.mark.each
@pytest.mark.parametrize("form", ["single", "vector"])
@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("name", ACTIONS)
def test_actions_that_an_agent_cannot_take(name: str, agent: str, form: str) -> None:
    if agent == "ppo" and name in {"row", "row from 1", "bits"}:
        return  # they can be taken
    singles: list[Drawn] = []

    def make() -> Any:
        singles.append(Drawn(BOX, ACTIONS[name]))
        return singles[-1]

    env = make() if form == "single" else SyncVectorEnv([make])
    with pytest.raises(
        TypeError, match=r"actions must be of one of .*, but are of Multi.* Wrap (it|each copy): env = "
    ) as error:
        AGENTS[agent](env)
    AGENTS[agent](typed_in(str(error.value), env=env, make=make)).learn(200 if agent == "stream" else 64)
    assert len({str(action) for single in singles for action in single.taken}) > 4  # not always the same


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("space", [spaces.Sequence(BOX), spaces.Graph(BOX, None)])
def test_observations_without_a_fixed_size_need_a_function(space: spaces.Space[Any], agent: str) -> None:
    with pytest.raises(TypeError, match=r"TransformObservation\(env, function, space\), where function makes an array"):
        AGENTS[agent](Drawn(space))


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("space", [spaces.Tuple((BOX, BOX)), spaces.Dict({"a": BOX})])
def test_actions_of_several_parts_need_a_function(space: spaces.Space[Any], agent: str) -> None:
    with pytest.raises(TypeError, match=r"TransformAction\(env, function, space\), where function makes an action"):
        AGENTS[agent](Drawn(BOX, space))


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("form", ["id", "single", "vector"])
def test_minigrid_as_it_is(form: str, agent: str) -> None:
    pytest.importorskip("minigrid")
    env_id = "MiniGrid-MemoryS7-v0"
    made: dict[str, Any] = {"id": lambda: env_id, "single": lambda: gym.make(env_id), "vector": lambda: copies(env_id)}
    env = made[form]()
    with pytest.raises(TypeError, match=r"MissionSpace.*FilterObservation\(.*, \['direction', 'image'\]\)") as error:
        AGENTS[agent](env)
    names = {"env": env} if form == "single" else {}  # otherwise, the code makes the environment
    AGENTS[agent](typed_in(str(error.value), **names)).learn(16)


def copies(env_id: str) -> Any:
    return gym.make_vec(env_id, num_envs=1, vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP})


def one_cartpole() -> Any:
    return gym.make("CartPole-v1")


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize(
    "env",
    [one_cartpole, Drawn, gym.spec("CartPole-v1"), [one_cartpole()], [one_cartpole], (one_cartpole,)],
    ids=["function", "class", "spec", "list", "functions", "tuple"],
)
def test_what_makes_an_environment_is_not_one(env: Any, agent: str, tmp_path: Path) -> None:
    make = AGENTS[agent]
    with pytest.raises(TypeError, match="env must be an environment or its id, a VecEnv, or a Gymnasium") as error:
        make(env)
    mended = typed_in(str(error.value), env=list(env) if isinstance(env, tuple) else env)
    model = make(mended).learn(8)
    model.save(tmp_path / "model")
    for call in (model.set_env, lambda env: type(model).load(tmp_path / "model", env=env)):
        with pytest.raises(TypeError, match="env must be an environment or its id, a VecEnv, or a Gymnasium"):
            call(env)


@pytest.mark.parametrize("agent", AGENTS)
def test_what_has_nothing_to_do_with_environments(agent: str) -> None:
    model = AGENTS[agent]("CartPole-v1")
    for env in (3, [], object(), None):
        with pytest.raises(TypeError, match=r"env must be an environment .* Pass gymnasium\.make\(id\), or the id"):
            model.set_env(env)
        with pytest.raises(TypeError, match=r"env must be an environment .* Pass gymnasium\.make\(id\), or the id"):
            AGENTS[agent](env)


@pytest.mark.parametrize("agent", AGENTS)
def test_an_id_is_an_environment_everywhere(agent: str, tmp_path: Path) -> None:
    model = AGENTS[agent](env="CartPole-v1").learn(8)
    model.save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model", env="CartPole-v1")
    assert loaded.learn(8, reset_num_timesteps=False).num_timesteps == 16
    loaded.set_env("CartPole-v1")
    assert loaded.learn(8, reset_num_timesteps=False).num_timesteps == 24
    for call in (AGENTS[agent], loaded.set_env, lambda env: type(model).load(tmp_path / "model", env=env)):
        with pytest.raises(ValueError, match=r"a registered id, but is 'Cartpole'\. Did you mean 'CartPole-v1'\?"):
            call("Cartpole")
        with pytest.raises(ValueError, match=r"Did you mean 'SAB/Copying-v0'\?"):
            call("Copying")
        with pytest.raises(ValueError, match="once they are imported"):
            call("no_such_module:Some-v0")
    assert loaded.learn(8, reset_num_timesteps=False).num_timesteps == 32  # refused calls have changed nothing


@pytest.mark.parametrize(
    "make",
    [
        lambda n: gym.make_vec("SAB/PassiveTMaze-v0", num_envs=n, corridor_length=4),
        lambda n: gym.make_vec("CartPole-v1", num_envs=n, vectorization_mode="sync"),
        lambda n: SyncVectorEnv([one_cartpole] * n),
    ],
    ids=["ours", "id", "sync"],
)
def test_stream_ac_learns_from_a_vector_environment_of_one(make: Callable[[int], Any], tmp_path: Path) -> None:
    model = stream(make(1)).learn(30)
    assert model.num_timesteps == 30
    model.save(tmp_path / "model")
    for call in (stream, model.set_env, lambda env: StreamAC.load(tmp_path / "model", env=env)):
        with pytest.raises(ValueError, match=r"learns from one environment, but got 3\. Use env = ") as error:
            call(make(3))
        mended = typed_in(str(error.value), make=one_cartpole)
        call(mended)
    model.set_env(mended)
    assert model.learn(30, reset_num_timesteps=False).num_timesteps == 60


def test_stream_ac_follows_no_schedule() -> None:
    for rate in (lambda progress: progress, stable_baselines3.common.utils.LinearSchedule(1, 0, 1), "lin_1"):
        with pytest.raises(
            TypeError, match=r"learning_rate must be a number, .* no schedule\. Pass .* learning_rate=1"
        ):
            stream("CartPole-v1", learning_rate=rate)
    stream("CartPole-v1", learning_rate=1.0)


@pytest.mark.parametrize("agent", AGENTS)
def test_predict_names_what_is_no_observation(agent: str) -> None:
    model = AGENTS[agent]("CartPole-v1")
    env = one_cartpole()
    start = env.reset(seed=0)
    vectorised = dummy(one_cartpole)
    vectorised.reset()
    for returned in (start, env.step(0), vectorised.step([0])):
        with pytest.raises(
            ValueError, match=r"is a tuple of \d, as reset or step .* observation, info = env\.reset\(\)"
        ):
            model.predict(returned)
    with pytest.raises(TypeError, match=r"must be an array of shape \(4,\), or n of them, but is a dict with a, b"):
        model.predict({"a": start[0], "b": 1})
    wrong: list[Any] = [None, "four", np.array(["a"] * 4), [[0, 1], [2]], np.array([None] * 4)]
    for value in wrong:
        with pytest.raises(TypeError, match="which are no numbers"):
            model.predict(value)
    right: list[Any] = [start[0], start[0].tolist(), tuple(start[0].tolist()), start[0][None]]
    for value in right:
        model.predict(value)


def test_predict_names_what_is_no_dict_of_observations() -> None:
    env = Drawn(spaces.Dict({"a": BOX, "b": spaces.Discrete(2)}))
    model: Any = ppo(env, "MultiInputSabPolicy")
    start = env.reset(seed=0)
    with pytest.raises(ValueError, match="must be a dict with a, b, but is a tuple of 2"):
        model.predict(start)
    with pytest.raises(TypeError, match="must be a dict with a, b, but is a ndarray"):
        model.predict(start[0]["a"])
    for wrong in ({"a": start[0]["a"]}, {**start[0], "c": 0}):
        with pytest.raises(ValueError, match=r"must be a dict with a, b, but has a.*Pass these keys and no others"):
            model.predict(wrong)
    with pytest.raises(TypeError, match="which are no numbers"):
        model.predict({**start[0], "b": "one"})
    model.predict(start[0])


def test_wrappers_name_the_kind_of_environment_that_they_take() -> None:
    single, vectorised = one_cartpole(), gym.make_vec("CartPole-v1", num_envs=2, vectorization_mode="sync")
    kinds = {"single": single, "vector": vectorised, "vec_env": dummy(one_cartpole)}
    wrapper: Any
    for wrapper, right in ((PreviousActionReward, "single"), (VectorPreviousActionReward, "vector")):
        for kind, env in kinds.items():
            if kind == right:
                wrapper(env)
                continue
            with pytest.raises(TypeError, match="a vector environment to VectorPreviousActionReward, and a VecEnv"):
                wrapper(env)
    for wrapper in (VecPreviousActionReward, lambda env: VecElapsedTime(env, 5)):
        wrapper(kinds["vec_env"])
        for kind in ("single", "vector"):
            with pytest.raises(
                TypeError, match=r"env must be a VecEnv of stable-baselines3, but is .* env = "
            ) as error:
                wrapper(kinds[kind])
            wrapper(typed_in(str(error.value), env=kinds[kind])).reset()
        with pytest.raises(TypeError, match="env must be a VecEnv of stable-baselines3, but is None"):
            wrapper(None)
