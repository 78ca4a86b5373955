"""Observations are kept as the environments gave them, once, and only as long as a memory refers to them."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import obs_as_tensor
from torch import Tensor

from sab_agents import RecurrentPPO
from sab_agents.checkpoint import archive
from sab_agents.ppo.compression import compressed, expanded
from sab_agents.ppo.observations import Frames
from sab_agents.streaming import SABStream
from tests.ppo.cases import OBSERVATIONS, agent, collect
from tests.ppo.test_rows import evaluated

PIXELS = 36 * 36
SLOTS = {"core_kwargs": {"capacity": 4, "rerun_steps": 2, "write": "every"}}
MIXED = spaces.Dict({"small": spaces.Box(0, 255, (5,), np.uint8), "real": spaces.Box(-1, 1, (), np.float64), **{
    name: OBSERVATIONS[name] for name in ("box", "discrete", "multi_binary", "image")
}})  # fmt: skip


def batch_of(space: spaces.Space[Any], rows: int) -> Any:
    """Observations as stable-baselines3's environments return them, as tensors."""
    samples = [space.sample() for _ in range(rows)]
    if isinstance(space, spaces.Dict):
        return obs_as_tensor({name: np.stack([each[name] for each in samples]) for name in samples[0]}, "cpu")  # type: ignore[arg-type]
    return obs_as_tensor(np.stack(samples), "cpu")  # type: ignore[arg-type]


def assert_equal(found: Any, expected: Any) -> None:
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert_equal(found[name], value)
        return
    assert found.dtype == expected.dtype
    assert torch.equal(found, expected)


def rows_of(observations: Any, rows: Any) -> Any:
    if isinstance(observations, dict):
        return {name: part[rows] for name, part in observations.items()}
    return observations[rows]


@pytest.mark.parametrize("space", [*OBSERVATIONS.values(), MIXED], ids=[*OBSERVATIONS, "mixed"])
def test_frames_return_what_was_added_bit_for_bit(space: spaces.Space[Any]) -> None:
    space.seed(0)
    frames, batches = Frames(), [batch_of(space, 150) for _ in range(4)]
    numbers = [frames.add(each) for each in batches]
    assert len({*torch.cat(numbers).tolist()}) == 600
    for number, each in zip(numbers, batches, strict=True):
        assert_equal(frames.get(number), each)
    mixed = torch.tensor([7, 7, 149, 0])
    assert_equal(frames.get(numbers[3][mixed]), rows_of(batches[3], mixed))
    assert_equal(frames.get(torch.zeros(1)), rows_of(batches[0], slice(1)))

    frames.keep(torch.cat([numbers[1][:10], numbers[3]]).float())
    again = frames.add(batches[2])
    assert {*again.tolist()}.isdisjoint(torch.cat([numbers[1][:10], numbers[3], torch.zeros(1)]).tolist())
    assert int(again.max()) < 600
    other = Frames()
    state = frames.state_dict(torch.cat([numbers[3], again]))
    other.load_state_dict(expanded(compressed(state)), torch.device("cpu"))
    for each in (frames, other):
        assert_equal(each.get(numbers[3]), batches[3])
        assert_equal(each.get(again), batches[2])
    fresh = other.add(batches[0])
    assert {*fresh.tolist()}.isdisjoint(torch.cat([numbers[3], again]).tolist())
    assert_equal(other.get(numbers[3]), batches[3])


def test_frames_give_room_back() -> None:
    frames, batch = Frames(), torch.zeros(2000, 3)
    numbers = frames.add(batch)
    whole = frames.nbytes
    frames.keep(numbers[:1])
    assert frames.nbytes < whole / 5
    with pytest.raises(
        ValueError, match=r"observations must keep their dtype and shape, .*float32.*, but are .*float64"
    ):
        frames.add(batch.double())


