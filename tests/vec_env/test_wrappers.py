"""Wrappers of vector environments through the bridge: right for each copy in every autoreset mode, or refused."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces, wrappers
from gymnasium.vector import (
    AsyncVectorEnv,
    AutoresetMode,
    SyncVectorEnv,
    VectorActionWrapper,
    VectorObservationWrapper,
    VectorWrapper,
)
from gymnasium.wrappers import vector
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor, VecNormalize

import sab_agents
from sab_agents import RecurrentPPO, StreamAC, VectorToVecEnv
from sab_agents.envs.wrappers import MarkResetSteps, PreviousActionReward, VectorPreviousActionReward
from tests.envs.conftest import same
from tests.selection import first
from tests.toys import OBSERVATIONS, Toy

MODES = list(AutoresetMode)
MASKED = [AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED]
N = 3
ZEROS, ONES = np.zeros((2, 2), np.float32), np.ones((2, 2), np.float32)
Make = Callable[[Any], Any]


def halved(observation: Any) -> Any:
    return observation / 2


def tripled(reward: Any) -> Any:
    return reward * 3


def bounded(action: Any) -> Any:
    return np.clip(action, 0.75, 1.5)


CV2: Any = SimpleNamespace(resize=lambda image, size, **_: np.resize(image, (size[1], size[0], 3)), INTER_AREA=0)
"""In place of OpenCV."""
IMAGE = ("image", "discrete")
BOX = ("box", "box")
EACH: dict[str, tuple[tuple[str, str], Make, Make]] = {
    "VectorizeTransformObservation": (
        BOX,
        lambda env: vector.VectorizeTransformObservation(
            env, wrappers.TransformObservation, func=halved, observation_space=OBSERVATIONS["box"]
        ),
        lambda env: wrappers.TransformObservation(env, halved, OBSERVATIONS["box"]),
    ),
    "TransformObservation": (
        BOX,
        lambda env: vector.TransformObservation(env, halved),
        lambda env: wrappers.TransformObservation(env, halved, OBSERVATIONS["box"]),
    ),
    "FilterObservation": (
        ("dict", "box"),
        lambda env: vector.FilterObservation(env, ["far"]),
        lambda env: wrappers.FilterObservation(env, ["far"]),
    ),
    "FlattenObservation": (("dict", "box"), vector.FlattenObservation, wrappers.FlattenObservation),
    "GrayscaleObservation": (IMAGE, vector.GrayscaleObservation, wrappers.GrayscaleObservation),
    "ResizeObservation": (
        IMAGE,
        lambda env: vector.ResizeObservation(env, (2, 2)),
        lambda env: wrappers.ResizeObservation(env, (2, 2)),
    ),
    "ReshapeObservation": (
        BOX,
        lambda env: vector.ReshapeObservation(env, (6,)),
        lambda env: wrappers.ReshapeObservation(env, (6,)),
    ),
    "RescaleObservation": (
        BOX,
        lambda env: vector.RescaleObservation(env, np.float32(0), np.float32(1)),
        lambda env: wrappers.RescaleObservation(env, np.float32(0), np.float32(1)),
    ),
    "DtypeObservation": (
        ("bytes", "box"),
        lambda env: vector.DtypeObservation(env, np.int32),
        lambda env: wrappers.DtypeObservation(env, np.int32),
    ),
    "TransformAction": (
        BOX,
        lambda env: vector.TransformAction(env, bounded),
        lambda env: wrappers.TransformAction(env, bounded, env.action_space),
    ),
    "VectorizeTransformAction": (
        BOX,
        lambda env: vector.VectorizeTransformAction(
            env, wrappers.TransformAction, func=bounded, action_space=env.single_action_space
        ),
        lambda env: wrappers.TransformAction(env, bounded, env.action_space),
    ),
    "ClipAction": (BOX, vector.ClipAction, wrappers.ClipAction),
    "RescaleAction": (
        BOX,
        lambda env: vector.RescaleAction(env, ZEROS, ONES),
        lambda env: wrappers.RescaleAction(env, ZEROS, ONES),
    ),
    "TransformReward": (
        BOX,
        lambda env: vector.TransformReward(env, tripled),
        lambda env: wrappers.TransformReward(env, tripled),
    ),
    "VectorizeTransformReward": (
        BOX,
        lambda env: vector.VectorizeTransformReward(env, wrappers.TransformReward, func=tripled),
        lambda env: wrappers.TransformReward(env, tripled),
    ),
    "ClipReward": (
        BOX,
        lambda env: vector.ClipReward(env, -0.5, 0.5),
        lambda env: wrappers.ClipReward(env, -0.5, 0.5),
    ),
    "DictInfoToList": (BOX, vector.DictInfoToList, lambda env: env),
    "RecordEpisodeStatistics": (BOX, vector.RecordEpisodeStatistics, wrappers.RecordEpisodeStatistics),
    "VectorPreviousActionReward": (BOX, VectorPreviousActionReward, PreviousActionReward),
}
"""Each wrapper of vector environments: the toy's spaces, the wrapper, and that of single environments."""
STATISTICS = ["NormalizeObservation", "NormalizeReward", "RecordEpisodeStatistics"]


