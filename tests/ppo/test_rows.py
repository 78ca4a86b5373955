"""Acting step by step and learning on whole rows are the same network: values, log-probabilities and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from sab_agents import SAB, RecurrentPPO
from sab_agents.kernels import forced_kernel
from sab_agents.ppo.evaluation import Evaluation, Rollout
from sab_agents.ppo.losses import Batch
from tests.ppo.cases import ACTIONS, KINDS, OBSERVATIONS, agent, collect


def evaluated(model: RecurrentPPO, rows: Tensor | None = None) -> tuple[Batch, Evaluation]:
    """The rollout in the buffer, or some of its rows, as it was collected and as it is evaluated now."""
    batch = Batch.of(model.rollout_buffer, model.n_steps // model.segment_steps)
    rows = torch.arange(batch.values.shape[1]) if rows is None else rows
    mini = batch.minibatch(rows)
    return mini, model.policy.evaluate_rows(model.collector.rollout(), rows, mini.actions)


def assert_same(model: RecurrentPPO, rows: Tensor | None = None) -> None:
    batch, found = evaluated(model, rows)
    torch.testing.assert_close(
        (found.log_prob - batch.log_prob).exp(), torch.ones_like(batch.log_prob), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(found.values, batch.values, atol=1e-5, rtol=1e-5)


@pytest.mark.each
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("observation", OBSERVATIONS)
def test_ratios_before_the_first_update_are_one_for_every_observation(kind: str, observation: str) -> None:
    model = agent(kind, observation)
    collect(model, rollouts=3)
    assert_same(model)


@pytest.mark.each
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("action", ACTIONS)
def test_ratios_before_the_first_update_are_one_for_every_action(kind: str, action: str) -> None:
    model = agent(kind, action=action)
    collect(model, rollouts=3)
    assert_same(model)


@pytest.mark.parametrize(
    "policy_kwargs",
    [
        {"shared_lstm": True, "enable_critic_lstm": False},
        {"shared_lstm": True, "enable_critic_lstm": False, "critic_gradient": True},
        {"enable_critic_lstm": False},
        {"share_features_extractor": False},
        {"core_kwargs": {"write": "every", "capacity": 4, "top_k": 2, "summary_gain": 1.0}},
        {"core_kwargs": {"write": "every", "capacity": 4, "eviction": "reservoir"}},
        {"core_kwargs": {"write": "every", "capacity": 4, "bptt_steps": 5, "rerun_steps": 3}},
        {"core_kwargs": {"attention": "mlp", "write_every": 3, "bptt_steps": 3, "summary_gain": 0.4}},
    ],
    ids=str,
)
@pytest.mark.parametrize("observation", ["box", "image"])
def test_ratios_before_the_first_update_are_one_for_every_setting(
    policy_kwargs: dict[str, Any], observation: str
) -> None:
    model = agent("Sab", observation, policy_kwargs=policy_kwargs)
    collect(model, rollouts=3)
    assert_same(model)


@pytest.mark.each
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n_steps", "batch_size", "segment"), [(8, 4, 4), (12, 8, 4), (8, 24, 8), (8, 1000, 8)])
def test_rows_that_are_cut_into_segments_go_on_from_the_carried_state(
    kind: str, n_steps: int, batch_size: int, segment: int
) -> None:
    if segment < min(n_steps, batch_size):
        with pytest.warns(UserWarning, match="batch_size should divide n_steps or be a multiple of it"):
            model = agent(kind, n_steps=n_steps, batch_size=batch_size)
    else:
        model = agent(kind, n_steps=n_steps, batch_size=batch_size)
    assert model.segment_steps == segment
    collect(model, rollouts=2)
    assert_same(model)
    assert_same(model, torch.tensor([2, 0]))


def test_a_minibatch_has_as_many_steps_as_the_batch_size_says() -> None:
    sizes: list[int] = []
    model = agent(n_steps=16, batch_size=32, lengths=[5, 6, 7, 8])
    evaluate = model.policy.evaluate_rows

    def noted(rollout: Rollout, rows: Tensor, actions: Tensor) -> Evaluation:
        sizes.append(len(actions))
        return evaluate(rollout, rows, actions)

    model.policy.evaluate_rows = noted  # type: ignore[method-assign]
    model.learn(64)
    assert sizes == [32, 32] * 2


def test_after_an_update_the_ratios_are_no_longer_one() -> None:
    model = agent(learning_rate=1e-2)
    collect(model)
    model.train()
    batch, found = evaluated(model)
    assert float((found.log_prob.detach() - batch.log_prob).abs().max()) > 1e-3


class Linear(BaseFeaturesExtractor):
    """An extractor that learns."""

    def __init__(self, observation_space: Any) -> None:
        super().__init__(observation_space, 4)
        self.layer = nn.Linear(3, 4)

    def forward(self, observations: Tensor) -> Tensor:
        return torch.tanh(self.layer(observations))


@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize("gain", [1.0, 0.0])
def test_credit_of_a_rollout_is_that_of_the_whole_history(learns: bool, gain: float) -> None:
    """With all links followed and nothing lost, the last rollout's gradient is that of one long sequence."""
    core_kwargs: dict[str, Any] = {"write": "every", "eviction": "oldest", "capacity": 64, "bptt_steps": 4}
    core_kwargs |= {"credit_depth": None, "summary_gain": gain}
    extractor = {"features_extractor_class": Linear} if learns else {}
    # Rollouts of 8 steps begin at segment starts where episodes last a multiple of 4.
    model = agent(policy_kwargs={"core_kwargs": core_kwargs, **extractor}, lengths=[12, 16, 28])
    seen, starts = [], []
    for _ in range(4):
        collect(model)
        seen.append(torch.as_tensor(model.rollout_buffer.observations))
        starts.append(torch.as_tensor(model.rollout_buffer.episode_starts, dtype=torch.bool))
    policy = model.policy
    torch.manual_seed(1)
    weights = torch.randn(8, 3)
    model.policy.optimizer.zero_grad()
    _, found = evaluated(model)
    (found.values.view(8, 3) * weights).sum().backward()  # type: ignore[no-untyped-call]
    found.backward()
    gradients = {name: p.grad.clone() for name, p in policy.named_parameters() if p.grad is not None}

    critic = policy.critic_core
    assert critic is not None
    assert isinstance(critic, SAB)
    model.policy.optimizer.zero_grad()
    observations = torch.cat(seen)
    x = policy.features_of(observations.flatten(0, 1)).critic.view(32, 3, -1)
    whole = critic(x, None, torch.cat(starts))[0][-8:]
    values = policy.values_of(whole.flatten(0, 1)).view(8, 3)
    (values * weights).sum().backward()  # type: ignore[no-untyped-call]
    for name, parameter in policy.named_parameters():
        if name.startswith(("critic_core", "features_extractor", "value_net")):
            assert parameter.grad is not None
            torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-3, atol=1e-5)