def test_a_memory_of_images_takes_their_own_bytes_once() -> None:
    model = agent(observation="image", policy_kwargs=SLOTS)
    sizes = []
    for _ in range(12):
        collect(model)
        sizes.append(model.policy.frames.nbytes)
    collect(model)
    policy = model.policy
    assert policy.critic_stream is not None
    for stream in (policy.actor_stream, policy.critic_stream):
        assert isinstance(stream, SABStream)
        assert stream.contexts.observation.shape == (3, 4, 2, 1)
    assert sizes[-1] == sizes[2]
    packed = policy.frames.state_dict(torch.empty(0))["bytes"]
    assert packed.dtype is torch.uint8
    assert packed.shape[1] == PIXELS
    # Of both cores together no more than the pieces of all slots, and what this rollout has seen.
    model.collector.begin()
    held = model.collector.state_dict()["frames.numbers"]
    assert 0 < len(held) <= 1 + 3 * 4 * 2


def test_actor_and_critic_refer_to_the_same_observations() -> None:
    model = agent(observation="image", policy_kwargs=SLOTS, lengths=[100] * 3)
    collect(model, rollouts=3)
    policy = model.policy
    assert policy.critic_stream is not None
    actor, critic = (
        {*stream.remembered().flatten().tolist()} for stream in (policy.actor_stream, policy.critic_stream)
    )
    assert actor == critic
    assert actor != {0.0}


@pytest.mark.parametrize("observation", ["image", "dict", "box"])
def test_a_file_without_contexts_reads_its_memory_and_credits_what_is_written_after(
    observation: str, tmp_path: Path
) -> None:
    settings = {
        "core_kwargs": {"recipe": "paper", "capacity": 16, "rerun_steps": 4, "write": "every", "summary_gain": 1.0}
    }
    model = agent(observation=observation, policy_kwargs=settings, lengths=[1000] * 3)
    model.learn(48)
    model.save(tmp_path / "with")
    model.save(tmp_path / "without", exclude=["contexts"])
    assert (tmp_path / "without.zip").stat().st_size < (tmp_path / "with.zip").stat().st_size

    def unwrapped(agent: RecurrentPPO) -> Any:
        env = agent.get_env()
        assert env is not None
        return env.unwrapped

    def resumed(name: str, where: RecurrentPPO) -> RecurrentPPO:
        return RecurrentPPO.load(tmp_path / name, copy.deepcopy(unwrapped(where)), force_reset=False)

    loaded = {name: resumed(name, model) for name in ("with", "without")}
    for one, other in zip(loaded["with"]._last_lstm_states.pi, loaded["without"]._last_lstm_states.pi, strict=True):
        assert torch.equal(one, other)

    def credited(agent: RecurrentPPO) -> tuple[Tensor, Tensor]:
        torch.manual_seed(0)
        agent._setup_learn(1, reset_num_timesteps=False)
        collect(agent)
        agent.policy.optimizer.zero_grad()
        _, found = evaluated(agent)
        found.values.sum().backward()  # type: ignore[no-untyped-call]
        found.log_prob.sum().backward()  # type: ignore[no-untyped-call]
        credit = found.backward()
        assert credit is not None
        return found.values.detach(), credit.norm

    for name in ("first", "saved again"):
        values = {}
        if name == "saved again":
            loaded["without"].save(tmp_path / "again")
            loaded["without"] = resumed("again", loaded["without"])
        stream = loaded["without"].policy.actor_stream
        assert isinstance(stream, SABStream)
        before = stream.state_dict()
        for key, each in loaded.items():
            values[key] = credited(each)
        assert torch.equal(values["with"][0], values["without"][0])
        whole, partly = values["with"][1] > 0, values["without"][1] > 0
        assert bool((partly <= whole).all())
        assert not bool((partly & before["lost"]).any())
        assert bool(whole.any())
        assert bool(partly.any()) == (name == "saved again")
    loaded["without"].learn(96, reset_num_timesteps=False)
    assert "lost" not in stream.state_dict() or int(stream.state_dict()["lost"].sum()) < int(before["lost"].sum())


def test_a_file_of_an_earlier_version_is_loaded_without_its_contexts(tmp_path: Path) -> None:
    """It held preprocessed observations for actor and critic each."""
    model = agent(observation="image", policy_kwargs=SLOTS, lengths=[1000] * 3).learn(48)
    model.save(tmp_path / "model")
    settings, state = archive.load(tmp_path / "model", "recurrent-ppo")
    for name in [name for name in state if "contexts.observation" in name]:
        del state[name]
    state = {name: value for name, value in state.items() if not name.startswith("memory.frames")}
    for name in ("actor", "critic"):
        state[f"memory.{name}.contexts.observation"] = torch.zeros(3, 4, 2, PIXELS)
    archive.save(tmp_path / "old", "recurrent-ppo", settings, state)
    loaded = RecurrentPPO.load(tmp_path / "old", model.get_env(), force_reset=False)
    for one, other in zip(loaded._last_lstm_states.pi, model._last_lstm_states.pi, strict=True):
        assert torch.equal(one, other)
    loaded.learn(48, reset_num_timesteps=False)


