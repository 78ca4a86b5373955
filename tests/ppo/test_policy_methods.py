"""The methods and attributes that sb3-contrib's recurrent agent and policy have: each works here, with its meaning."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import Tensor, nn

from sab_agents import SAB, RecurrentPPO
from sab_agents.ppo import export_policy
from sab_agents.ppo.kinds import MlpLstmPolicy, MlpSabPolicy
from sab_agents.ppo.policies import RecurrentActorCriticPolicy
from sab_agents.ppo.stateful import RNNStates
from tests.ppo.cases import ACTIONS, KINDS, agent, collect
from tests.ppo.test_rows import assert_same
from tests.toys import Toy

SHARED: dict[str, Any] = {"shared_lstm": True, "enable_critic_lstm": False}
CRITICS: dict[str, dict[str, Any]] = {
    "own": {},
    "shared": SHARED,
    "shared, learning": {**SHARED, "critic_gradient": True},
    "none": {"enable_critic_lstm": False},
    "own extractor": {"share_features_extractor": False},
}


def observed(steps: int, rows: int = 2) -> tuple[Tensor, Tensor]:
    """Observations (rows, steps, 3), and episode starts in the middle of the first row."""
    torch.manual_seed(3)
    starts = torch.zeros(rows, steps)
    starts[:, 0] = 1
    starts[0, steps // 2] = 1
    return torch.randn(rows, steps, 3), starts


@pytest.mark.parametrize("kind", KINDS)
def test_the_distribution_is_that_by_which_predict_acts(kind: str) -> None:
    policy = agent(kind).learn(24).policy
    observations, starts = observed(4)
    state: Any = None
    carried = None
    with torch.no_grad():
        for t in range(4):
            distribution, state = policy.get_distribution(observations[:, t], state, starts[:, t])
            action, carried = policy.predict(observations[:, t].numpy(), carried, starts[:, t].numpy(), True)
            assert distribution.mode().tolist() == action.tolist()
            assert carried is not None
            for one, other in zip(state, carried, strict=True):
                np.testing.assert_array_equal(one, other)


@pytest.mark.each
@pytest.mark.parametrize("critic", CRITICS)
@pytest.mark.parametrize("kind", KINDS)
def test_whole_sequences_are_the_steps_one_by_one(kind: str, critic: str) -> None:
    policy = agent(kind, policy_kwargs=CRITICS[critic]).learn(24).policy
    observations, starts = observed(6)
    states: Any = None
    values: list[Tensor] = []
    log_probs: list[Tensor] = []
    actions: list[Tensor] = []
    with torch.no_grad():
        for t in range(6):
            given = None if states is None else states.vf
            action, value, log_prob, states = policy(observations[:, t], states, starts[:, t])
            torch.testing.assert_close(policy.predict_values(observations[:, t], given, starts[:, t]), value)
            assert value.shape == (2, 1)
            assert log_prob.shape == action.shape == (2,)
            values, log_probs, actions = [*values, value], [*log_probs, log_prob], [*actions, action]
    first = policy.actor_stream.initial_state(2), (policy.critic_stream or policy.actor_stream).initial_state(2)
    initial = RNNStates(*(tuple(part.unsqueeze(0) for part in state.tensors()) for state in first))
    if kind == "Lstm":
        initial = RNNStates(*((torch.zeros(1, 2, 8), torch.zeros(1, 2, 8)) for _ in range(2)))
    found = policy.evaluate_actions(
        observations.flatten(0, 1), torch.stack(actions, dim=1).flatten(), initial, starts.flatten()
    )
    torch.testing.assert_close(found[0], torch.stack(values, dim=1).view(12, 1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[1], torch.stack(log_probs, dim=1).flatten(), rtol=1e-4, atol=1e-5)
    assert found[2] is not None
    assert found[2].shape == (12,)
    found[1].sum().backward()  # type: ignore[no-untyped-call]
    assert all(float(each.grad.abs().sum()) > 0 for each in weights(policy.actor_core) if each.grad is not None)
    assert any(each.grad is not None for each in weights(policy.actor_core))
    policy.zero_grad()
    policy.predict_values(observations.flatten(0, 1), initial.vf, starts.flatten()).sum().backward()  # type: ignore[no-untyped-call]
    core = policy.actor_core if policy.critic_core is None else policy.critic_core
    learns = critic not in {"shared", "none"}
    assert any(each.grad is not None and float(each.grad.abs().sum()) > 0 for each in weights(core)) == learns


def weights(core: nn.Module) -> list[nn.Parameter]:
    return [parameter for name, parameter in core.named_parameters() if "_ih" in name or "weight" in name]


def test_gradient_flows_through_what_a_sab_reads() -> None:
    policy = agent(
        policy_kwargs={"core_kwargs": {"write": "every", "eviction": "oldest", "summary_gain": 0.5, "rerun_steps": 99}}
    ).policy
    observations, starts = observed(9)
    weight = torch.randn(9, 2)
    core = policy.critic_core
    assert isinstance(core, SAB)
    features = policy.features_of(observations.flatten(0, 1)).critic.view(2, 9, -1).transpose(0, 1)
    output = core(features, None, starts.t().bool())[0]
    (policy.values_of(output.flatten(0, 1)).view(9, 2) * weight).sum().backward()  # type: ignore[no-untyped-call]
    expected = [parameter.grad.clone() for parameter in core.parameters() if parameter.grad is not None]
    policy.zero_grad()
    state = policy.critic_stream.initial_state(2) if policy.critic_stream else None
    assert state is not None
    parts = tuple(part.unsqueeze(0) for part in state.tensors())
    values = policy.predict_values(observations.flatten(0, 1), parts, starts.flatten())
    (values.view(2, 9).t() * weight).sum().backward()  # type: ignore[no-untyped-call]
    found = [parameter.grad for parameter in core.parameters() if parameter.grad is not None]
    assert len(found) == len(expected) > 5
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["Sab", "Lstm"])
def test_states_that_do_not_fit_are_refused_in_a_sentence(kind: str) -> None:
    policy = agent(kind).policy
    observations, action = torch.zeros(2, 3), torch.zeros(2)
    states = policy(observations)[3]
    for call in (policy.get_distribution, policy.predict_values, policy._predict):
        with pytest.raises(TypeError, match=r"must be those of one core, but is a RNNStates. Pass states.pi or"):
            call(observations, states)
        with pytest.raises(ValueError, match=r"Policy: state must have a row for each of the 3 observations"):
            call(torch.zeros(3, 3), states.pi)
        with pytest.raises(ValueError, match=r"the state must be \d+ arrays"):
            call(observations, states.pi[:1])
        with pytest.raises(ValueError, match=r"must have \d dimensions"):
            call(observations, tuple(part[0] for part in states.pi))
        with pytest.raises(ValueError, match=r"episode_start must have a flag for each of the 2 observations"):
            call(observations, states.pi, torch.zeros(3))
    for both in (policy, lambda obs, given: policy.evaluate_actions(obs, action, given)):
        with pytest.raises(TypeError, match=r"must be those of actor and critic, but is a tuple. Pass RNNStates"):
            both(observations, states.pi)


@pytest.mark.parametrize("action", ACTIONS)
def test_a_rollout_can_be_evaluated_by_hand(action: str) -> None:
    """What sb3-contrib's `train` does with a buffer, from the states that a callback finds."""
    model = agent("Sab", action=action, lengths=(50, 60))
    model._setup_learn(1)
    collect(model)
    before = copy.deepcopy(model._last_lstm_states)
    collect(model)
    buffer, policy = model.rollout_buffer, model.policy
    observations = torch.as_tensor(buffer.observations).transpose(0, 1).flatten(0, 1)
    actions = torch.as_tensor(buffer.actions).transpose(0, 1).flatten(0, 1)
    starts = torch.as_tensor(buffer.episode_starts).t().flatten()
    if action == "discrete":
        actions = actions.squeeze(1)
    with torch.no_grad():
        values, log_prob, _ = policy.evaluate_actions(observations, actions, before, starts)
    torch.testing.assert_close(values.view(2, 8).t(), torch.as_tensor(buffer.values), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(log_prob.view(2, 8).t(), torch.as_tensor(buffer.log_probs), rtol=1e-4, atol=1e-5)


class Norm:
    """Overrides `extract_features`, as users of stable-baselines3 do, with parts of its own."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.norm = nn.BatchNorm1d(3, affine=False)
        self.modes: list[bool] = []

    def extract_features(self, obs: Any, features_extractor: Any = None) -> Any:
        self.modes.append(self.training)  # type: ignore[attr-defined]
        features = super().extract_features(obs, features_extractor)  # type: ignore[misc]
        if isinstance(features, Tensor):
            return self.norm(2 * features)
        return tuple(self.norm(2 * each) for each in features)


class NormSab(Norm, MlpSabPolicy):  # type: ignore[misc]
    """With slots, whose credit encodes the past once more."""


class NormLstm(Norm, MlpLstmPolicy):  # type: ignore[misc]
    """Without slots."""


def overriding(policy: type[Any], **settings: Any) -> Any:
    model = agent("Sab", lengths=(20, 30))
    env = model.get_env()
    kwargs = {"lstm_hidden_size": 8, "net_arch": [8], **settings}
    return RecurrentPPO(policy, env, n_steps=8, batch_size=8, n_epochs=2, seed=0, device="cpu", policy_kwargs=kwargs)


@pytest.mark.parametrize("settings", [{}, {"share_features_extractor": False}], ids=["shared", "apart"])
@pytest.mark.parametrize("policy", [NormSab, NormLstm])
def test_an_overridden_extract_features_is_called_wherever_features_are_made(
    policy: type[Any], settings: dict[str, Any]
) -> None:
    model = overriding(policy, **settings)
    model.learn(48)
    assert set(model.policy.modes) == {False, True}
    assert model.policy.norm.num_batches_tracked > 0
    model.policy.modes.clear()
    model.predict(np.zeros((2, 3), np.float32))
    model.policy.get_distribution(torch.zeros(2, 3))
    model.policy.predict_values(torch.zeros(2, 3))
    model.policy(torch.zeros(2, 3))
    assert model.policy.modes == [False] * 4


@pytest.mark.parametrize("policy", [NormSab, NormLstm])
def test_features_of_an_override_are_those_that_are_learnt_from(policy: type[Any]) -> None:
    model = overriding(policy)
    model._setup_learn(1)
    collect(model, rollouts=3)
    assert_same(model)
    model.policy.norm.running_mean += 1
    with pytest.raises(AssertionError):
        assert_same(model)


def test_a_replaced_method_counts_as_an_override() -> None:
    policy = agent().policy
    assert not policy.overrides_features
    policy.extract_features = lambda *_: torch.zeros(1, 3)  # type: ignore[method-assign]
    assert policy.overrides_features


def test_an_override_is_not_exported(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"NormSab overrides extract_features\. Move its code"):
        export_policy(overriding(NormSab), tmp_path / "policy.pt2")


@pytest.mark.parametrize("method", ["forward", "evaluate_actions", "predict_values"])
def test_an_override_that_learning_would_not_call_is_refused(method: str) -> None:
    policy = type("Own", (MlpSabPolicy,), {method: lambda *_: None})
    with pytest.raises(TypeError, match=f"Own overrides {method}, which learning does not call"):
        RecurrentPPO(policy, "CartPole-v1")


@pytest.mark.parametrize("critic", ["own", "shared", "none", "own extractor"])
def test_with_the_weights_of_sb3_contribs_policy_all_methods_give_what_its_own_give(critic: str) -> None:
    contrib = pytest.importorskip("sb3_contrib")
    env = agent("Lstm").get_env()
    settings: dict[str, Any] = {"lstm_hidden_size": 8, "net_arch": [8], "n_lstm_layers": 2, **CRITICS[critic]}
    arguments: dict[str, Any] = {"n_steps": 8, "batch_size": 8, "device": "cpu", "seed": 0, "policy_kwargs": settings}
    theirs = contrib.RecurrentPPO("MlpLstmPolicy", env, **arguments).learn(24).policy
    ours = RecurrentPPO("MlpLstmPolicy", env, **arguments).policy
    names = {"lstm_actor.": "actor_core.lstm.", "lstm_critic.": "critic_core.lstm."}
    taken = {}
    for name, value in theirs.state_dict().items():
        prefix = next((each for each in names if name.startswith(each)), "")
        taken[names.get(prefix, "") + name.removeprefix(prefix)] = value
    ours.load_state_dict(taken)
    observations, starts = observed(6)
    flat, flags = observations.flatten(0, 1), starts.flatten()
    states = RNNStates(*(tuple(torch.randn(2, 2, 8) for _ in range(2)) for _ in range(2)))
    actions = torch.randint(3, (12,))
    calls: dict[str, Callable[[Any], Any]] = {
        "forward": lambda policy: policy(flat, states, flags, deterministic=True),
        "evaluate_actions": lambda policy: policy.evaluate_actions(flat, actions, states, flags),
        "predict_values": lambda policy: policy.predict_values(flat, states.vf, flags),
        "_predict": lambda policy: policy._predict(flat, states.pi, flags, deterministic=True),
        "get_distribution": lambda policy: policy.get_distribution(flat, states.pi, flags)[0].distribution.logits,
    }
    for name, call in calls.items():
        expected, found = (tensors_in(call(policy)) for policy in (theirs, ours))
        for one, other in zip(found, expected, strict=True):
            assert one.shape == other.shape, name
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5, msg=name)
    for policy in (theirs, ours):
        policy.zero_grad()
        calls["evaluate_actions"](policy)[1].sum().backward()
    for one, other in zip(ours.actor_core.parameters(), theirs.lstm_actor.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-5)


def tensors_in(value: Any) -> list[Tensor]:
    """All tensors of a nested tuple."""
    return [value] if isinstance(value, Tensor) else [each for part in value for each in tensors_in(part)]


def public_names(kind: type[Any], *instances: Any) -> set[str]:
    """The names that a class and its instances have beyond `nn.Module`'s, without private ones."""
    names = {*dir(kind), *(name for instance in instances for name in vars(instance))}
    modules = (name for each in instances if isinstance(each, nn.Module) for name in each._modules)
    return {name for name in {*names, *modules} - {*dir(nn.Module)} if not name.startswith("_")}


ELSEWHERE = {"policy_aliases", "rollout_buffer", "rollout_buffer_class"}
"""Attributes whose class is another: a mapping that makes policies when asked, a buffer without states."""


@pytest.mark.parametrize("kind", ["Sab", "Lstm"])
def test_every_public_name_of_sb3_contribs_is_there_with_its_arguments(kind: str) -> None:
    contrib = pytest.importorskip("sb3_contrib")
    env = agent("Lstm").get_env()
    settings: dict[str, Any] = {"n_steps": 8, "batch_size": 8, "device": "cpu"}
    theirs = contrib.RecurrentPPO("MlpLstmPolicy", env, **settings).learn(24)
    ours = RecurrentPPO(f"Mlp{kind}Policy", env, **settings).learn(24)
    for one, other in ((theirs, ours), (theirs.policy, ours.policy)):
        for name in sorted(public_names(type(one), one)):
            assert hasattr(other, name), name
            value, mine = getattr(one, name), getattr(other, name)
            if name in ELSEWHERE:
                continue
            assert callable(value) == callable(mine), name
            if inspect.ismethod(value):
                wanted, taken = (list(inspect.signature(each).parameters) for each in (value, mine))
                assert taken[: len(wanted)] == wanted or {"arguments", "changes"} & {*taken}, name
            elif not callable(value) and value is not None:
                assert isinstance(mine, type(value)) or isinstance(value, type(mine)), name


class Noting(BaseCallback):
    """Notes what callbacks find at each step."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[dict[str, Any]] = []

    def _on_step(self) -> bool:
        self.found.append(dict(self.locals))
        return True

    def _on_rollout_end(self) -> None:
        self.found.append(dict(self.locals))


LEFT_OVER = {"idx", "done_", "terminal_obs", "terminal_lstm_state", "terminal_value"}
"""Variables of a loop that happen to be left over."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("action", ["discrete", "box"])
def test_callbacks_find_what_sb3_contribs_find(action: str, kind: str) -> None:
    contrib = pytest.importorskip("sb3_contrib")
    theirs, ours = Noting(), Noting()
    model = agent(kind, action=action)
    contrib.RecurrentPPO("MlpLstmPolicy", model.get_env(), n_steps=8, batch_size=8, device="cpu").learn(24, theirs)
    agent(kind, action=action).learn(24, ours)
    assert len(theirs.found) == len(ours.found) == 9
    for one, other in zip(theirs.found, ours.found, strict=True):
        assert one.keys() - LEFT_OVER <= other.keys()
        for name in one.keys() - LEFT_OVER - {"self", "callback", "rollout_buffer"}:
            expected, found = one[name], other[name]
            if isinstance(expected, Tensor | np.ndarray):
                assert (type(found), found.shape, found.dtype) == (type(expected), expected.shape, expected.dtype), name
        assert all(part.shape[1] == 3 for part in tensors_in((other["lstm_states"].pi, other["lstm_states"].vf)))


def test_names_of_sb3_contribs_lead_to_the_core() -> None:
    policy = agent("Lstm", policy_kwargs={"n_lstm_layers": 2, "lstm_kwargs": {"bptt_steps": 4}}).policy
    assert isinstance(policy, RecurrentActorCriticPolicy)
    assert policy.lstm_actor is policy.actor_core
    assert policy.lstm_critic is policy.critic_core
    assert policy.lstm_hidden_state_shape == (2, 1, 8)
    assert policy.lstm_output_dim == 8
    assert policy.lstm_kwargs == {"bptt_steps": 4}
    zeros = np.zeros(policy.lstm_hidden_state_shape, np.float32)
    policy.predict(np.zeros((1, 3), np.float32), (zeros, zeros), np.zeros(1, bool))


class Reading(BaseCallback):
    """Reads all of the rollout in shuffled steps, as learning of stable-baselines3 does."""

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        before = {name: np.array(value) for name, value in self.arrays()}
        steps = [each for _ in range(2) for each in self.model.rollout_buffer.get(batch_size=5)]  # type: ignore[attr-defined]
        assert sum(len(each.actions) for each in steps) == 2 * 8 * 3
        for name, value in self.arrays():
            np.testing.assert_array_equal(value, before[name])

    def arrays(self) -> list[tuple[str, np.ndarray[Any, Any]]]:
        buffer = self.model.rollout_buffer  # type: ignore[attr-defined]
        return [(name, getattr(buffer, name)) for name in ("actions", "values", "advantages", "episode_starts")]


@pytest.mark.parametrize("observation", ["box", "dict"])
def test_a_callback_may_read_the_rollout_before_it_is_learnt_from(observation: str) -> None:
    found = []
    for callback in (None, Reading()):
        policy = "MultiInputSabPolicy" if observation == "dict" else "MlpSabPolicy"
        env = DummyVecEnv([lambda: Toy(observation) for _ in range(3)])
        settings: dict[str, Any] = {"policy_kwargs": {"lstm_hidden_size": 4}, "n_steps": 8, "batch_size": 16}
        model = RecurrentPPO(policy, env, n_epochs=1, seed=0, **settings)
        found.append(list(model.learn(24, callback).policy.parameters()))
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", ["hidden_states_pi", "cell_states_pi", "hidden_states_vf", "cell_states_vf"])
def test_states_of_a_rollout_are_said_to_be_in_the_locals(name: str) -> None:
    buffer = agent("Lstm").rollout_buffer
    with pytest.raises(AttributeError, match=rf"no {name}: .*self\.locals\['lstm_states'\]"):
        getattr(buffer, name)
    with pytest.raises(AttributeError, match="has no attribute 'no_such'"):
        _ = buffer.no_such  # type: ignore[attr-defined]
    assert copy.deepcopy(buffer).observations.shape == buffer.observations.shape