def test_within_a_row_gradient_goes_as_far_as_an_lstms() -> None:
    """A memory that is never written leaves an LSTM: the same gradient, over rows of 24 steps with starts in them."""
    rows, gradients = torch.tensor([2, 0]), []
    for kind, policy_kwargs in (("Sab", {"core_kwargs": {"write_every": 1000}}), ("Lstm", {})):
        model = agent(kind, n_steps=24, batch_size=24, policy_kwargs=policy_kwargs, lengths=[9, 24, 31])
        assert model.policy.critic_core is not None
        hidden_size = model.policy.hidden_size
        named = model.policy.critic_core.named_parameters()
        weights = [weight for name, weight in named if "_ih" in name or "_hh" in name]
        torch.manual_seed(0)
        for weight in weights:
            nn.init.uniform_(weight, -0.8, 0.8)
        collect(model)
        rollout = model.collector.rollout()
        assert rollout.critic is not None
        run = rollout.critic.replay(rows, rollout.stored[:, rows])
        gradient = torch.zeros_like(run.outputs)
        torch.manual_seed(1)
        gradient[..., :hidden_size] = torch.randn(24, 2, hidden_size)
        run.backward(gradient)
        gradients.append([weight.grad for weight in weights])
    assert len(gradients[0]) == 4
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_the_networks_behind_the_core_are_shown_less_of_what_was_read() -> None:
    policy = agent().policy
    H = policy.hidden_size
    assert isinstance(policy.actor_core, SAB)
    assert policy.actor_core.rules.reading.gain == 0
    output = torch.randn(5, 2 * H)
    scaled = torch.cat([output[:, :H], 0.2 * output[:, H:]], dim=1)
    assert policy.critic_core is not None
    expected = policy.value_net(policy.mlp_extractor.forward_critic(scaled)).squeeze(1)
    torch.testing.assert_close(policy.values_of(output), expected)
    expected = policy.action_net(policy.mlp_extractor.forward_actor(scaled)).log_softmax(dim=1)
    found = policy.distribution_of(output).distribution
    assert isinstance(found, torch.distributions.Categorical)
    torch.testing.assert_close(found.logits, expected)


def test_without_credit_depth_nothing_reaches_earlier_rollouts() -> None:
    found = []
    for depth in (0, None):
        model = agent(policy_kwargs={"core_kwargs": {"write": "every", "credit_depth": depth}}, lengths=[40, 50])
        collect(model, rollouts=3)
        _, evaluation = evaluated(model)
        evaluation.values.sum().backward()  # type: ignore[no-untyped-call]
        credit = evaluation.backward()
        assert credit is not None
        found.append(int((credit.norm > 0).sum()))
    assert found[0] == 0
    assert found[1] > 0


@pytest.mark.parametrize("way", ["native", "torch"])
def test_learning_is_the_same_by_every_kernel(way: str) -> None:
    from sab_agents.kernels.native_backend.extension import native  # noqa: PLC0415

    if native is None:
        pytest.skip("the native kernel was not built: no C++ compiler")
    weights = []
    for name in (way, "torch"):
        with forced_kernel(name):
            weights.append(agent().learn(24).policy.state_dict())
    for key, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][key], rtol=1e-3, atol=1e-5)