@pytest.mark.parametrize("settings", [{}, {"share_features_extractor": False}], ids=["shared", "apart"])
def test_a_shared_extractor_is_saved_once(settings: dict[str, Any], tmp_path: Path) -> None:
    model = agent("Lstm", "image", policy_kwargs=settings)
    model.save(tmp_path / "model")
    _, state = archive.load(tmp_path / "model", "recurrent-ppo")
    extractors = {name.split(".")[1] for name in state if "features_extractor" in name and name.startswith("policy.")}
    # Without sharing stable-baselines3 has the actor's under two names.
    assert len(extractors) == (2 if settings else 1)
    loaded = RecurrentPPO.load(tmp_path / "model").policy.state_dict()
    for name, value in model.policy.state_dict().items():
        assert torch.equal(loaded[name], value)


def test_compressed_tensors_come_back_bit_for_bit_and_damage_is_seen() -> None:
    tensors = {
        "real": torch.randn(3, 4),
        "none": torch.empty(0, 3),
        "one": torch.tensor(7),
        "half": torch.randn(5).bfloat16(),
        "flags": torch.tensor([True, False]),
        "text": [1, "two"],
    }
    state = compressed(tensors)
    found = expanded(state)
    for name, value in tensors.items():
        if isinstance(value, Tensor):
            assert_equal(found[name], value)
    assert found["text"] == [1, "two"]
    with pytest.raises(ValueError, match="real is damaged"):
        expanded({**state, "real.compressed": torch.arange(9, dtype=torch.uint8)})
    with pytest.raises(ValueError, match="real must have 20 bytes, but has others"):
        expanded({**state, "real.compressed_as": ["float32", [5]]})
    with pytest.raises(ValueError, match="real must have 80 bytes, but has others"):
        expanded({**state, "real.compressed_as": ["float32", [20]]})
    with pytest.raises(ValueError, match="a dtype of torch must be named, but the file has 'load'"):
        expanded({**state, "real.compressed_as": ["load", [5]]})


@pytest.mark.parametrize("way", [copy.deepcopy, lambda policy: pickle.loads(pickle.dumps(policy))])
def test_a_copy_of_a_policy_keeps_observations_of_its_own(way: Any) -> None:
    model = agent(observation="image", policy_kwargs=SLOTS).learn(48)
    twin = way(model.policy)
    observation: Any = model._last_obs
    expected = model.predict(observation, deterministic=True)[0]
    model.learn(48, reset_num_timesteps=False)
    assert twin.frames is not model.policy.frames
    numbers = twin.actor_stream.remembered()
    features = twin.actor_stream.encoder(numbers)
    assert torch.equal(features, twin.features_of(twin.frames.get(numbers.flatten())).actor)
    np.testing.assert_array_equal(twin.predict(observation, deterministic=True)[0], expected)


class SaveAtStep(BaseCallback):
    """Saves in the middle of a rollout, and breaks off."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def _on_step(self) -> bool:
        if self.n_calls == 21:
            self.model.save(self.path)
        return self.n_calls < 21


def test_a_file_from_inside_a_rollout_holds_the_observations_of_the_open_window(tmp_path: Path) -> None:
    model = agent(observation="image", policy_kwargs=SLOTS, lengths=[1000] * 3)
    model.learn(96, callback=SaveAtStep(tmp_path / "model"))
    loaded = RecurrentPPO.load(tmp_path / "model", copy.deepcopy(model.env.unwrapped), force_reset=False)  # type: ignore[union-attr]
    for each in (model, loaded):
        each.set_random_seed(0)
        each.learn(24, reset_num_timesteps=False)
    for one, other in zip(model.policy.parameters(), loaded.policy.parameters(), strict=True):
        assert torch.equal(one, other)
