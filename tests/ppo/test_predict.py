"""What `predict` leaves out to be fast makes no difference: distributions, states that come back, observations."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import CategoricalDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor

from sab_agents import RecurrentPPO
from sab_agents.ppo.distributions import CategoricalFrom

ENV: dict[str, Any] = {"id": "SAB/PassiveTMaze-v0", "corridor_length": 5}
POLICIES = ["MlpSabPolicy", "MlpLstmPolicy", "MlpGruPolicy"]


def model_of(policy: str = "MlpSabPolicy", **kwargs: Any) -> RecurrentPPO:
    settings = {"lstm_hidden_size": 8, "net_arch": [8], **kwargs}
    return RecurrentPPO(policy, gym.make(**ENV), policy_kwargs=settings, n_steps=8, seed=0, device="cpu")


def observations(steps: int = 12, rows: int = 2) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).random((steps, rows, 2), dtype=np.float32)


@pytest.mark.parametrize("start", [0, 3])
def test_a_categorical_distribution_draws_what_torchs_own_draws(start: int) -> None:
    logits = torch.randn(64, 5, generator=torch.Generator().manual_seed(1)) * 3
    ours, theirs = CategoricalFrom(5, start), CategoricalDistribution(5).proba_distribution(logits)
    found = []
    for one in (ours.proba_distribution(logits), theirs):
        torch.manual_seed(2)
        drawn = [one.sample() for _ in range(20)]
        found.append([*drawn, one.mode(), one.get_actions(deterministic=True)])
    assert all(torch.equal(one - start, other) for one, other in zip(*found, strict=True))
    actions, made = found[0][0], ours.proba_distribution(logits)
    torch.testing.assert_close(made.log_prob(actions), theirs.log_prob(actions - start))
    torch.testing.assert_close(made.entropy(), theirs.entropy())
    torch.manual_seed(2)
    again, log_prob = ours.log_prob_from_params(logits)
    assert torch.equal(again, actions)
    assert torch.equal(log_prob, made.log_prob(actions))
    torch.manual_seed(2)
    assert torch.equal(ours.actions_from_params(logits), actions)
    assert not hasattr(ours, "distribution")  # what a policy keeps holds no graph


@pytest.mark.parametrize("deterministic", [True, False])
def test_logits_that_are_no_numbers_are_refused(deterministic: bool) -> None:
    made = CategoricalFrom(3, 0).proba_distribution(torch.tensor([[0.0, float("nan"), 1.0]]))
    with pytest.raises(ValueError, match="logits of 3 actions must be numbers, but hold NaN"):
        made.get_actions(deterministic=deterministic)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_state_that_comes_back_acts_as_its_copy_does(policy: str) -> None:
    returned, copied = model_of(policy), model_of(policy)
    states: list[Any] = [None, None]
    for time, observation in enumerate(observations()):
        starts, found = np.array([time == 4, time in {4, 7}]), []
        for index, model in enumerate((returned, copied)):
            torch.manual_seed(time)
            state = states[index] if model is returned else copy.deepcopy(states[index])
            actions, states[index] = model.predict(observation, state, starts)
            found.append([actions, *states[index]])
        np.testing.assert_equal(found[0], found[1])


@pytest.mark.parametrize("policy", POLICIES)
def test_a_state_stays_as_it_was_returned(policy: str) -> None:
    model = model_of(policy)
    first, second, starts = observations()[0], observations()[1], np.zeros(2, bool)
    _, state = model.predict(first, None, starts)
    kept = copy.deepcopy(state)
    outcomes = [model.predict(second, state, starts, deterministic=True) for _ in range(2)]
    np.testing.assert_equal(state, kept)
    np.testing.assert_equal(outcomes[0], outcomes[1])
    again = model.predict(second, kept, starts, deterministic=True)
    np.testing.assert_equal(outcomes[0], again)


def test_a_state_that_its_caller_changed_is_used_as_it_is_then() -> None:
    model, starts = model_of(), np.zeros(2, bool)
    first, second = observations()[:2]
    _, state = model.predict(first, None, starts)
    assert state is not None
    state[0][:] += 1
    expected = model.predict(second, copy.deepcopy(state), starts, deterministic=True)
    _, other = model.predict(first, None, starts)
    assert other is not None
    found = model.predict(second, state, starts, deterministic=True)
    np.testing.assert_equal(found, expected)
    other[0][:] += 1
    np.testing.assert_equal(model.predict(second, other, starts, deterministic=True), expected)


@pytest.mark.parametrize(
    "given",
    [np.ones(2, np.float32), np.ones((3, 2), np.float64), np.ones((3, 2), np.int64), [[1.0, 2.0]]],
    ids=["one", "several", "integers", "list"],
)
def test_observations_become_the_tensors_of_stable_baselines3(given: Any) -> None:
    policy = model_of().policy
    found, several = policy.obs_to_tensor(given)
    expected, expected_several = ActorCriticPolicy.obs_to_tensor(policy, given)
    assert isinstance(found, Tensor)
    assert isinstance(expected, Tensor)
    assert found.dtype == expected.dtype
    assert torch.equal(found, expected)
    assert several == expected_several
    features, plain = (ActorCriticPolicy.extract_features(policy, each) for each in (found, expected))
    assert torch.equal(policy.extract_features(found), features)  # type: ignore[arg-type]
    assert torch.equal(features, plain)  # type: ignore[arg-type]


def test_observations_of_a_wrong_shape_are_refused_as_before() -> None:
    with pytest.raises(ValueError, match="Unexpected observation shape"):
        model_of().predict(np.ones(3, np.float32))


def test_a_policy_that_draws_by_itself_is_asked() -> None:
    model = model_of()
    kind: Any = type(model.policy)

    class Last(kind):  # type: ignore[misc]
        def get_distribution(self, obs: Any, lstm_states: Any = None, episode_starts: Any = None) -> Any:
            _, after = super().get_distribution(obs, lstm_states, episode_starts)
            logits = torch.tensor([[-9e9, -9e9, -9e9, 0.0]]).expand(len(obs), 4)
            return self.action_dist.proba_distribution(logits), after

    model.policy.__class__ = Last
    assert isinstance(model.action_space, spaces.Discrete)
    assert model.action_space.n == 4
    actions, state = model.predict(observations()[0], None, np.ones(2, bool))
    assert actions.tolist() == [3, 3]
    assert model.predict(observations()[0], state, np.zeros(2, bool))[0].tolist() == [3, 3]


def test_a_hook_of_the_extractor_is_called() -> None:
    model, seen = model_of(), []
    model.policy.features_extractor.register_forward_hook(lambda *_: seen.append(1))
    model.predict(observations()[0])
    assert seen == [1]