def toy(kind: tuple[str, str] = BOX) -> Callable[[], Any]:
    return lambda: wrappers.TimeLimit(Toy(*kind), 3)


def typed_in(message: str, **names: Any) -> Any:
    """Runs the code that an error says to type."""
    found = re.search(r": env = (.+?)(?:, where make\(\).*|\. Or pass .*|\.)$", message)
    assert found, message
    return eval(found[1], {"gymnasium": gym, "sab_agents": sab_agents, **names})


def steps(env: Any) -> None:
    env.seed(5)
    env.reset()
    for _ in range(12):
        env.step(np.stack([ONES] * N))


def check_equal(bridge: Any, dummy: Any, actions: Any, count: int = 40) -> None:
    """Both give the same to an algorithm, but for the time in the statistics of an episode."""
    assert (bridge.observation_space, bridge.action_space) == (dummy.observation_space, dummy.action_space)
    for env in (bridge, dummy):
        env.seed(5)
    assert same(bridge.reset(), dummy.reset())
    actions.seed(0)
    ends = 0
    for _ in range(count):
        action = actions.sample()
        results = [env.step(action.copy()) for env in (bridge, dummy)]
        for _, _, _, infos in results:
            for info in infos:
                for value in info.values():
                    if isinstance(value, dict) and "r" in value:
                        value["r"] = np.float32(value["r"])  # summed in other precisions
                        value["l"] = int(value["l"])
                        value.pop("t")
        assert same(*results)
        assert same(bridge.reset_infos, dummy.reset_infos)
        ends += int(results[0][2].sum())
    assert ends > 3


@pytest.mark.each
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", EACH)
def test_a_wrapper_of_all_copies_gives_what_wrappers_of_single_copies_give(
    name: str, mode: AutoresetMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, together, alone = EACH[name]
    monkeypatch.setitem(sys.modules, "cv2", CV2)
    copies = SyncVectorEnv([toy(kind)] * N, autoreset_mode=mode)
    if mode is AutoresetMode.SAME_STEP and issubclass(getattr(vector, name, object), VectorObservationWrapper):
        with pytest.raises(ValueError, match="Expected autoreset_mode to be NEXT_STEP or DISABLED"):  # Gymnasium's own
            together(copies)
        return
    if mode is not AutoresetMode.SAME_STEP and name in STATISTICS:
        return  # refused, as the tests below say
    env = together(copies)
    check_equal(VectorToVecEnv(env), DummyVecEnv([lambda: alone(toy(kind)())] * N), env.action_space)


@pytest.mark.parametrize("mode", MASKED)
def test_wrappers_around_copies_in_other_processes(mode: AutoresetMode) -> None:
    names = ["VectorizeTransformObservation", "RescaleAction", "TransformReward", "ReshapeObservation"]
    env: Any = AsyncVectorEnv([toy()] * N, autoreset_mode=mode)
    for name in names:
        env = EACH[name][1](env)

    def alone() -> Any:
        single = toy()()
        for name in names:
            single = EACH[name][2](single)
        return single

    bridge = VectorToVecEnv(env)
    check_equal(bridge, DummyVecEnv([alone] * N), env.action_space)
    bridge.close()


def test_statistics_of_copies_in_other_processes() -> None:
    env = vector.RecordEpisodeStatistics(AsyncVectorEnv([toy()] * N, autoreset_mode=AutoresetMode.SAME_STEP))
    bridge = VectorToVecEnv(env)
    check_equal(bridge, DummyVecEnv([lambda: wrappers.RecordEpisodeStatistics(toy()())] * N), env.action_space)
    bridge.close()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["TransformReward", "RecordEpisodeStatistics", "VectorPreviousActionReward"])
