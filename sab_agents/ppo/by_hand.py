"""The usual policy's networks behind the cores, with the loss and its gradient, computed without a graph.

The networks are small, so that a graph takes longer to build and to walk through than everything in it to compute.

Dimensions: N = T · b steps of a minibatch, D output size of a core, k actions.
"""

from __future__ import annotations

from typing import Any, Self

import torch
from stable_baselines3.common.torch_layers import MlpExtractor
from torch import Tensor, nn

from sab_agents.kernels import Layer, are_leaves, gradients_of_layers, is_known, values_of_layers
from sab_agents.ppo.distributions import CategoricalFrom
from sab_agents.ppo.heads import layers_of
from sab_agents.ppo.losses import Batch, Losses, Weights, losses_and_gradients
from sab_agents.ppo.policies import RecurrentActorCriticPolicy

OWN = ("evaluate_rows", "distribution_of", "values_of", "_get_action_dist_from_latent")
"""Methods of a policy that say what is computed here."""


class HeadsByHand:
    """The networks behind the actor's and the critic's core, for an update in which nobody changes their modules.

    Args:
        policy: whose networks they are; `of` says of which that is possible.
        actor: layers between the actor's core and its last, of which `critic` has all.
        critic: layers behind the critic's core.
    """

    def __init__(self, policy: RecurrentActorCriticPolicy, actor: list[Layer], critic: list[Layer]) -> None:
        last, distribution = policy.action_net, policy.action_dist
        assert isinstance(last, nn.Linear)
        assert isinstance(distribution, CategoricalFrom)
        self._scale = policy.output_scale
        self._actor, self._critic = actor, critic
        self._last, self._distribution = last, distribution

    @classmethod
    def of(cls, policy: RecurrentActorCriticPolicy) -> Self | None:
        """Returns the networks of a policy, None if they are to be called as modules of a graph.

        That is where actor and critic do not have a core each, actions are not discrete, a layer is anything but
        linear with `nn.Tanh` or `nn.ReLU`, or a subclass or a hook has a say in what is computed.
        """
        extractor = policy.mlp_extractor
        if (
            any(_replaced(policy, name) for name in OWN)
            or policy.critic_core is None
            or type(policy.action_dist) is not CategoricalFrom
            or type(extractor) is not MlpExtractor
        ):
            return None
        actor, critic = layers_of([extractor.policy_net]), layers_of([extractor.value_net, policy.value_net])
        last = layers_of([policy.action_net])
        if actor is None or critic is None or last is None:
            return None
        parameters = [tensor for layer in (*actor, *critic, *last) for tensor in layer[:2]]
        plain = is_known(*parameters) and are_leaves(*parameters)
        autocast = torch.is_autocast_enabled(parameters[0].device.type)
        return cls(policy, actor, critic) if plain and not autocast else None

    @torch.no_grad()
    def learn(
        self, actor: Tensor, critic: Tensor, batch: Batch, weights: Weights
    ) -> tuple[Losses, tuple[Tensor, Tensor]]:
        """Computes the losses, and adds the gradients of their total to the `.grad` of the networks' parameters.

        Args:
            actor: (T, b, D) outputs of the actor's core.
            critic: (T, b, D) those of the critic's.
            batch: what was recorded of the steps.
            weights: of the losses.

        Returns:
            The losses, and the gradients of both outputs.
        """
        hidden = values_of_layers(self._actor, self._scaled(actor.flatten(0, 1)))
        logits = self._last(hidden[-1])
        distribution = self._distribution.proba_distribution(logits)
        valued = values_of_layers(self._critic, self._scaled(critic.flatten(0, 1)))
        values = valued[-1].squeeze(1)
        log_prob, entropy = distribution.log_prob(batch.actions), distribution.entropy()
        losses, found = losses_and_gradients(values, log_prob, entropy, batch, weights)
        gradient = distribution.gradient_of_logits(batch.actions, found.of_log_prob, found.of_entropy)
        _add(self._last.weight, lambda: gradient.t().mm(hidden[-1]))
        _add(self._last.bias, lambda: gradient.sum(0))
        of_actor = self._scaled(_through(self._actor, hidden, gradient.mm(self._last.weight)))
        of_critic = self._scaled(_through(self._critic, valued, found.of_values.unsqueeze(1)))
        return losses, (of_actor.view_as(actor), of_critic.view_as(critic))

    def _scaled(self, output: Tensor) -> Tensor:
        return output if self._scale is None else output * self._scale


def _replaced(policy: RecurrentActorCriticPolicy, name: str) -> bool:
    """Whether a subclass, or the user of this object, has replaced a method."""
    return getattr(getattr(policy, name), "__func__", None) is not getattr(RecurrentActorCriticPolicy, name)


def _through(layers: list[Layer], values: list[Tensor], gradient: Tensor) -> Tensor:
    """Adds the gradients of the layers' parameters; returns that of what goes in."""
    parameters: list[Any] = [parameter for layer in layers for parameter in layer[:2]]
    wanted = [True, *(parameter.requires_grad for parameter in parameters)]
    of_x, *found = gradients_of_layers(layers, values, gradient, wanted)
    for parameter, each in zip(parameters, found, strict=True):
        if each is not None:
            parameter.grad += each
    assert of_x is not None
    return of_x


def _add(parameter: Tensor, gradient: Any) -> None:
    if parameter.requires_grad and parameter.grad is not None:
        parameter.grad += gradient()