def test_wrappers_around_our_vector_environments(name: str, mode: AutoresetMode) -> None:
    settings: dict[str, Any] = {"length": 3, "max_episode_steps": 7}
    env = EACH[name][1](gym.make_vec("SAB/KeyToDoor-v0", num_envs=N, autoreset_mode=mode, **settings))
    dummy = DummyVecEnv([lambda: EACH[name][2](gym.make("SAB/KeyToDoor-v0", **settings))] * N)
    check_equal(VectorToVecEnv(env), dummy, env.action_space)


@pytest.mark.parametrize("mode", MODES)
def test_every_step_through_the_bridge_is_valid(mode: AutoresetMode) -> None:
    env = VectorToVecEnv(MarkResetSteps(SyncVectorEnv([toy()] * N, autoreset_mode=mode)))
    env.reset()
    for _ in range(12):
        assert all(info["valid"] is True for info in env.step(np.stack([ONES] * N))[3])
        assert not any("valid" in info for info in env.reset_infos)


class FakeClip:
    """What moviepy makes of frames."""

    written = 0

    def __init__(self, frames: Any, fps: int) -> None:  # noqa: ARG002
        assert len(frames)

    def write_videofile(self, path: str, logger: Any) -> None:  # noqa: ARG002
        FakeClip.written += 1


@pytest.mark.filterwarnings("ignore:.*autoreset mode is same-step", "ignore:.*Overwriting existing videos")
@pytest.mark.parametrize("mode", first(1, MODES))
@pytest.mark.parametrize("name", ["RecordVideo", "HumanRendering"])
def test_wrappers_that_show_or_record_frames_change_no_number(
    name: str, mode: AutoresetMode, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clips = SimpleNamespace(ImageSequenceClip=FakeClip)
    fakes = {"moviepy": SimpleNamespace(), "moviepy.video.io.ImageSequenceClip": clips}
    fakes |= {"moviepy.video": SimpleNamespace(), "moviepy.video.io": SimpleNamespace()}
    fakes["cv2"] = CV2
    for module, fake in fakes.items():
        monkeypatch.setitem(sys.modules, module, fake)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setitem(Toy.metadata, "render_fps", 1000)
    if name == "HumanRendering":
        pytest.importorskip("pygame")

    def single() -> Any:
        return wrappers.TimeLimit(Toy(*BOX, render_mode="rgb_array"), 3)

    copies = SyncVectorEnv([single] * N, autoreset_mode=mode)
    wrapper: Any = getattr(vector, name)
    env = wrapper(copies, *([str(tmp_path)] if name == "RecordVideo" else [(20, 20)]))
    written = FakeClip.written
    bridge = VectorToVecEnv(env)
    check_equal(bridge, DummyVecEnv([single] * N), env.action_space)
    bridge.close()
    assert (FakeClip.written > written) == (name == "RecordVideo")


def test_every_wrapper_of_gymnasium_has_been_looked_at() -> None:
    converting = {"ArrayConversion", "JaxToNumpy", "JaxToTorch", "NumpyToTorch"}  # of arrays of other frameworks
    assert set(vector.__all__) <= {*EACH, *STATISTICS, *converting, "RecordVideo", "HumanRendering"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("action", ["discrete", "box"])
def test_actions_stay_as_they_were_passed_although_a_wrapper_writes_into_them(action: str, mode: AutoresetMode) -> None:
    def mirrored(taken: Any) -> Any:
        taken = np.asarray(taken)
        return -taken if action == "discrete" else np.float32(2.5) - taken

    kind = ("box", action)
    copies = SyncVectorEnv([toy(kind)] * N, autoreset_mode=mode)
    inner = vector.VectorizeTransformAction(
        copies, wrappers.TransformAction, func=mirrored, action_space=copies.single_action_space
    )
    env = VectorPreviousActionReward(inner)
    plain = [lambda: wrappers.TransformAction(toy(kind)(), mirrored, copies.single_action_space)] * N
    dummy = DummyVecEnv([lambda: PreviousActionReward(plain[0]())] * N)
    check_equal(VectorToVecEnv(env), dummy, env.action_space)
    actions = env.action_space.sample()
    kept = actions.copy()
    VectorToVecEnv(inner).step(actions)
    assert same(actions, kept)


def test_statistics_under_another_key_belong_to_the_end() -> None:
    copies = SyncVectorEnv([toy()] * N, autoreset_mode=AutoresetMode.SAME_STEP)
    env = VectorToVecEnv(vector.DictInfoToList(vector.RecordEpisodeStatistics(copies, stats_key="counted")))
    env.reset()
    for _ in range(12):
        _, _, dones, infos = env.step(np.stack([ONES] * N))
        assert ["counted" in info for info in infos] == dones.tolist()
        assert not any(key in info for info in env.reset_infos for key in ("counted", "final_obs", "final_info"))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", STATISTICS)
@pytest.mark.parametrize("outer", [False, True])
def test_statistics_that_mix_or_forget_copies_are_refused_with_a_remedy_that_works(
    name: str, mode: AutoresetMode, outer: bool
) -> None:
    if mode is AutoresetMode.SAME_STEP and name != "NormalizeReward":
        return  # it counts right, or Gymnasium refuses it
    copies = SyncVectorEnv([toy()] * N, autoreset_mode=mode)
    if name == "NormalizeObservation" and mode is AutoresetMode.DISABLED:
        with pytest.raises(ValueError, match=r"to be AutoresetMode\.NEXT_STEP"):  # Gymnasium's own
            vector.NormalizeObservation(copies)
        return
    env = getattr(vector, name)(copies)
    with pytest.raises(ValueError, match=rf"{name} .* forgets .* Leave it out, .*wrap each copy") as error:
        VectorToVecEnv(vector.TransformReward(env, tripled) if outer else env)
    mended = typed_in(str(error.value), make=toy())
    dummy = DummyVecEnv([lambda: getattr(wrappers, name)(toy()())] * N)
    check_equal(VectorToVecEnv(mended), dummy, mended.action_space)


@pytest.mark.parametrize("name", STATISTICS)
@pytest.mark.parametrize(("kind", "inner"), [("sync", []), ("async", []), ("sync", [wrappers.RescaleObservation])])
def test_the_remedy_names_the_id_and_the_arguments(name: str, kind: str, inner: list[Any]) -> None:
    own = [lambda env: wrappers.TransformReward(env, tripled)] if inner else []
    made: dict[str, Any] = {"vectorization_mode": kind, "max_episode_steps": 9, **({"wrappers": own} if own else {})}
    copies = gym.make_vec("CartPole-v1", num_envs=2, **made)
    with pytest.raises(ValueError, match="forgets") as error:
        VectorToVecEnv(getattr(vector, name)(copies))
    copies.close()
    mended = typed_in(str(error.value), wrappers=own)
    assert isinstance(mended, SyncVectorEnv if kind == "sync" else AsyncVectorEnv)

    def alone() -> Any:
        single: Any = gym.make("CartPole-v1", max_episode_steps=9)
        return getattr(wrappers, name)(wrappers.TransformReward(single, tripled) if own else single)

    bridge = VectorToVecEnv(mended)
    check_equal(bridge, DummyVecEnv([alone] * 2), mended.action_space, count=30)
    bridge.close()


def test_the_remedy_keeps_the_wrapper_of_copies_that_cannot_be_reset_at_once() -> None:
    with pytest.raises(ValueError, match="NormalizeReward mixes") as error:
        VectorToVecEnv(vector.NormalizeReward(gym.make_vec("CartPole-v1", num_envs=2)))
    mended = typed_in(str(error.value))
    dummy = DummyVecEnv([lambda: wrappers.NormalizeReward(gym.make("CartPole-v1"))] * 2)
    check_equal(VectorToVecEnv(mended), dummy, mended.action_space, count=60)


def test_normalising_by_stable_baselines3_works_as_the_message_says() -> None:
    env = gym.make_vec("CartPole-v1", num_envs=2, vectorization_mode="sync")
    with pytest.raises(ValueError, match=r"pass stable_baselines3.*VecNormalize\(sab_agents.VectorToVecEnv\(env\)\)"):
        VectorToVecEnv(vector.NormalizeReward(env))
    model = RecurrentPPO("MlpSabPolicy", VecNormalize(sab_agents.VectorToVecEnv(env)), n_steps=16, n_epochs=1)
    assert model.learn(32).num_timesteps == 32


def test_rewards_of_copies_that_are_normalised_one_by_one_do_not_grow_at_resets() -> None:
    env = gym.make_vec("CartPole-v1", num_envs=4, vectorization_mode="sync", wrappers=[wrappers.NormalizeReward])
    bridge = VectorToVecEnv(env)
    bridge.seed(0)
    bridge.reset()
    rewards = [bridge.step(np.ones(4, np.int64))[1] for _ in range(200)]
    assert np.abs(rewards[50:]).max() < 1


def test_two_that_count_are_refused_since_the_inner_one_takes_the_mask() -> None:
    env = gym.make_vec("SAB/KeyToDoor-v0", num_envs=2)
    both = vector.RecordEpisodeStatistics(vector.RecordEpisodeStatistics(env), stats_key="again")
    with pytest.raises(ValueError, match="RecordEpisodeStatistics must count each copy by itself"):
        VectorToVecEnv(both)


class Carrying(VectorWrapper[Any, Any, Any, Any, Any]):
    """Adds the reward of each copy's last step, and forgets all copies at a reset."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self.last = np.zeros(self.num_envs)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        result = self.env.reset(seed=seed, options=options)
        self.last[:] = 0
        return result

    def step(self, actions: Any) -> Any:
        observations, rewards, *rest = self.env.step(actions)
        carried, self.last = rewards + self.last, rewards
        return observations, carried, *rest


class CarryingEach(Carrying):
    """Forgets only the copies that are reset."""

    honours_reset_mask = True

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        mask = (options or {}).get("reset_mask", np.ones(self.num_envs, bool))
        self.last[mask] = 0
        return self.env.reset(seed=seed, options=options)


class CarryingOne(gym.Wrapper[Any, Any, Any, Any]):
    """The same for one environment."""

    last = 0.0

    def reset(self, **arguments: Any) -> Any:
        self.last = 0.0
        return self.env.reset(**arguments)

    def step(self, action: Any) -> Any:
        observation, reward, *rest = self.env.step(action)
        carried, self.last = float(reward) + self.last, float(reward)
        return observation, carried, *rest


@pytest.mark.parametrize("mode", MASKED)
def test_wrappers_of_others_must_say_that_they_honour_the_mask(mode: AutoresetMode) -> None:
    copies = SyncVectorEnv([toy()] * N, autoreset_mode=mode)
    with pytest.raises(ValueError, match=r"Carrying must leave the copies .* honours_reset_mask = True in the class"):
        VectorToVecEnv(Carrying(copies))
    dummy = DummyVecEnv([lambda: CarryingOne(toy()())] * N)
    check_equal(VectorToVecEnv(CarryingEach(copies)), dummy, copies.action_space)


@pytest.mark.parametrize("mode", MODES)
def test_a_wrapper_that_only_changes_actions_need_not_say_anything(mode: AutoresetMode) -> None:
    class Larger(VectorActionWrapper[Any, Any, Any, Any]):
        def actions(self, actions: Any) -> Any:
            return np.minimum(actions + np.float32(0.25), np.float32(2))

    env = Larger(SyncVectorEnv([toy()] * N, autoreset_mode=mode))

    def alone() -> Any:
        single = toy()()
        return wrappers.TransformAction(single, lambda a: np.minimum(a + np.float32(0.25), 2), single.action_space)

    check_equal(VectorToVecEnv(env), DummyVecEnv([alone] * N), env.action_space)


class Stacking(VectorObservationWrapper[Any, Any, Any, Any]):
    """The last two observations of each copy."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self.single_observation_space = spaces.Box(-1, 1, (2, 2, 3), np.float32)
        self.observation_space = spaces.Box(-1, 1, (self.num_envs, 2, 2, 3), np.float32)
        self.kept = np.zeros((self.num_envs, 2, 2, 3), np.float32)

    def observations(self, observations: Any) -> Any:
        self.kept[:, 0], self.kept[:, 1] = self.kept[:, 1], observations
        return self.kept


@pytest.mark.parametrize("mode", MASKED)
def test_observations_that_carry_something_from_call_to_call_are_refused_at_the_first_end(mode: AutoresetMode) -> None:
    carried: list[Any] = [0]

    def noisy(observations: Any) -> Any:
        carried[0] += 1
        return observations * np.float32(0.5 ** carried[0])

    def copies() -> Any:
        return SyncVectorEnv([toy()] * N, autoreset_mode=mode)

    for env in (Stacking(copies()), vector.TransformObservation(copies(), noisy)):
        with pytest.raises(ValueError, match=r"must transform each observation by itself, .* Wrap each copy before"):
            steps(VectorToVecEnv(env))
    steps(VectorToVecEnv(vector.TransformObservation(copies(), halved)))


def test_last_observations_that_a_wrapper_left_as_they_were_are_refused() -> None:
    class Flat(VectorWrapper[Any, Any, Any, Any, Any]):
        def __init__(self, env: Any) -> None:
            super().__init__(env)
            self.single_observation_space = spaces.Box(-1, 1, (6,), np.float32)
            self.observation_space = spaces.Box(-1, 1, (self.num_envs, 6), np.float32)

        def reset(self, **arguments: Any) -> Any:
            observations, infos = self.env.reset(**arguments)
            return observations.reshape(-1, 6), infos

        def step(self, actions: Any) -> Any:
            observations, *rest = self.env.step(actions)
            return observations.reshape(-1, 6), *rest

    env = VectorToVecEnv(Flat(SyncVectorEnv([toy()] * N, autoreset_mode=AutoresetMode.SAME_STEP)))
    with pytest.raises(ValueError, match=r"final_obs.* must have the last observation .* has an observation of shape"):
        steps(env)


def test_arrays_of_another_framework_are_refused() -> None:
    class ToTorch(VectorWrapper[Any, Any, Any, Any, Any]):
        honours_reset_mask = True

        def reset(self, **arguments: Any) -> Any:
            observations, infos = self.env.reset(**arguments)
            return torch.from_numpy(observations), infos

    with pytest.raises(TypeError, match=r"must be NumPy arrays, but .* returns Tensor\. Leave out the wrapper"):
        VectorToVecEnv(ToTorch(SyncVectorEnv([toy()] * N))).reset()


@pytest.mark.parametrize("arguments", [{}, {"max_episode_steps": 20}, {"sutton_barto_reward": True}])
def test_the_remedy_for_a_vector_environment_of_its_own_kind_works(arguments: dict[str, Any]) -> None:
    settings: dict[str, Any] = {"n_steps": 16, "n_epochs": 1, "policy_kwargs": {"lstm_hidden_size": 8}}
    env: Any = gym.make_vec("CartPole-v1", num_envs=3, **arguments)
    with pytest.raises(ValueError, match=r"not known to reset chosen copies at once\. Make it of single") as error:
        RecurrentPPO("MlpSabPolicy", env, **settings)
    mended = typed_in(str(error.value))
    RecurrentPPO("MlpSabPolicy", mended, **settings).learn(48)
    dummy = DummyVecEnv([lambda: gym.make("CartPole-v1", **arguments)] * 3)
    check_equal(VectorToVecEnv(mended), dummy, mended.action_space)
    with pytest.raises(ValueError, match="not known to reset chosen copies at once") as error:
        StreamAC("MlpSabPolicy", gym.make_vec("CartPole-v1", num_envs=1, **arguments))
    StreamAC("MlpSabPolicy", typed_in(str(error.value))).learn(30)


@pytest.mark.parametrize("seed", [np.int64(4), np.uint8(4)])
def test_numpys_integers_are_seeds(seed: Any) -> None:
    env, dummy = VectorToVecEnv(SyncVectorEnv([toy()] * N)), DummyVecEnv([toy()] * N)
    env.seed(seed)
    dummy.seed(4)
    assert same(env.reset(), dummy.reset())


def test_what_is_not_a_vector_environment_is_refused_with_what_to_pass() -> None:
    env: Any = gym.make("CartPole-v1")
    with pytest.raises(TypeError, match=r"must be a Gymnasium vector environment, .*DummyVecEnv\(\[lambda"):
        VectorToVecEnv(env)
    with pytest.raises(TypeError, match="is a VecEnv already"):
        VectorToVecEnv(VecMonitor(DummyVecEnv([lambda: env])))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"gymnasium\.make_vec\(id"):
        VectorToVecEnv("CartPole-v1")  # type: ignore[arg-type]
